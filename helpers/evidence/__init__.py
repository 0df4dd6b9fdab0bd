"""What judges, apart from what is judged: Fréchet distances, intervals, labels, votes, scores against a known truth.

It knows no generator. `helpers.labels`, `helpers.metrics`, `helpers.rating` and `helpers.evaluation` are its doors;
from outside also `ground_truth`, for whoever plants defects.
"""
