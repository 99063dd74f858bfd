"""Formats of other systems, in both directions, and the packed dataset."""
