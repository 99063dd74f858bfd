"""Lips on held-out frames of whole clips: five contiguous fifths held out in turn, frames pooled.

    python -m scripts.measure.five_folds DATA... --out FOLDER --seeds 2 --jobs 3

For each clip, fifth and seed an avatar is trained on the other four fifths, and speaks the fifth
from its audio alone. Beside it a small network (`lip_regressors.Net`, three seeds) predicts the lip
aperture of the same frames from the same speech features. The results of finished trainings in
FOLDER are kept: the same command goes on with the others. `--jobs` trainings run at once, on all
CUDA devices in turn. A clip of more than LONG seconds is learnt from 20 s of the other frames.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from being.audio.feature_windows import strips
from being.config import load
from being.conventions import FPS
from being.data.dataset import Dataset
from being.eval.lips import lip_agreement
from being.eval.measured_run import open_measured_run
from being.eval.run_evaluation import measure_run
from being.face.landmarks import lip_aperture
from being.files import new_file
from being.train.training import train_avatar

FOLDS = (1, 2, 3, 4, 5)
REGRESSOR_SEEDS = (0, 1, 2)
LONG, LEARNT_SECONDS = 30, 20
SERIES = ("aperture.true", "aperture.rendered", "aperture.shuffled", "width.true", "width.rendered")


def measure_avatar(data: Path, fold: int, seed: int, options: list[str]) -> dict[str, np.ndarray]:
    """Lip series [n] of the held-out fifth, true and rendered, by an avatar trained on the rest."""
    run = train_avatar(data, _config(data, fold, seed, options), "quick", fresh=True)
    measured = open_measured_run(run, "test", device=_device())
    result = measure_run(measured)
    if result.figures["lips"] is None:
        raise SystemExit(f"lips cannot be measured: {result.figures['lips_reason']}")
    series = {key: result.series[key] for key in (*SERIES, "lmd")}
    mouth = {"mouth.psnr": result.series["mouth.psnr"]}
    if "mouth.lpips" in result.series:
        mouth["mouth.lpips"] = result.series["mouth.lpips"]
    shuffled = np.array(result.figures["lips"]["shuffled_correlation"], np.float64)
    return {**series, **mouth, "frames": measured.frames, "shuffled": shuffled}


def measure_regressor(data: Path, fold: int, options: list[str]) -> dict[str, np.ndarray]:
    """Predicted lip apertures [seeds, n] of the held-out fifth, by nets that learnt the rest."""
    from scripts.measure.lip_regressors import Net

    config, dataset = _config(data, fold, 0, options), Dataset.open(data)
    split = dataset.split(config.data.holdout, config.data.seconds, config.data.fold)
    windows = strips(dataset.features(config.data.encoder), dataset.bounds)
    raw = lip_aperture(dataset.landmarks)
    train = split.train[np.isfinite(raw[split.train])]
    mean, deviation = raw[train].mean(), raw[train].std()
    target = ((raw[train] - mean) / deviation).astype(np.float32)
    predicted = [
        Net(windows[train], target, [seed])(windows[split.test]) * deviation + mean
        for seed in REGRESSOR_SEEDS
    ]
    return {"predicted": np.stack(predicted), "true": raw[split.test], "frames": split.test}


def _config(data: Path, fold: int, seed: int, options: list[str]) -> Any:
    settings = ["data.holdout=0.2", f"data.fold={fold}", f"train.seed={seed}"]
    if Dataset.open(data).frames > LONG * FPS:
        settings.append(f"data.seconds={LEARNT_SECONDS}")
    return load("quick", [*settings, "train.preview_seconds=0", *options])


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def clip_figures(folder: Path, name: str, seeds: int, segment: np.ndarray) -> dict[str, Any] | None:
    """Figures of a clip whose jobs are all done; None before."""
    avatars = []
    for seed in range(seeds):
        parts = _parts(folder, name, f"s{seed}")
        if parts is None:
            return None
        order = np.argsort(np.concatenate([part["frames"] for part in parts]))
        pooled = {
            key: np.concatenate([part[key] for part in parts])[order]
            for key in parts[0]
            if parts[0][key].ndim == 1
        }
        aperture = lip_agreement(pooled["aperture.true"], pooled["aperture.rendered"], segment)
        width = lip_agreement(pooled["width.true"], pooled["width.rendered"], segment)
        avatars.append(
            {
                "r": aperture.correlation,
                "lag": aperture.best_lag,
                "motion": aperture.motion,
                "width_r": width.correlation,
                "width_motion": width.motion,
                "lmd": float(np.nanmean(pooled["lmd"])),
                "mouth_psnr": float(np.nanmean(pooled["mouth.psnr"])),
                "shuffled": float(np.mean([part["shuffled"] for part in parts])),
                "r_of_fifths": [
                    lip_agreement(part["aperture.true"], part["aperture.rendered"]).correlation
                    for part in parts
                ],
            }
        )
    nets = _parts(folder, name, "net")
    regressor = None
    if nets is not None:
        true = np.concatenate([part["true"] for part in nets])
        predicted = np.concatenate([part["predicted"] for part in nets], 1)
        known = np.isfinite(true)
        regressor = {
            "r": [float(np.corrcoef(row[known], true[known])[0, 1]) for row in predicted],
            "motion": float((predicted.std(1) / true[known].std()).mean()),
        }
    return {
        "frames": len(segment),
        "chance": len(segment) ** -0.5,
        "avatar": avatars,
        "regressor": regressor,
    }


def _parts(folder: Path, name: str, what: str) -> list[dict[str, np.ndarray]] | None:
    files = [folder / f"{name}_{fold}_{what}.npz" for fold in FOLDS]
    if not all(file.is_file() for file in files):
        return None
    return [dict(np.load(file)) for file in files]


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    """One line for each clip, and the means."""
    print("| clip | lip r | regressor | lag | motion | width r / motion | LMD | mouth | shuffled |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for name, figure in figures.items():
        avatars, regressor = figure["avatar"], figure["regressor"]

        def mean(key: str, avatars: list[dict[str, Any]] = avatars) -> float:
            return float(np.mean([avatar[key] for avatar in avatars]))

        own = float(np.mean(regressor["r"])) if regressor else float("nan")
        rows.append((mean("r"), own))
        lags = ", ".join(f"{avatar['lag']:+d}" for avatar in avatars)
        print(
            f"| {name} | {mean('r'):.2f} | {own:.2f} | {lags} | {mean('motion'):.0%} | "
            f"{mean('width_r'):.2f} / {mean('width_motion'):.0%} | {mean('lmd'):.2f} | "
            f"{mean('mouth_psnr'):.2f} | {mean('shuffled'):+.3f} of {figure['chance']:.3f} |"
        )
    if rows:
        means = np.mean(rows, 0)
        print(f"| mean | {means[0]:.3f} | {means[1]:.3f} | | | | | | |")


Job = tuple[Path, int, str]  # dataset, fold, "s<seed>" for an avatar or "net"


def _run_jobs(jobs: list[Job], out: Path, options: list[str], at_once: int) -> int:
    """Run the jobs in processes of their own; returns how many failed."""
    devices = max(1, torch.cuda.device_count())
    numbers = count()

    def run(job: Job) -> bool:
        data, fold, what = job
        log = out / f"{data.name}_{fold}_{what}.log"
        command = [sys.executable, "-m", "scripts.measure.five_folds", str(data), "--out", str(out)]
        command += ["--one", f"{fold}:{what}", *(word for o in options for word in ("-o", o))]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(next(numbers) % devices)}
        environment["BEING_HOME"] = str(out / "homes" / f"{data.name}_{fold}_{what}")
        with open(log, "w") as file:
            code = subprocess.run(command, env=environment, stdout=file, stderr=file).returncode
        print(f"{data.name} {fold} {what}: {'done' if code == 0 else f'failed, see {log}'}")
        return code == 0

    with ThreadPoolExecutor(at_once) as pool:
        return sum(not done for done in pool.map(run, jobs))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("-o", action="append", default=[], help="a setting of the config")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    if arguments.one:
        fold, what = arguments.one.split(":")
        data = arguments.data[0]
        if what == "net":
            result = measure_regressor(data, int(fold), arguments.o)
        else:
            result = measure_avatar(data, int(fold), int(what[1:]), arguments.o)
        with new_file(out / f"{data.name}_{fold}_{what}.npz") as part, open(part, "wb") as file:
            np.savez(file, **result)
        return

    whats = [*(f"s{seed}" for seed in range(arguments.seeds)), "net"]
    jobs = [(data, fold, what) for what in whats for data in arguments.data for fold in FOLDS]
    done = [(out / f"{data.name}_{fold}_{what}.npz").is_file() for data, fold, what in jobs]
    waiting = [job for job, is_done in zip(jobs, done, strict=True) if not is_done]
    failed = _run_jobs(waiting, out, arguments.o, arguments.jobs)
    figures = {}
    for data in arguments.data:
        segment = Dataset.open(data).bounds[:, 0]
        found = clip_figures(out, data.name, arguments.seeds, segment)
        if found is not None:
            figures[data.name] = found
    (out / "figures.json").write_text(json.dumps(figures, indent=1))
    print_table(figures)
    if failed:
        raise SystemExit(f"{failed} jobs failed: the same command runs them again")


if __name__ == "__main__":
    main()
