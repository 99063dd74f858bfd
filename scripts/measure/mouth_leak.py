"""Measure how well the expression channels of the upper face predict the lip aperture.

The audio must drive the lips; a high correlation here means that these channels could drive them
instead.

`python -m scripts.measure.mouth_leak DATASET...`: kernel ridge regression on the first four fifths
of a clip, Pearson correlation with the aperture on its last fifth, of several widths and strengths;
the last line is JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from being.data.dataset import Dataset
from being.data.expression_channels import MOUTH_CHANNELS, load_expression
from being.face.landmarks import lip_aperture

WIDTHS, RIDGES = (0.02, 0.1, 0.5), (1.0, 10.0)
SETS = {"upper channels": (), "and cheek_up, lid_tight": ("cheek_up", "lid_tight")}


def correlations(values: np.ndarray, aperture: np.ndarray) -> list[float]:
    """Held-out correlation for each setting: aperture float [F] from values float [F, E]."""
    known = np.isfinite(aperture)
    early = np.arange(len(aperture)) < 0.8 * len(aperture)
    train, test = np.flatnonzero(known & early), np.flatnonzero(known & ~early)
    values = (values - values[train].mean(0)) / (values[train].std(0) + 1e-6)

    def likeness(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
        return np.exp(-2 * width * ((a[:, None] - b[None]) ** 2).mean(-1))

    mean, found = aperture[train].mean(), []
    for width in WIDTHS:
        kernel, across = (
            likeness(values[train], values[train], width),
            likeness(values[test], values[train], width),
        )
        for ridge in RIDGES:
            weights = np.linalg.solve(kernel + ridge * np.eye(len(train)), aperture[train] - mean)
            found.append(float(np.corrcoef(across @ weights, aperture[test])[0, 1]))
    return found


def main() -> None:
    """Print the correlations of each dataset and set of channels."""
    figures: dict[str, dict[str, list[float]]] = {}
    for path in sys.argv[1:]:
        dataset = Dataset.open(Path(path))
        channels, values = load_expression(dataset)
        aperture = lip_aperture(dataset.landmarks)
        for name, more in SETS.items():
            chosen = [
                k
                for k, channel in enumerate(channels.names)
                if channel not in MOUTH_CHANNELS or channel in more
            ]
            found = [round(r, 2) for r in correlations(values[:, chosen], aperture)]
            figures.setdefault(dataset.name, {})[name] = found
            print(f"{dataset.name:<12}{name:<28}{min(found):+.2f} to {max(found):+.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
