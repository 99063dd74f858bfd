"""The coarse and the fine stage: sample frames, render, compare, step; density control,
checkpoints, figures.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.config import Config, StageConfig
from being.console import Progress, say
from being.data.clip import Clip
from being.data.dataset import Dataset, Split
from being.errors import BeingError, ExitCode
from being.model.device import has_bfloat16
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.runs.run_directory import Checkpoint, Run
from being.train.blink_oversampling import with_blinks
from being.train.compat import DECAY_STEPS, camera_extent, is_reference
from being.train.density import Density
from being.train.objective import Objective
from being.train.optimizer import make_optimizer, set_rates
from being.train.plateau import Plateau
from being.train.preview import Previews, evaluate
from being.train.step import Step

CHECKED_EVERY = 50  # steps between two looks at the loss on CUDA, where each makes the host wait
AVERAGED_OVER = 50  # steps, the printed loss terms' running mean


class Trainer:
    """State of a run while it trains; `train` goes through a stage from where the checkpoint left
    off.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        dataset: Dataset,
        clip: Clip,
        split: Split,
        model: TalkingHead,
    ):
        self.run, self.config, self.dataset, self.clip, self.split = (
            run,
            config,
            dataset,
            clip,
            split,
        )
        self.model = model
        self.reference = is_reference(config.train.compat)
        model.planes_alone = self.reference
        self.low_precision = config.train.mixed_precision and has_bfloat16(clip.device)
        self.objective = Objective(
            config.train.loss,
            clip,
            model.network.tri_plane.grid,
            reference=self.reference,
            low_precision=self.low_precision,
        )
        self.stopped = threading.Event()
        self.latest: float | None = None  # head-box PSNR of the last evaluation, dB
        self.best = -1.0  # the best one of the fine stage
        self.plateau = Plateau(None, 0)  # of the stage that is trained

    def train(self, stage: str, resume: Checkpoint | None = None) -> None:
        """Run `stage` ("coarse" or "fine") to its end; on SIGTERM or SIGINT save `last` and raise
        BeingError (130).
        """
        plan: StageConfig = getattr(self.config.train, stage)
        extent = (
            camera_extent(self.clip.world_to_camera[self.split.train]) if self.reference else 1.0
        )
        optimizer = make_optimizer(self.model, self.config.train.rate, extent)
        density = Density(self.config.train.density, len(self.model.gaussians), self.clip.device)
        first, self.plateau = (
            0,
            Plateau(
                self.config.train.plateau
                if stage == "fine" and self.config.train.until_plateau
                else None,
                plan.steps,
            ),
        )
        if resume is not None:
            first, self.best = resume.state["step"], resume.state["best"]
            load_optimizer(optimizer, resume.optimizer)
            density.load(resume.optimizer)
            self.plateau.load(resume.state.get("plateau"))
        frames, copies = self.split.train, None
        if stage == "fine":
            frames, copies = with_blinks(
                frames, self.clip.expression[frames, 0].cpu().numpy(), self.config.train.blink_share
            )
        work = Step(
            self.config,
            stage,
            self.model,
            self.clip,
            frames,
            self.objective,
            optimizer,
            density,
            self.low_precision,
            copies,
        )
        self.model.train()
        pictures = Previews(
            self.run, self.clip, self.dataset, self.split, self.config.train.preview_seconds
        )
        with (
            _Stop(self.stopped),
            _own_stream(self.clip.device),
            pictures as previews,
            Progress(stage, self.plateau.last, "steps", done=first) as progress,
        ):
            averages: Tensor | None = None
            step = first
            while step < self.plateau.last:
                step += 1
                set_rates(
                    optimizer,
                    self.plateau.place(step - 1),
                    DECAY_STEPS if self.reference else plan.steps,
                )
                values = work(step)
                averages = (
                    values.clone()
                    if averages is None
                    else averages.lerp_(values, 1 / AVERAGED_OVER)
                )
                progress.advance(1, partial(self._note, averages))
                stop = self.stopped.is_set()
                judge = step % self.config.train.evaluate_every == 0 or step == self.plateau.last
                save = (
                    step % self.config.train.checkpoint_every == 0
                    or step == self.plateau.last
                    or stop
                )
                if judge or save or self.clip.device.type == "cpu" or step % CHECKED_EVERY == 0:
                    self._check(stage, step, work.names, averages)
                    work.look()
                if judge:
                    self._evaluate(
                        stage, step, dict(zip(work.names, averages.tolist(), strict=True))
                    )
                    progress.total = self.plateau.last
                if save:
                    self._checkpoint(stage, step, optimizer, density, previews, keep=not stop)
                if stop:
                    raise BeingError(
                        f"stopped at {stage} step {step}",
                        "interrupted",
                        "The same command goes on from there",
                        ExitCode.INTERRUPTED,
                    )
        if stage == "coarse":
            self.model.bake_canonical()

    def _check(self, stage: str, step: int, names: list[str], averages: Tensor) -> None:
        """Raise BeingError when a loss was not finite since the last look; nothing was saved
        meanwhile.
        """
        values = averages.tolist()
        if not np.isfinite(values[0]):
            raise BeingError(
                f"the loss is not finite by {stage} step {step}",
                ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True)),
                "Resume from the last checkpoint with lower rates (-o train.rate...)",
            )

    def _note(self, averages: Tensor) -> str:
        held = f"  PSNR {self.latest:.2f} dB held out" if self.latest is not None else ""
        return f"loss {float(averages[0]):.4f}  {len(self.model.gaussians)} Gaussians{held}"

    def _evaluate(self, stage: str, step: int, terms: dict[str, float]) -> None:
        figures = evaluate(self.model, self.clip, self.split.validation, stage)
        self.latest = figures["psnr_head"]
        self.run.log(stage, step, {**terms, **figures, "gaussians": len(self.model.gaussians)})
        if stage == "fine" and self.latest > self.best:
            self.best = self.latest
            self.run.save("best", self.model.state_dict(), self._state(stage, step))
        if self.plateau.reached(step, self.latest):
            say(
                f"held-out PSNR has levelled off at {stage} step {step}: the rates fall to their end by step "
                f"{self.plateau.last}"
            )
        self.model.train()

    def _state(self, stage: str, step: int) -> dict[str, Any]:
        return {
            "stage": stage,
            "step": step,
            "best": self.best,
            "audio_width": self.model.network.audio_width,
            "plateau": self.plateau.state(),
        }

    def _checkpoint(
        self,
        stage: str,
        step: int,
        optimizer: torch.optim.Optimizer,
        density: Density,
        previews: Previews,
        keep: bool,
    ) -> None:
        state = self._state(stage, step)
        self.run.save(
            "last",
            self.model.state_dict(),
            state,
            {**optimizer_state(optimizer), **density.state()},
        )
        if keep:
            self.run.save(f"{stage}-{step:06d}", self.model.state_dict(), state)
            previews.make(self.model, stage, step)
            self.model.train()


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    """On CUDA, a stream other than the default one, as a graph's capture needs."""
    if device.type != "cuda":
        yield
        return
    stream, before = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)


class _Stop:
    """While training, SIGTERM and SIGINT ask for a checkpoint and a clean end instead of killing at
    once.
    """

    def __init__(self, event: threading.Event):
        self.event, self.old = event, {}  # type: ignore[var-annotated]

    def __enter__(self) -> None:
        def ask(number: int, frame: FrameType | None) -> None:
            self.event.set()

        if threading.current_thread() is threading.main_thread():
            self.old = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}

    def __exit__(self, *_: Any) -> None:
        handler: Callable[..., Any] | int | None
        for number, handler in self.old.items():
            signal.signal(number, handler)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Adam's moments and step counts as flat tensors, `group.k.exp_avg` and so on."""
    flat = {}
    for group in optimizer.param_groups:
        for k, parameter in enumerate(group["params"]):
            for key, value in optimizer.state.get(parameter, {}).items():
                flat[f"{group['name']}.{k}.{key}"] = torch.as_tensor(value)
    return flat


def load_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Inverse of `optimizer_state`."""
    for group in optimizer.param_groups:
        for k, parameter in enumerate(group["params"]):
            state = {
                key: flat[f"{group['name']}.{k}.{key}"]
                for key in ("exp_avg", "exp_avg_sq", "step")
                if f"{group['name']}.{k}.{key}" in flat
            }
            if state:
                optimizer.state[parameter] = {
                    key: value.to(parameter.device) for key, value in state.items()
                }


def fresh_model(
    config: Config, audio_width: int, points: Tensor, colours: Tensor, expression_width: int = 1
) -> TalkingHead:
    """An untrained model over a cloud: points [N, 3], colours [N, 3] in [0, 1]."""
    torch.manual_seed(config.train.seed)
    return TalkingHead(
        config.model,
        audio_width,
        CanonicalGaussians.from_points(points, colours, config.model.sh_degree),
        expression_width,
    )
