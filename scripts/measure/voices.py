"""Measure what training with voice variants gives a lip regressor.

    python -m scripts.measure.voices DATASET DATASET [--voices 0 4] [--silence] [--sounds
    FILE|FOLDER|VOICE ...]

Prints the table of voices in docs/encoders.md. For each number of voices (0: the original only) and
each dataset, the small network of `lip_regressors.py` is trained on the first four fifths of the
clip. The table has the correlation of predicted and true lip aperture on the last fifth, on the
last fifth in new voices (variants of another seed), and on the whole other clip. It also has the
mouth figures for the audio of `--sounds` (closed at p, b, m and in silences, aperture on open
vowels over that on closures; `being/eval/mouth_figures.py`) beside those of the real footage, and
the share of four seconds of digital silence, alone and between speech, in which the mouth is
closed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from being.audio import voice_augmentation
from being.audio.encoders import load_encoder
from being.audio.feature_windows import frame_count
from being.conventions import FPS, SAMPLE_RATE
from being.data.dataset import Dataset
from being.eval.cross_driven import CASE_COUNTS, CROSS_FIGURES, TEXT, expand_sources
from being.eval.mouth_figures import MouthMeasures, mouth_figures, weighted_mean
from being.eval.run_evaluation import footage_figures, footage_mouth
from being.eval.speech_events import SpeechEvents, recognised_events, synthesised_events
from being.media import read_audio
from being.media.resampling import resample
from being.tts import speak
from scripts.measure.lip_regressors import Footage, Net, correlation, frame_windows

NEW_VOICES_SEED = 1000  # seed of the variants that no network was trained on
SECONDS = 20  # of each driving sound
Windows = Callable[[np.ndarray], np.ndarray]


def driving(names: list[str]) -> dict[str, tuple[np.ndarray, SpeechEvents]]:
    """Audio float32 [T] by name, and its speech events."""
    found = {}
    for name in expand_sources(names):
        if Path(name).is_file():
            sound = read_audio(Path(name))[: SECONDS * SAMPLE_RATE]
            found[Path(name).stem] = sound, recognised_events(sound)
        else:
            speech = speak(TEXT, name)
            sound = resample(speech.samples, speech.rate, SAMPLE_RATE)[: SECONDS * SAMPLE_RATE]
            found[name] = sound, synthesised_events(speech, sound)
    return found


def measure(
    clip: Footage,
    other: Footage,
    mouth: MouthMeasures,
    sounds: dict[str, tuple[np.ndarray, SpeechEvents]],
    voices: int,
    windows: Windows,
    silence: bool = False,
) -> dict[str, Any]:
    """The figures of one network."""
    learn, test = clip.split()
    own = windows(clip.sound)
    inputs = [own] + [
        windows(voice_augmentation.augmented_voice(clip.sound, 0, k)) for k in range(voices)
    ]
    if silence:
        closed = (clip.raw < mouth.closed)[:, None, None]
        silent = windows(np.zeros(4 * SAMPLE_RATE, np.float32))[len(own[0]) + 20]
        inputs += [np.where(closed, silent, rows) for rows in inputs]
    net = Net(np.stack([rows[learn] for rows in inputs]), clip.aperture[learn])

    def aperture(sound: np.ndarray) -> np.ndarray:
        return net(windows(sound)) * clip.raw.std() + clip.raw.mean()

    new_voices = [
        correlation(
            net(windows(voice_augmentation.augmented_voice(clip.sound, NEW_VOICES_SEED, k))[test]),
            clip.aperture[test],
        )
        for k in range(4)
    ]
    figures: dict[str, Any] = {
        "own voice": correlation(net(own[test]), clip.aperture[test]),
        "own words, voices unheard": float(np.mean(new_voices)),
        "other clip": correlation(net(windows(other.sound)), other.aperture),
    }
    done = {
        name: mouth_figures(aperture(sound), events, mouth)
        for name, (sound, events) in sounds.items()
    }
    for key in CROSS_FIGURES:
        figures[key] = weighted_mean(
            (found.get(key), found.get(CASE_COUNTS[key], 0)) for found in done.values()
        )
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    speech = clip.sound[-5 * SAMPLE_RATE :]
    between = aperture(np.concatenate([speech, silence, speech]))[5 * FPS + 10 : 9 * FPS - 10]
    figures["closed, digital silence"] = float((aperture(silence) < mouth.closed).mean())
    figures["closed, silence between speech"] = float((between < mouth.closed).mean())
    figures["by sound"] = {
        name: {key: found.get(key) for key in CROSS_FIGURES} for name, found in done.items()
    }
    return figures


def main() -> None:
    """Print the table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs=2, type=Path)
    parser.add_argument("--voices", type=int, nargs="*", default=[0, 4])
    parser.add_argument(
        "--silence", action="store_true", help="half of the frames with a closed mouth get silence"
    )
    parser.add_argument("--encoder", default="hama")
    parser.add_argument("--sounds", nargs="*", default=["hibari", "espeak"])
    options = parser.parse_args()
    chosen = load_encoder(options.encoder)

    def windows(sound: np.ndarray) -> np.ndarray:
        return frame_windows(chosen.encode_clip(sound), frame_count(sound), chosen.shift)

    clips = [Footage.of(folder) for folder in options.datasets]
    sounds, table = driving(options.sounds), {}
    for k, folder in enumerate(options.datasets):
        dataset = Dataset.open(folder)
        mouth, real = footage_mouth(dataset), footage_figures(dataset)
        assert mouth is not None and real is not None, f"{folder} is too short"
        print(
            f"{clips[k].name}, real: "
            + ", ".join(f"{key} {real[key]:.2f}" for key in CROSS_FIGURES if real[key] is not None)
        )
        for voices in options.voices:
            figures = measure(
                clips[k], clips[1 - k], mouth, sounds, voices, windows, options.silence
            )
            table[f"{clips[k].name}, {voices} voices"] = figures
            print(
                f"{clips[k].name}, {voices} voices: "
                + ", ".join(
                    f"{name} {value:.3f}"
                    for name, value in figures.items()
                    if isinstance(value, float)
                ),
                flush=True,
            )
        table[f"{clips[k].name}, real"] = {key: real[key] for key in CROSS_FIGURES}
    print(json.dumps(table))


if __name__ == "__main__":
    main()
