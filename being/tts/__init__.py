"""Text to speech: one function, several voices behind it."""

from being.tts.voices import Speech, speak

__all__ = ["Speech", "speak"]
