"""being: a short video of a person in, a talking avatar out."""

__version__ = "0.1.0"
