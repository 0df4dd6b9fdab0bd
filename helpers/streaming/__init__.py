"""Statistics over any number of images in bounded memory: exact quantiles in passes, moments, rates and top images,
cut into shards over processes and machines and merged in any order. `helpers.survey` is its door; from outside only
`engines.Loaded`, for workers that load their own generator.
"""
