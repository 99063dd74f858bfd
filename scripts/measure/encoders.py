"""Compare speech encoders: how well lip aperture can be predicted from their features.

    python -m scripts.measure.encoders DATASET DATASET [--encoder NAME ...]

Prints the table of docs/encoders.md. For each encoder and each of the two datasets it has the
correlation of predicted and true lip aperture: on the clip's last fifth (trained on the rest of
it), and on the whole other clip (another voice and language). The regressors are ridge regression
and a small network (`lip_regressors.py`). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from being.audio import encoder_interface, encoders
from scripts.measure.lip_regressors import Footage, Net, Ridge, correlation, frame_windows

SMOOTH = np.array([0.25, 0.5, 0.25], np.float32)


def layer_features(sound: np.ndarray) -> dict[str, np.ndarray]:
    """Feature steps [S, C] by name: the layers of the phoneme conformer on `sound` [T]."""
    network = encoders.load_encoder("hama").model  # type: ignore[attr-defined]
    parts = np.concatenate(
        list(encoder_interface.encode_in_pieces(sound, lambda piece: _layers(network, piece)))
    )
    found = {name: parts[:, first:last] for name, (first, last) in COLUMNS.items()}
    hidden = found["hidden 1 (block 2)"]
    found["hidden 1, smoothed"] = np.stack(
        [np.convolve(np.pad(row, 1, mode="edge"), SMOOTH, "valid") for row in hidden.T], 1
    )
    found["hidden 1 + log-mel"] = np.concatenate([hidden, found["log-mel, 80 bands"] / 3], 1)
    return found


WIDTHS = {
    "log-mel, 80 bands": 80,
    "input of block 1": 144,
    "hidden 0 (block 1)": 144,
    "hidden 1 (block 2)": 144,
    "hidden 2 (block 3)": 144,
    "hidden 3 (block 4)": 144,
    "log-probabilities": 191,
}
BORDERS = np.cumsum([0, *WIDTHS.values()])
COLUMNS = {
    name: (int(a), int(b)) for name, a, b in zip(WIDTHS, BORDERS[:-1], BORDERS[1:], strict=True)
}


@torch.inference_mode()
def _layers(network: torch.nn.Module, sound: np.ndarray) -> np.ndarray:
    """All of `COLUMNS` side by side, float32 [S, 927], of a piece of sound [320 S]."""
    mel = network.log_mel(torch.from_numpy(sound)[None])[:, :, 1:]  # type: ignore[operator]
    hidden = [network.hidden(mel, k)[0] for k in range(5)]  # type: ignore[operator]
    pairs = mel[0].T[: 2 * len(hidden[0])]
    pairs = (
        torch.cat([pairs, pairs[-1:]])[: 2 * len(hidden[0])].reshape(len(hidden[0]), 2, -1).mean(1)
    )
    spoken = network.proj(hidden[4].T[None])[0].T.log_softmax(-1)  # type: ignore[operator]
    return torch.cat([pairs, *hidden, spoken], 1).numpy()


def row(features: list[np.ndarray], clips: list[Footage]) -> list[float]:
    """Own voice of both clips, then across voices both ways; each as ridge and net."""
    windows = [
        frame_windows(steps, len(clip.aperture))
        for steps, clip in zip(features, clips, strict=True)
    ]
    figures = []
    for own in range(2):
        learn, test = clips[own].split()
        for reader in (Ridge, Net):
            read = reader(windows[own][learn], clips[own].aperture[learn])
            figures.append(correlation(read(windows[own][test]), clips[own].aperture[test]))
    for own in range(2):
        for reader in (Ridge, Net):
            read = reader(windows[own], clips[own].aperture)
            figures.append(correlation(read(windows[1 - own]), clips[1 - own].aperture))
    return figures


def main() -> None:
    """Print the table and the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs=2, type=Path)
    parser.add_argument(
        "--encoder", nargs="*", default=[], help="encoders to compare besides hama's layers"
    )
    options = parser.parse_args()
    clips = [Footage.of(folder) for folder in options.datasets]
    known = [layer_features(clip.sound) for clip in clips]
    for name in options.encoder:
        for found, clip in zip(known, clips, strict=True):
            found[name] = encoders.load_encoder(name).encode_clip(clip.sound)
    a, b = (clip.name for clip in clips)
    print(
        "| features | "
        + " | ".join(
            f"{where} {reader}"
            for where in (f"{a}, last fifth:", f"{b}, last fifth:", f"{a} to {b}:", f"{b} to {a}:")
            for reader in ("ridge", "net")
        )
        + " |"
    )
    print("|---" * 9 + "|")
    table = {}
    for name in known[0]:
        table[name] = [round(r, 3) for r in row([found[name] for found in known], clips)]
        print(f"| {name} | " + " | ".join(f"{r:.2f}" for r in table[name]) + " |", flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
