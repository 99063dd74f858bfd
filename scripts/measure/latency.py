"""Measure what a bounded look-ahead of the speech encoder costs.

    python -m scripts.measure.latency DATASET [DATASET ...] [--try AHEAD,SHIFT,PAST ...]

Prints the table of streaming in docs/encoders.md. For the encoder of whole clips and for each
latency it has the correlation of predicted and true lip aperture on the clip's last fifth: by ridge
regression and by a small network (`lip_regressors.py`), both trained on the rest of the clip with
the same latency, and by the network trained on features of the whole clip. It also has the distance
of the features from those of the whole clip. `--try` measures other look-aheads instead, in steps
of 20 ms. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from being.audio import bounded_encoder, encoder_names
from being.audio.encoders import load_encoder
from scripts.measure.lip_regressors import Footage, Net, Ridge, correlation, frame_windows

SEEDS = range(3)


def main() -> None:
    """Print the table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--encoder", default="hama")
    parser.add_argument("--try", dest="others", nargs="*", default=[], metavar="AHEAD,SHIFT,PAST")
    options = parser.parse_args()
    clips = [Footage.of(folder) for folder in options.datasets]
    plain = load_encoder(options.encoder)
    whole = [plain.encode_clip(clip.sound) for clip in clips]
    forms = (
        []
        if options.others
        else [(known, bounded_encoder.PAST_STEPS) for known in encoder_names.LATENCIES.values()]
    )
    for text in options.others:
        ahead, shift, past = map(int, text.split(","))
        forms.append((encoder_names.Latency(f"{ahead},{shift},{past}", ahead, shift), past))
    print(
        "| form | look-ahead, s | "
        + " | ".join(
            f"{clip.name}: ridge | net | net trained on whole | distance" for clip in clips
        )
        + " |"
    )
    print("|---" * (2 + 4 * len(clips)) + "|")
    table = {}
    if not options.others:
        table["whole"] = [
            figure
            for clip, steps in zip(clips, whole, strict=True)
            for figure in measure(clip, steps, steps)
        ]
        show("whole", float("inf"), table["whole"])
    for latency, past in forms:
        bounded_encoder.PAST_STEPS = past
        bounded = bounded_encoder.BoundedEncoder(plain, latency)
        table[latency.name] = [
            figure
            for clip, steps in zip(clips, whole, strict=True)
            for figure in measure(clip, bounded.encode_clip(clip.sound), steps, latency.shift)
        ]
        show(latency.name, latency.seconds, table[latency.name])
    print(json.dumps(table))


def show(name: str, seconds: float, figures: list[float]) -> None:
    """Print one row."""
    print(
        f"| {name} | {seconds:.2f} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |",
        flush=True,
    )


def measure(clip: Footage, steps: np.ndarray, whole: np.ndarray, shift: int = 0) -> list[float]:
    """Figures by ridge, network and network trained on whole clips; relative mean distance."""
    learn, test = clip.split()
    windows, others = (frame_windows(rows, len(clip.aperture), shift) for rows in (steps, whole))
    target = clip.aperture
    nets = [Net(rows[learn], target[learn], SEEDS) for rows in (windows, others)]
    figures = [
        correlation(read(windows[test]), target[test])
        for read in (Ridge(windows[learn], target[learn]), *nets)
    ]
    apart = np.linalg.norm(steps - whole, axis=1) / np.linalg.norm(whole, axis=1)
    return [round(figure, 3) for figure in (*figures, float(apart.mean()))]


if __name__ == "__main__":
    main()
