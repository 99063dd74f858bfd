"""Cross-driven evaluation: an avatar speaks new audio; its mouth is compared with the phonemes.

There are no true frames. The figures are those of `mouth_figures.py`, beside the same figures of
the real footage that the avatar was made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.audio.feature_windows import frame_count
from being.console import Progress, console
from being.conventions import FPS, SAMPLE_RATE
from being.data.dataset import Dataset
from being.errors import InputRejected, UsageError
from being.eval.footage import footage_figures, footage_mouth
from being.eval.held_out_speech import HELD_OUT, held_out_sources, voice_and_text
from being.eval.mouth_figures import MouthMeasures, mouth_figures, weighted_mean
from being.eval.regions import region_boxes
from being.eval.speech_events import SpeechEvents, recognised_events, synthesised_events
from being.face.face_reader import BLOCK_FRAMES, LANDMARK_SIDE, FaceReader
from being.face.landmarks import lip_aperture
from being.inference.engine import Engine
from being.media import read_audio
from being.media.resampling import resample
from being.paths import expand_path
from being.threads import use_free_cores
from being.tts import speak
from being.tts.voices import VOICES

AUDIO_SUFFIXES = (
    ".wav",
    ".flac",
    ".mp3",
    ".m4a",
    ".ogg",
    ".opus",
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
)
# What a voice says: many closures and open vowels.
TEXT = (
    "Please bring my brother a bottle of milk. Papa and mama made a map of the market, but Bob "
    "lost it on the bus. How far away is the farm? I am happy to be home, and maybe we can begin "
    "by Monday. Father parked a large black car behind the barn. Tom bought apples, plums and a "
    "box of beans; Pam cut bread and ham."
)
CROSS_FIGURES = (
    "closed_on_closures",
    "open_on_vowels",
    "closed_in_silence",
    "closed_in_speech",
    "vowel_opening",
    "vowels_over_closures",
    "motion",
)
# Figure -> the key of the number of cases that it is the mean of.
CASE_COUNTS = {
    "closed_on_closures": "closures",
    "open_on_vowels": "vowels",
    "closed_in_silence": "silent_frames",
    "closed_in_speech": "speech_frames",
    "vowel_opening": "vowels",
    "vowels_over_closures": "closures",
    "motion": "frames",
}
SHEET_ROWS, SHEET_COLUMNS = 5, 8  # mouths shown: rows of consecutive frames
TARGET_SHARE = 0.9  # share of the real footage's figure that an avatar should reach


@dataclass(frozen=True)
class DrivenClip:
    """One audio signal, its phonemes, and the avatar's mouth while it speaks it."""

    name: str
    audio: np.ndarray  # float32 [T] at 16 kHz
    events: SpeechEvents
    aperture: np.ndarray  # float32 [F], NaN where no face was found
    figures: dict[str, Any]
    # Rows of consecutive mouths uint8 [H, W, 3] within speech, by the row's first frame
    mouths: dict[int, list[np.ndarray]] = field(default_factory=dict)


def expand_sources(names: Iterable[str]) -> list[str]:
    """The audio files and voices that --cross names, one by one.

    Commas separate names; a folder stands for the audio files in it, `held-out` for the speech of
    `held_out_speech.py`. Raises UsageError for a name
    that is neither a file, a folder with audio files, nor a voice.
    """
    sources: list[str] = []
    for name in (piece.strip() for text in names for piece in text.split(",")):
        name = expand_path(name)
        path = Path(name)
        files: list[str] = []
        if name and path.is_dir():
            inside = sorted(path.iterdir())
            files = [str(file) for file in inside if file.suffix.lower() in AUDIO_SUFFIXES]
        if files:
            sources += files
        elif name == HELD_OUT:
            sources += held_out_sources()
        elif path.is_file() or name.partition(":")[0] in VOICES:
            sources.append(name)
        elif name:
            raise UsageError(
                f"'{name}' is neither an audio file nor a voice",
                f"voices are {', '.join(VOICES)}, and {HELD_OUT} is three of them",
                "Give audio files, a folder of them, or voices, separated by commas",
            )
    return sources


def cross_driven(
    run_path: Path,
    dataset: Dataset,
    sources: Iterable[str],
    device: torch.device | str = "cpu",
    max_frames: int | None = None,
    rasterizer: str = "auto",
    deform: str = "network",
) -> tuple[dict[str, Any], list[DrivenClip]]:
    """Figures (JSON types) of the run's avatar speaking each source, and the clips behind them.

    sources: of `expand_sources`; max_frames: measure only the first so many frames of each;
    rasterizer: a backend of `being.splat`; deform: "network" or "bases". Raises InputRejected for a
    run without an avatar, an avatar without bases and a clip without a face, EnvironmentFault where
    a voice or the landmark networks cannot be loaded.
    """
    mouth = footage_mouth(dataset)
    if mouth is None:
        raise InputRejected(
            f"{dataset.path} shows no face",
            "there is no real mouth to compare the avatar with",
            "Leave --cross out",
        )
    engine = Engine.load(run_path, device, rasterizer=rasterizer, deform=deform)
    reader = FaceReader()
    try:
        clips = [_drive(engine, reader, source, mouth, max_frames) for source in sources]
    finally:
        engine.close()
    footage = footage_figures(dataset)
    assert footage is not None

    # Means over all clips, each case counted once, and their share of the real footage's.
    together = {}
    for key in CROSS_FIGURES:
        cases = CASE_COUNTS[key]
        together[key] = weighted_mean(
            (clip.figures.get(key), clip.figures.get(cases, 0)) for clip in clips
        )
    figures = {
        "footage": footage,
        "sounds": {clip.name: clip.figures for clip in clips},
        "all": together,
        "against_footage": {key: _ratio(together[key], footage.get(key)) for key in CROSS_FIGURES},
        "jumps": int(sum(clip.figures.get("jumps", 0) for clip in clips)),
        "enough": f"{TARGET_SHARE:.0%} of the real footage's figure",
    }
    return figures, clips


def _drive(
    engine: Engine, reader: FaceReader, source: str, mouth: MouthMeasures, max_frames: int | None
) -> DrivenClip:
    """Let the avatar speak one source, and measure its lips."""
    audio, events = _load_speech(source, max_frames)
    label = Path(source).name

    # Render and read the lips block by block, so that few images are held.
    apertures: list[np.ndarray] = []
    block: list[np.ndarray] = []
    starts = sheet_starts(events, frame_count(audio))
    shown_frames = {start + k for start in starts for k in range(SHEET_COLUMNS)}
    images: dict[int, np.ndarray] = {}
    points: dict[int, np.ndarray] = {}

    def read_block() -> None:
        first = sum(map(len, apertures))
        found = reader.read(np.stack(block))[0].points
        for i in shown_frames.intersection(range(first, first + len(block))):
            images[i], points[i] = block[i - first], found[i - first]
        apertures.append(lip_aperture(found))
        block.clear()

    with Progress(f"speak {label}", frame_count(audio), "frames") as progress:
        for image in engine.stream(engine.encode(audio)):
            use_free_cores()
            block.append(image)
            if len(block) == BLOCK_FRAMES:
                read_block()
            progress.advance()
        if block:
            read_block()

    aperture = np.concatenate(apertures)
    figures = {
        **mouth_figures(aperture, events, mouth),
        "seconds": len(audio) / SAMPLE_RATE,
        "misses": int(np.isnan(aperture).sum()),
        "frames": len(aperture),
    }
    shown = [
        f"{key.replace('_', ' ')} {figures[key]:.2f}"
        for key in CROSS_FIGURES
        if figures.get(key) is not None
    ]
    console.info(f"  {label}: {', '.join(shown)}")
    return DrivenClip(label, audio, events, aperture, figures, _mouths(starts, images, points))


def sheet_starts(events: SpeechEvents, frames: int) -> list[int]:
    """First frames of SHEET_ROWS rows of mouths, spread evenly over the speech in `frames`."""
    times = np.arange(max(frames - SHEET_COLUMNS + 1, 0)) / FPS
    spoken = np.zeros(len(times), bool)
    for start, end in events.speech:
        spoken |= (times >= start) & (times <= end - SHEET_COLUMNS / FPS)
    usable = np.flatnonzero(spoken) if spoken.any() else np.arange(len(times))
    if not len(usable):
        return []
    at = np.linspace(0, len(usable) - 1, SHEET_ROWS + 2)[1:-1].round().astype(int)
    return sorted(set(usable[at].tolist()))


def _mouths(
    starts: list[int], images: dict[int, np.ndarray], points: dict[int, np.ndarray]
) -> dict[int, list[np.ndarray]]:
    """The mouth boxes of the shown frames, for each row whose frames all show a face.

    points: landmarks [478, 3] in px of an image whose shorter side is LANDMARK_SIDE.
    """
    rows = {}
    for start in starts:
        row = range(start, start + SHEET_COLUMNS)
        if not all(i in images and np.isfinite(points[i]).all() for i in row):
            continue
        height, width = images[start].shape[:2]
        scale = min(height, width) / LANDMARK_SIDE
        boxes = region_boxes(np.stack([points[i] for i in row]) * scale, height, width)["mouth"]
        cut = [
            images[i][top:bottom, left:right]
            for i, (top, bottom, left, right) in zip(row, boxes, strict=True)
        ]
        if all(part.size for part in cut):
            rows[start] = cut
    return rows


def _load_speech(source: str, max_frames: int | None) -> tuple[np.ndarray, SpeechEvents]:
    """Audio float32 [T] at 16 kHz of a file, or of a voice that says TEXT, and its events."""
    limit = None if max_frames is None else max_frames * SAMPLE_RATE // FPS
    if Path(source).is_file():
        audio = read_audio(Path(source))[:limit]
        return audio, recognised_events(audio)
    voice, text = voice_and_text(source) or (source, TEXT)
    speech = speak(text, voice)
    audio = resample(speech.samples, speech.rate, SAMPLE_RATE)[:limit]
    return audio, synthesised_events(speech, audio)


def _ratio(value: float | None, real: float | None) -> float | None:
    return None if value is None or not real else value / real
