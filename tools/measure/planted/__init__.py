"""Measure what finds and repairs planted artifact units: `python -m tools.measure.planted`, see `__main__`."""
