"""The generator of the built-in sample clip: a person who does not exist, animated and rendered
from CC0 data.
"""
