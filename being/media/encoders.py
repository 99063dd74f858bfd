"""Which encoders of videos and audio this machine's ffmpeg (PyAV) has."""

from __future__ import annotations

import av

from being.media.video_formats import CODECS

AUDIO_ENCODERS = {"aac": "aac", "opus": "libopus"}


def encoder_status() -> dict[str, str]:
    """For each codec "OK (encoder)", or why videos cannot be written with it."""
    encoders = {name: codec.encoder for name, codec in CODECS.items()} | AUDIO_ENCODERS
    return {name: _status(encoder) for name, encoder in encoders.items()}


def _status(encoder: str) -> str:
    try:
        av.Codec(encoder, "w")
    except (ValueError, av.error.FFmpegError):
        return f"this build of PyAV has no encoder {encoder}"
    return f"OK ({encoder})"
