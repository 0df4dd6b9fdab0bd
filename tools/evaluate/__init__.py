"""Evaluate every correction on held-out images: `python -m tools.evaluate`, see `__main__`."""
