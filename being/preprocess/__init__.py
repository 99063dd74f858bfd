"""Preprocessing: from a video of one speaking person to a dataset folder."""
