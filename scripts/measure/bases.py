"""Measure an avatar's bases against its network, both against the true frames that it has not seen.

    python scripts/measure/bases.py RUN [--bases FILE] [--part test] [--frames N] [--device auto]

RUN: a finished run whose avatar has bases (being export RUN --bases). --bases measures those of a
safetensors file instead, for instance the quantised ones of a web avatar. Both are driven by the
voice, as in being eval. Prints head-box PSNR, LPIPS, correlation and distance of the lips of both
and their difference; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from being.eval.measured_run import open_measured_run
from being.eval.run_evaluation import measure_run
from being.model.avatar import load_avatar
from being.model.bases import Bases, required_bases
from being.model.device import pick_device
from being.runs.run_directory import Run

# Title -> region or "lips", and the figure in it.
FIGURES = {
    "head-box PSNR, dB": ("head", "psnr"),
    "head-box LPIPS": ("head", "lpips"),
    "mouth LPIPS": ("mouth", "lpips"),
    "lip r": ("lips", "correlation"),
    "LMD, px": ("lips", "lmd"),
}


def figures_of(measured: dict[str, Any]) -> dict[str, float | None]:
    """The figures of a measurement by their title; None where they cannot be measured here."""
    return {title: (measured.get(part) or {}).get(key) for title, (part, key) in FIGURES.items()}


def main() -> None:
    """Measure both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--bases", type=Path)
    parser.add_argument("--part", default="test")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    device = pick_device(arguments.device)
    run = Run.open(arguments.run)
    if arguments.bases is None:
        bases = required_bases(load_avatar(run.path, device))
    else:
        bases = Bases.load(arguments.bases).to(device).eval().requires_grad_(False)
    measured = open_measured_run(run, arguments.part, device, arguments.frames)
    network = figures_of(measure_run(measured).figures)
    measured.model.deformation = bases.forward
    by_bases = figures_of(measure_run(measured).figures)

    print(f"{run.path.name}, {len(measured.frames)} frames of the {measured.part} part, ", end="")
    print(f"{measured.clip.size} px, {bases.size} Gaussians, {bases.count} bases")
    print(f"{'':<20}{'network':>10}{'bases':>10}{'difference':>12}")
    for title, value in network.items():
        other = by_bases[title]
        if value is None or other is None:
            print(f"{title:<20}{'not measured here':>32}")
        else:
            print(f"{title:<20}{value:>10.4f}{other:>10.4f}{other - value:>+12.4f}")
    print(json.dumps({"bases": by_bases, "network": network, "count": bases.count}))


if __name__ == "__main__":
    main()
