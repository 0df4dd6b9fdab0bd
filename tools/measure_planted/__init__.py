"""Measure what finds and repairs planted artifact units: `python -m tools.measure_planted`, see `__main__`."""
