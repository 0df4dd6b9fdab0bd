"""Correct held-out artifacts of any embedded domain in several ways: choose, measure, lay out for blind raters."""
