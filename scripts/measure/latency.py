"""What bounded look-ahead costs: the table of streaming in docs/encoders.md.

    python -m scripts.measure.latency DATASET [DATASET ...] [--try AHEAD,SHIFT,PAST ...]

For the whole-clip form and for each latency: correlation of the predicted lip aperture with the
truth on the clip's last fifth, learnt from the rest of it in the same form, by ridge regression and
a small net (`lip_regressors.py`); the same net learnt from the whole-clip form; distance of the
steps from the whole-clip form's. `--try` measures other look-aheads instead, all in steps of 20 ms.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from being.audio import feature_stream
from being.audio.encoders import encoder
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
    given = parser.parse_args()
    clips = [Footage.of(folder) for folder in given.datasets]
    plain = encoder(given.encoder)
    whole = [plain.encode_clip(clip.sound) for clip in clips]
    forms = (
        []
        if given.others
        else [(known, feature_stream.PAST) for known in feature_stream.LATENCIES.values()]
    )
    for text in given.others:
        ahead, shift, past = map(int, text.split(","))
        forms.append((feature_stream.Latency(f"{ahead},{shift},{past}", ahead, shift), past))
    print(
        "| form | look-ahead, s | "
        + " | ".join(f"{clip.name}: ridge | net | net learnt whole | distance" for clip in clips)
        + " |"
    )
    print("|---" * (2 + 4 * len(clips)) + "|")
    table = {}
    if not given.others:
        table["whole"] = [
            figure
            for clip, steps in zip(clips, whole, strict=True)
            for figure in measure(clip, steps, steps)
        ]
        show("whole", float("inf"), table["whole"])
    for latency, past in forms:
        feature_stream.PAST = past
        bounded = feature_stream.BoundedEncoder(plain, latency)
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
    """Ridge, net, net that learnt the whole-clip form, mean distance over a step's length."""
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
