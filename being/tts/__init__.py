"""Text -> speech: one interface, voices behind it."""

from being.tts.voices import Speech, speak

__all__ = ["Speech", "speak"]
