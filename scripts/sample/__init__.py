"""Generator of the built-in sample clip: a synthetic person, rendered from CC0 data."""
