"""Inference: from an avatar and audio to frames."""
