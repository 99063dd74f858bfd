"""`cross_driven()`: an avatar that speaks sounds it never heard -> whether its mouth does what the
phonemes ask for.

There is no true picture. What is measured is `speech.py`'s, beside the same figures of the real
footage the avatar was made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from being.audio.feature_windows import frame_count
from being.console import Progress, say
from being.conventions import FPS, SAMPLE_RATE
from being.data.dataset import Dataset
from being.errors import InputRejected, UsageError
from being.eval.faces import BLOCK, FaceReader
from being.eval.run_figures import real_mouth, real_speech
from being.eval.speech import Mouth, Said, heard, mouth_figures, pooled, spoken
from being.face.landmarks import lip_aperture
from being.inference.engine import Engine
from being.media import read_audio
from being.media.resampling import to_rate
from being.tts import speak
from being.tts.voices import VOICES

SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".mp4", ".mov", ".mkv", ".webm")
TEXT = (
    "Please bring my brother a bottle of milk. Papa and mama made a map of the market, but Bob lost it on the "
    "bus. How far away is the farm? I am happy to be home, and maybe we can begin by Monday. Father parked a large "
    "black car behind the barn. Tom bought apples, plums and a box of beans; Pam cut bread and ham."
)
KEYS = ("closed_on_closures", "open_on_vowels", "closed_in_silence", "vowels_over_closures")
ENOUGH = 0.9  # of the real footage's figure that an avatar is to reach
CASES = {
    "closed_on_closures": "closures",
    "open_on_vowels": "vowels",
    "closed_in_silence": "silent_frames",
    "vowels_over_closures": "closures",
}


@dataclass(frozen=True)
class Driven:
    """A sound, what is said in it, and what the avatar's mouth did."""

    name: str
    sound: np.ndarray  # float32 [T] at 16 kHz
    said: Said
    aperture: np.ndarray  # float32 [F], NaN where no face was found
    figures: dict[str, Any]


def sources(names: Iterable[str]) -> list[str]:
    """What --cross names, one by one: commas separate, a folder stands for the sounds in it.

    Raises UsageError for a name that is neither a file, a folder with sounds, nor a voice.
    """
    found: list[str] = []
    for name in (piece.strip() for text in names for piece in text.split(",")):
        path = Path(name)
        inside = (
            sorted(str(p) for p in path.iterdir() if p.suffix.lower() in SOUNDS)
            if name and path.is_dir()
            else []
        )
        if inside:
            found += inside
        elif path.is_file() or name.partition(":")[0] in VOICES:
            found.append(name)
        elif name:
            raise UsageError(
                f"'{name}' is neither a sound nor a voice",
                f"voices are {', '.join(VOICES)}",
                "Give sound files, a folder of them, or voices, separated by commas",
            )
    return found


def cross_driven(
    run_path: Path,
    dataset: Dataset,
    names: Iterable[str],
    device: Any = "cpu",
    most: int | None = None,
) -> tuple[dict[str, Any], list[Driven]]:
    """Figures of the run's avatar speaking each of `names` (of `sources`), and what they were taken
    from.

    most: frames of each sound that are looked at. Raises InputRejected for a run without an avatar
    or a clip without a face, EnvironmentFault where a voice or the landmarks cannot be had.
    """
    mouth, _ = real_mouth(dataset)
    if mouth is None:
        raise InputRejected(
            f"{dataset.path} shows no face",
            "there is no real mouth to hold the avatar against",
            "Leave --cross out",
        )
    engine, reader = Engine.load(run_path, device), FaceReader()
    try:
        driven = [_drive(engine, reader, name, mouth, most) for name in names]
    finally:
        engine.close()
    footage = real_speech(dataset)
    assert footage is not None
    every = {
        key: pooled((d.figures.get(key), d.figures.get(CASES[key], 0)) for d in driven)
        for key in KEYS
    }
    figures = {
        "footage": footage,
        "sounds": {d.name: d.figures for d in driven},
        "all": every,
        "against_footage": {key: _over(every[key], footage.get(key)) for key in KEYS},
        "jumps": int(sum(d.figures.get("jumps", 0) for d in driven)),
        "enough": f"{ENOUGH:.0%} of the real footage's figure",
    }
    return figures, driven


def _drive(engine: Engine, reader: FaceReader, name: str, mouth: Mouth, most: int | None) -> Driven:
    """Let the avatar speak one sound and read its lips."""
    sound, said = _heard(name, most)
    apertures, block = [], []
    label = Path(name).name
    with Progress(f"speak {label}", frame_count(sound), "frames") as progress:
        for picture in engine.stream(engine.encode(sound)):
            block.append(picture)
            if len(block) == BLOCK:
                apertures.append(lip_aperture(reader.read(np.stack(block))[0].points))
                block = []
            progress.advance()
        if block:
            apertures.append(lip_aperture(reader.read(np.stack(block))[0].points))
    aperture = np.concatenate(apertures)
    figures = {
        **mouth_figures(aperture, said, mouth),
        "seconds": len(sound) / SAMPLE_RATE,
        "misses": int(np.isnan(aperture).sum()),
        "frames": len(aperture),
    }
    say(
        f"  {label}: "
        + ", ".join(
            f"{key.replace('_', ' ')} {figures[key]:.2f}"
            for key in KEYS
            if figures.get(key) is not None
        )
    )
    return Driven(label, sound, said, aperture, figures)


def _heard(name: str, most: int | None) -> tuple[np.ndarray, Said]:
    """The sound float32 [T] at 16 kHz of a file or of a voice that says TEXT, and what is said in
    it.
    """
    limit = None if most is None else most * SAMPLE_RATE // FPS
    if Path(name).is_file():
        sound = read_audio(Path(name))[:limit]
        return sound, heard(sound)
    speech = speak(TEXT, name)
    sound = to_rate(speech.samples, speech.rate, SAMPLE_RATE)[:limit]
    return sound, spoken(speech, sound)


def _over(value: float | None, real: float | None) -> float | None:
    return None if value is None or not real else value / real
