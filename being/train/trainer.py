"""The training loop of a stage: steps, evaluations, checkpoints and interruption."""

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
from being.console import Progress, console
from being.data.clip import Clip
from being.data.dataset import Dataset, Split
from being.errors import BeingError, ExitCode
from being.model.device import has_bfloat16
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import TalkingHead
from being.runs.run_directory import Checkpoint, Run
from being.threads import use_free_cores
from being.train.compat import DECAY_STEPS, camera_extent
from being.train.density import DensityControl
from being.train.objective import Objective
from being.train.optimizer import (
    load_optimizer,
    make_optimizer,
    optimizer_state,
    set_learning_rates,
)
from being.train.oversampling import balance_mouths, oversample_blinks
from being.train.plateau import Plateau
from being.train.preview import Previews, evaluate
from being.train.step import TrainingStep

# Steps between two checks of the loss on CUDA, because the host waits for the device in each
LOSS_CHECK_EVERY = 50
# With the mouth code, the end of the fine stage counts as best unless its held-out PSNR is lower by
# more than this, in dB. Lips move farther there: on "news 21 s" 85 % of the true motion, against
# 73 % at the highest PSNR, at the same distance of landmarks (docs/lab_log.md).
END_TOLERANCE = 0.5
AVERAGED_OVER = 50  # steps of the running mean of the printed and logged loss terms
# A closed terminal sends SIGHUP; Windows has none.
END_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
]
COMPILING = "the first step compiles the CUDA kernels"  # shown until it is done


class Trainer:
    """Trains the stages of a run; `train` continues a stage from its checkpoint."""

    def __init__(
        self,
        run: Run,
        config: Config,
        dataset: Dataset,
        clip: Clip,
        split: Split,
        model: TalkingHead,
    ):
        self.run, self.config, self.dataset = run, config, dataset
        self.clip, self.split, self.model = clip, split, model
        self.reference = config.train.compat == "reference"
        model.triplane_only = self.reference
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
        self.best = -1.0  # the highest one of the fine stage
        self.plateau = Plateau(None, 0)  # of the current stage

    def train(self, stage: str, resume: Checkpoint | None = None) -> None:
        """Train `stage` ("coarse" or "fine") to its end, from the checkpoint `resume` if given.

        On SIGTERM, SIGINT or SIGHUP saves the checkpoint `last` and raises BeingError (exit code
        130). Raises BeingError when the loss is not finite.
        """
        plan: StageConfig = getattr(self.config.train, stage)
        optimizer, density = self._optimizer_and_density()
        early_end = stage == "fine" and self.config.train.until_plateau
        self.plateau = Plateau(self.config.train.plateau if early_end else None, plan.steps)

        # Continue from the checkpoint
        first, self.latest = 0, None
        if resume is not None:
            first, self.best = resume.state["step"], resume.state["best"]
            # Without the optimizer's state (a checkpoint other than `last`) its moments begin anew.
            if resume.optimizer:
                load_optimizer(optimizer, resume.optimizer)
                density.load(resume.optimizer)
            self.plateau.load(resume.state.get("plateau"))

        run_step = self._training_step(stage, optimizer, density)
        self.model.train()
        seconds = self.config.train.preview_seconds
        with (
            _StopOnSignal(self.stopped),
            _side_stream(self.clip.device),
            Progress(stage, self.plateau.last_step, "steps", done=first) as progress,
            Previews(self.run, self.clip, self.dataset, self.split, seconds) as previews,
        ):
            averages: Tensor | None = None
            step = first
            if run_step.captured is not None:
                progress.advance(0, COMPILING)
            while step < self.plateau.last_step:
                use_free_cores()

                # One step at the rates of its position on the schedule
                step += 1
                position = self.plateau.schedule_position(step - 1)
                set_learning_rates(
                    optimizer, position, DECAY_STEPS if self.reference else plan.steps
                )
                values = run_step(step)
                if averages is None:
                    averages = values.clone()
                else:
                    averages.lerp_(values, 1 / AVERAGED_OVER)
                progress.advance(1, partial(self._progress_note, averages))

                # What is due after this step
                stop = self.stopped.is_set()
                at_end = step == self.plateau.last_step
                evaluation = at_end or step % self.config.train.evaluate_every == 0
                numbered = at_end or step % self.config.train.checkpoint_every == 0
                checkpoint = numbered or stop
                on_cpu = self.clip.device.type == "cpu"

                if evaluation or checkpoint or on_cpu or step % LOSS_CHECK_EVERY == 0:
                    self._check_loss(stage, step, run_step.names, averages)
                    run_step.check_capacity()
                if evaluation:
                    terms = dict(zip(run_step.names, averages.tolist(), strict=True))
                    with progress.doing("evaluating on held-out frames"):
                        self._evaluate(stage, step, terms, at_end)
                    progress.total = self.plateau.last_step
                if checkpoint:
                    with progress.doing("saving a checkpoint and previews"):
                        state = {**self._state(stage, step), "numbered": numbered}
                        moments = {**optimizer_state(optimizer), **density.state()}
                        self.run.save("last", self.model.state_dict(), state, moments)
                        if not stop:
                            self.run.save(f"{stage}-{step:06d}", self.model.state_dict(), state)
                            previews.write(self.model, stage, step)
                            self.model.train()
                if stop:
                    raise _interrupted(stage, step)
        if stage == "coarse":
            self.model.bake_canonical()

    def _optimizer_and_density(self) -> tuple[torch.optim.Adam, DensityControl]:
        extent = 1.0
        if self.reference:
            extent = camera_extent(self.clip.world_to_camera[self.split.train])
        optimizer = make_optimizer(self.model, self.config.train.rate, extent)
        count = len(self.model.gaussians)
        return optimizer, DensityControl(self.config.train.density, count, self.clip.device)

    def _training_step(
        self, stage: str, optimizer: torch.optim.Optimizer, density: DensityControl
    ) -> TrainingStep:
        """The step function of `stage`; only the fine stage repeats rare frames."""
        frames, copies = self.split.train, None
        if stage == "fine":
            if self._has_code() and self.config.train.oversample.rare_mouths:
                # Every step of a row holds the frame's code; its scale does not matter here.
                codes = self.clip.features[torch.from_numpy(frames).to(self.clip.device), 0]
                frames = balance_mouths(frames, codes.cpu().numpy())
            blink = self.clip.expression[frames, 0].cpu().numpy()
            share = self.config.train.oversample.blink_share
            frames, copies = oversample_blinks(frames, blink, share)
        return TrainingStep(
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

    def _has_code(self) -> bool:
        """Whether the network reads the mouth code."""
        return self.config.model.mouth == "code"

    def _check_loss(self, stage: str, step: int, names: list[str], averages: Tensor) -> None:
        """Raise BeingError when a loss since the last check was not finite.

        Nothing was saved in between.
        """
        values = averages.tolist()
        if not np.isfinite(values[0]):
            terms = zip(names, values, strict=True)
            raise BeingError(
                f"the loss is not finite by {stage} step {step}",
                ", ".join(f"{name} {value:.4g}" for name, value in terms),
                "Resume from the last checkpoint with lower rates (-o train.rate...)",
            )

    def _progress_note(self, averages: Tensor) -> str:
        note = f"loss {float(averages[0]):.4f}  {len(self.model.gaussians)} Gaussians"
        if self.latest is not None:
            note += f"  held-out PSNR {self.latest:.2f} dB"
        return note

    def _evaluate(self, stage: str, step: int, terms: dict[str, float], at_end: bool) -> None:
        """Log the held-out PSNR; save `best` when it rises; update the plateau."""
        figures = evaluate(self.model, self.clip, self.split.validation, stage)
        self.latest = figures["psnr_head"]
        self.run.log(stage, step, {**terms, **figures, "gaussians": len(self.model.gaussians)})
        lowest = self.best
        if at_end and self._has_code():
            lowest -= END_TOLERANCE
        if stage == "fine" and self.latest > lowest:
            self.best = self.latest
            self.run.save("best", self.model.state_dict(), self._state(stage, step))
        if self.plateau.reached(step, self.latest):
            console.info(
                f"the held-out PSNR has levelled off at {stage} step {step}: the learning rates "
                f"fall to their end values until step {self.plateau.last_step}"
            )
        self.model.train()

    def _state(self, stage: str, step: int) -> dict[str, Any]:
        """The facts that a checkpoint stores."""
        return {
            "stage": stage,
            "step": step,
            "best": self.best,
            "audio_width": self.model.network.audio_width,
            "plateau": self.plateau.state(),
        }


@contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """On CUDA a stream other than the default one, because a graph cannot be captured on that."""
    if device.type != "cuda":
        yield
        return
    stream, before = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    with torch.cuda.stream(stream):
        yield
    before.wait_stream(stream)


def _interrupted(stage: str, step: int) -> BeingError:
    return BeingError(
        f"stopped at {stage} step {step}",
        "interrupted",
        "The same command goes on from there",
        ExitCode.INTERRUPTED,
    )


class _StopOnSignal:
    """Lets the signals that ask the program to end set an event instead, at once."""

    def __init__(self, event: threading.Event):
        self.event = event
        self.old: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            self.event.set()

        # Only the main thread may set handlers. An ignored signal stays ignored: nohup.
        if threading.current_thread() is threading.main_thread():
            for number in END_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN:
                    self.old[number] = signal.signal(number, stop)

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)


def untrained_model(
    config: Config, audio_width: int, points: Tensor, colours: Tensor, expression_width: int = 1
) -> TalkingHead:
    """A new model over a point cloud: points [N, 3], colours [N, 3] in [0, 1]."""
    torch.manual_seed(config.train.seed)
    return TalkingHead(
        config.model,
        audio_width,
        CanonicalGaussians.from_points(points, colours, config.model.sh_degree),
        expression_width,
    )
