"""Torch modules, and nothing else: the generators and discriminators that the suite knows, the frozen feature
networks, and what makes layers of any other module (`own_module`: by its graph, `traced`, or by hooks, `hooked`).
Nothing here reads a file. From outside the package: `pggan`, `stylegan2`, `unetgan` for their networks,
`features.load`.
"""
