"""Segmentation of a clip: head, neck, torso, background, teeth, and the plates behind the head."""
