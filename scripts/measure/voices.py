"""What other voices in training are worth to a reader of lips: the table of voices in
docs/encoders.md.

    python -m scripts.measure.voices DATASET DATASET [--voices 0 4] [--silence] [--sounds
    FILE|FOLDER|VOICE ...]

For each number of voices (0: the clip's own alone) and each dataset, the small net of
`lip_regressors.py` learns from the first four fifths of the clip. Printed: correlation of the
predicted lip aperture with the truth on the last fifth, on the last fifth in voices never heard
(variants of another seed), on the whole other clip; what the predicted mouth does at what is said
in `--sounds` (closed at p, b, m and in silences, aperture on open vowels over that on closures;
`being/eval/speech.py`) beside the real footage's own figures; the share of four seconds of digital
silence, alone and between speech, in which it is closed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from being.audio import voice_augmentation
from being.audio.encoders import encoder
from being.audio.feature_windows import frame_count
from being.conventions import FPS, SAMPLE_RATE
from being.data.dataset import Dataset
from being.eval.cross_driven import CASES, KEYS, TEXT, sources
from being.eval.run_figures import real_mouth, real_speech
from being.eval.speech import Mouth, Said, heard, mouth_figures, pooled, spoken
from being.media import read_audio
from being.media.resampling import to_rate
from being.tts import speak
from scripts.measure.lip_regressors import Footage, Net, correlation, frame_windows

UNHEARD = 1000  # seed of the variants that no net learnt from
SECONDS = 20  # of each driving sound
Windows = Callable[[np.ndarray], np.ndarray]


def driving(names: list[str]) -> dict[str, tuple[np.ndarray, Said]]:
    """Sounds float32 [T] by name, and what is said in them."""
    found = {}
    for name in sources(names):
        if Path(name).is_file():
            sound = read_audio(Path(name))[: SECONDS * SAMPLE_RATE]
            found[Path(name).stem] = sound, heard(sound)
        else:
            speech = speak(TEXT, name)
            sound = to_rate(speech.samples, speech.rate, SAMPLE_RATE)[: SECONDS * SAMPLE_RATE]
            found[name] = sound, spoken(speech, sound)
    return found


def measure(
    clip: Footage,
    other: Footage,
    mouth: Mouth,
    sounds: dict[str, tuple[np.ndarray, Said]],
    voices: int,
    windows: Windows,
    silence: bool = False,
) -> dict[str, Any]:
    """The figures of one net."""
    learn, test = clip.split()
    own = windows(clip.sound)
    heard_in = [own] + [
        windows(voice_augmentation.variant(clip.sound, 0, k)) for k in range(voices)
    ]
    if silence:
        shut = (clip.raw < mouth.closed)[:, None, None]
        silent = windows(np.zeros(4 * SAMPLE_RATE, np.float32))[len(own[0]) + 20]
        heard_in += [np.where(shut, silent, rows) for rows in heard_in]
    net = Net(np.stack([rows[learn] for rows in heard_in]), clip.aperture[learn])

    def aperture(sound: np.ndarray) -> np.ndarray:
        return net(windows(sound)) * clip.raw.std() + clip.raw.mean()

    unheard = [
        correlation(
            net(windows(voice_augmentation.variant(clip.sound, UNHEARD, k))[test]),
            clip.aperture[test],
        )
        for k in range(4)
    ]
    figures: dict[str, Any] = {
        "own voice": correlation(net(own[test]), clip.aperture[test]),
        "own words, voices unheard": float(np.mean(unheard)),
        "other clip": correlation(net(windows(other.sound)), other.aperture),
    }
    done = {
        name: mouth_figures(aperture(sound), said, mouth) for name, (sound, said) in sounds.items()
    }
    for key in KEYS:
        figures[key] = pooled((found.get(key), found.get(CASES[key], 0)) for found in done.values())
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    speech = clip.sound[-5 * SAMPLE_RATE :]
    between = aperture(np.concatenate([speech, silence, speech]))[5 * FPS + 10 : 9 * FPS - 10]
    figures["closed, digital silence"] = float((aperture(silence) < mouth.closed).mean())
    figures["closed, silence between speech"] = float((between < mouth.closed).mean())
    figures["by sound"] = {
        name: {key: found.get(key) for key in KEYS} for name, found in done.items()
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
        "--silence", action="store_true", help="half of the frames with a closed mouth hear silence"
    )
    parser.add_argument("--encoder", default="hama")
    parser.add_argument("--sounds", nargs="*", default=["hibari", "espeak"])
    given = parser.parse_args()
    chosen = encoder(given.encoder)

    def windows(sound: np.ndarray) -> np.ndarray:
        return frame_windows(
            chosen.encode_clip(sound), frame_count(sound), getattr(chosen, "shift", 0)
        )

    clips = [Footage.of(folder) for folder in given.datasets]
    sounds, table = driving(given.sounds), {}
    for k, folder in enumerate(given.datasets):
        dataset = Dataset.open(folder)
        mouth, real = real_mouth(dataset)[0], real_speech(dataset)
        assert mouth is not None and real is not None, f"{folder} is too short"
        print(
            f"{clips[k].name}, real: "
            + ", ".join(f"{key} {real[key]:.2f}" for key in KEYS if real[key] is not None)
        )
        for voices in given.voices:
            figures = measure(clips[k], clips[1 - k], mouth, sounds, voices, windows, given.silence)
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
        table[f"{clips[k].name}, real"] = {key: real[key] for key in KEYS}
    print(json.dumps(table))


if __name__ == "__main__":
    main()
