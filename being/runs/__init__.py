"""Run directories and metric loggers."""
