"""Which image ids are for what: cut once and for all, so that nothing is measured on images that it was made from."""

# Ids of generations. The labelled ones are cut once and for all: what is fitted or ranked uses TRAIN, what is chosen
# among settings TUNE, what is reported as held out TEST. POOL is never labelled: top images, thresholds, surveys.
# FIT is the part of TRAIN that the shipped heads were fitted on, before the rest was labelled: votes hang on them.
TRAIN, TUNE = (*range(900), *range(1400, 2500)), tuple(range(2500, 2800))
TEST, POOL = (*range(900, 1400), *range(2800, 3500)), range(10_000, 30_000)
FIT = TRAIN[:900]
# Ids of renders, disjoint from those the networks were trained on.
REAL_TRAIN, REAL_TEST, REAL_REFERENCE = range(0, 1000), range(1000, 2000), range(10_000, 20_000)
REFERENCE = range(4000, 4500)  # of faces: labelled normals among them are what distances are measured to
