"""Measure again what the stored tables hold: the evaluation of corrections, and planted defects.

Type `python -m tools.measure.evaluate` and `python -m tools.measure.planted`. Both skip what is done.
"""
