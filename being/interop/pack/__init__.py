"""The packed dataset: a whole dataset in one small file."""
