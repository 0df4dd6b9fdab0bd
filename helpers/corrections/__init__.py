"""What corrections are made of: the edits of a featuremap, the differences between artifacts and normals that a shift
takes off, the search for the smallest amount that an image needs, and noise to compare with. `helpers.units`,
`helpers.correct` and `helpers.evaluation` are its doors; from outside nothing.
"""
