"""The settings of the evaluation: results made with others count as not there."""

INPUTS = ("generator", "backbone", "evaluation", "heads")  # with the labels, all that results depend on
LAYERS, LAYER = tuple(range(1, 9)), 6  # ranked; of the single-layer corrections
STOP, PORTION, SCALE = 6, 0.2, 0.9  # the paper's setting
STOPS, PORTIONS, OTHER_SCALES = (1, 2, 3, 4, 6), (0.05, 0.1, 0.2, 0.4), (0.0, 0.5)
PSIS, AMOUNTS = (0.5, 0.6, 0.7, 0.8, 0.9), (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
COUNTS = (2, 5, 10, 20, 40, 64)
DRAWS, POOL, REAL, RESAMPLES = 20, 2000, 2000, 100
RARE, RARE_LAYERS = 0.3, (2, 4, 6)  # a neuron that fires in at most that share of the images is rare
TOP = 20  # images of a unit that make its representative image
SHOWN = ("wall", "roof", "window", "door", "tree", "cross", "path")
LIT = 0.3  # in lit windows, red exceeds blue by more, in [-1, 1]
