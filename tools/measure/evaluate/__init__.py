"""Evaluate every correction on held-out images: `python -m tools.measure.evaluate`, see `__main__`."""
