"""Build and check what is stored: notebooks, the manifest of data/, the picture of the README.

Type `python -m tools.build.notebooks build 03`, `... verify`, `python -m tools.build.manifest churches`.
"""
