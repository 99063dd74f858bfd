"""Fuzzing of every parser of outside files. `python -m tests.support.fuzzing --help`."""
