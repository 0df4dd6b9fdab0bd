"""Train what data/ ships: the generators, the feature networks, the heads of the classifier.

Type `python -m tools.train.pggan --help`, `... stylegan2`, `... unetgan`, `... features`, `... heads`. Trainings go on
where they were stopped.
"""
