"""Measure the time of a training step on this machine.

    python -m scripts.measure.step DATA --config NAME

The initial cloud of the dataset, all losses and the optimizer; the median over blocks of ten steps
(on CUDA a step is not waited for), after the first steps have compiled and captured what they need.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from being.config import Config, load
from being.data.clip import Clip, load_clip
from being.data.dataset import Dataset, Split
from being.model.device import has_bfloat16, pick_device
from being.model.talking_head import TalkingHead
from being.train.density import DensityControl
from being.train.initial_points import initial_cloud
from being.train.objective import Objective
from being.train.optimizer import make_optimizer, set_learning_rates
from being.train.step import STAGES, TrainingStep
from being.train.trainer import untrained_model

WARM_UP = 12  # steps
BLOCK = 10  # steps timed as one


def measure(
    config: Config, stage: str, model: TalkingHead, clip: Clip, split: Split, blocks: int
) -> list[float]:
    """Milliseconds of a step, one number for each block."""
    low = config.train.mixed_precision and has_bfloat16(clip.device)
    optimizer = make_optimizer(model, config.train.rate)
    density = DensityControl(config.train.density, len(model.gaussians), clip.device)
    objective = Objective(
        config.train.loss, clip, model.network.tri_plane.grid, reference=False, low_precision=low
    )
    step = TrainingStep(config, stage, model, clip, split.train, objective, optimizer, density, low)
    steps = getattr(config.train, stage).steps
    model.train()
    times, done = [], 0
    for count in (WARM_UP, *[BLOCK] * blocks):
        start = time.perf_counter()
        for number in range(done, done + count):
            set_learning_rates(optimizer, number, steps)
            step(number + 1)
        wait(clip.device)
        times.append((time.perf_counter() - start) / count * 1e3)
        done += count
    return times[1:]


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print the figures of both stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", default="64_dim_1_transformer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--blocks", type=int, default=10, help=f"of {BLOCK} steps")
    arguments = parser.parse_args()
    config, device = load(arguments.config), pick_device(arguments.device)
    torch.backends.cudnn.benchmark = True
    dataset = Dataset.open(arguments.data)
    split = dataset.split(config.data.holdout, config.data.seconds, config.data.fold)
    clip = load_clip(
        dataset, config.data.size, config.data.encoder, device, channel_set=config.data.expression
    )
    count, seed = config.data.initial_gaussians, config.train.seed
    points, colours = initial_cloud(dataset, clip, split.train, count, seed, config.data.bfm)
    model = untrained_model(config, clip.features.shape[2], points, colours, len(clip.channels)).to(
        device
    )
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(
        f"{name}, torch {torch.__version__}, {arguments.config}, {config.data.size} px, "
        f"{len(points)} Gaussians"
    )
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    with torch.cuda.stream(stream):
        for stage in STAGES:
            times = measure(config, stage, model, clip, split, arguments.blocks)
            print(
                f"{stage}, batch {getattr(config.train, stage).batch}: "
                f"{statistics.median(times):.2f} ms per step ({min(times):.2f} to {max(times):.2f})"
            )
            if stage == "coarse":
                model.bake_canonical()
    if device.type == "cuda":
        print(f"peak device memory {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
