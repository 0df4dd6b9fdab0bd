"""Torch modules, and nothing else: the generators and discriminators that the suite knows, the frozen feature
networks, and the knife that cuts any other module into layers. Nothing here reads a file or knows of layers by
number except `traced`. From outside the package: `pggan`, `stylegan2`, `unetgan` for their networks,
`features.load`.
"""
