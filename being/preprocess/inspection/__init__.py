"""Inspection of a clip before preprocessing: whether it can be used, and what is corrected."""
