"""The one door to ffmpeg (through PyAV): probe, read pictures by timestamps, read and write sound,
write video.
"""

from __future__ import annotations

from being.media.reading import (
    MediaInfo,
    Sound,
    grey_picture,
    picture,
    probe,
    read_audio,
    read_frames,
    read_sound,
    read_timed,
)
from being.media.writing import AI_NOTICE, VideoWriter, output_path, write_wav

__all__ = [
    "AI_NOTICE",
    "MediaInfo",
    "Sound",
    "VideoWriter",
    "grey_picture",
    "output_path",
    "picture",
    "probe",
    "read_audio",
    "read_frames",
    "read_sound",
    "read_timed",
    "write_wav",
]
