"""From a file that somebody published to tensors under our keys, safely: a pickle reader that runs nothing, the
layouts that generators are published in, the registry of published files with licences and checksums, one careful
download, and the fingerprints by which files and computations are told apart. From outside: `published.REGISTRY`;
everything else is reached through `helpers.checkpoints` and `helpers.store`.
"""
