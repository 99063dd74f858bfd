"""A dataset on disk and as tensors: manifest, splits, cameras, expression channels, consent."""
