"""Let somebody label and vote by looking: numbered sheets of generations, of masks and of corrections.

Type `python -m tools.label.sheets --help`, `... mask_sheets` or `... rating_sheets`.
"""
