"""Media files through ffmpeg (PyAV): probe, read images and audio, write audio and video."""

from __future__ import annotations

from being.media.audio_reading import (
    AudioTrack,
    DamagedAudio,
    decode_audio,
    read_audio,
    read_audio_track,
    read_original_audio,
)
from being.media.encoders import encoder_status
from being.media.video_formats import VideoSettings
from being.media.video_reading import (
    MediaInfo,
    grey_image,
    probe,
    read_frames,
    read_timed_frames,
    rgb_image,
)
from being.media.writing import (
    AI_NOTICE,
    FileMarks,
    VideoWriter,
    check_output_video,
    checked_output_path,
    write_wav,
)

__all__ = [
    "AI_NOTICE",
    "AudioTrack",
    "DamagedAudio",
    "FileMarks",
    "MediaInfo",
    "VideoSettings",
    "VideoWriter",
    "check_output_video",
    "checked_output_path",
    "decode_audio",
    "encoder_status",
    "grey_image",
    "probe",
    "read_audio",
    "read_audio_track",
    "read_frames",
    "read_original_audio",
    "read_timed_frames",
    "rgb_image",
    "write_wav",
]
