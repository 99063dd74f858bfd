"""The captions of a video: refused early where there can be none, and written beside the video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from being.errors import BeingError, InputRejected, UsageError
from being.files import Part, write_text
from being.inference.caption_drawing import check_drawing
from being.inference.caption_words import CaptionWord, caption_words
from being.inference.captions import caption_cues, vtt_text
from being.media.writing import AI_NOTICE
from being.paths import check_not_input
from being.tts.script import Script
from being.tts.speech import Speech

CAPTION_KINDS = ("none", "vtt", "burn")
UNTIMED_VOICES = ("espeak", "speech")
HEAD_BYTES = 200  # of a file, in which our notice stands


def check_captions(kind: str, voice: str) -> None:
    """Raise UsageError for an unknown kind of captions, and for captions of a voice that gives no
    word times; EnvironmentFault where nothing can draw them.
    """
    if kind not in CAPTION_KINDS:
        raise UsageError(
            f"no captions are called '{kind}'", fix=f"Use one of {', '.join(CAPTION_KINDS)}"
        )
    if kind != "none" and voice.partition(":")[0] in UNTIMED_VOICES:
        raise UsageError(
            f"the voice {voice} gives no captions",
            "a caption without word times would not be in step",
            "Use hibari, kokoro:NAME or edge:NAME, or --captions none",
        )
    if kind == "burn":
        check_drawing()


def timed_words(script: Script, speech: Speech, voice: str) -> list[CaptionWord]:
    """The words of a script with their times. Raises InputRejected where the voice gave none."""
    if not speech.words:
        raise InputRejected(
            f"the voice {voice} gave no word times",
            "a caption without word times would not be in step",
            "Choose another voice, or --captions none",
        )
    return caption_words(script.parts, speech.words)


def check_caption_file(video: Path, inputs: Sequence[Path | None], force: bool) -> None:
    """Raise where the captions of `video` would replace an input or a file of somebody else."""
    path = caption_path(video)
    check_not_input(path, inputs)
    if path.exists() and not force and not is_ours(path):
        raise BeingError(
            f"{path} exists and was not made by being",
            "it would be lost",
            "Choose another path with --out, or replace it with --force",
        )


def caption_path(video: Path) -> Path:
    """The file of a video's captions: players look for it under the video's name."""
    return video.with_suffix(".vtt")


def is_ours(path: Path) -> bool:
    """Whether `write_captions` made the file."""
    try:
        with open(path, "rb") as file:
            return AI_NOTICE.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False


def write_captions(
    video: Path, words: Sequence[CaptionWord], seconds: float, free_name: bool
) -> Path:
    """Write the captions of a finished video of `seconds` s; returns their path.

    free_name: a file of somebody else keeps the name, and the captions get the first free one.
    """
    path = caption_path(video)
    text = vtt_text(caption_cues(words, seconds), AI_NOTICE)
    try:
        if free_name and path.exists() and not is_ours(path):
            with Part(path, free_name=True) as part:
                part.path.write_text(text, encoding="utf-8", newline="\n")
                return part.publish()
        write_text(path, text)
    except OSError as error:
        raise BeingError(
            f"cannot write {path}", str(error), "Choose another path with --out"
        ) from error
    return path
