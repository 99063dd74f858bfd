"""Tracking of the head: one pose for every frame of a clip."""
