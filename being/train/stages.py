"""The coarse and the fine stage: sample frames, render, compare, step; density control, checkpoints, figures."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import lru_cache, partial
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.config import Config, StageConfig
from being.data.clip import Clip
from being.data.dataset import Dataset, Split
from being.errors import BeingError, ExitCode
from being.model.device import has_bfloat16
from being.model.gaussians import CanonicalGaussians
from being.model.talking_head import Rendering, TalkingHead
from being.progress import Progress, say
from being.splat import composite
from being.train.compat import DECAY_STEPS, camera_extent, is_reference, pruned_by
from being.train.density import Density
from being.train.feature_loss import FeatureLoss
from being.train.losses import box_mean, ssim
from being.train.optimizer import make_optimizer, set_rates
from being.train.plateau import Plateau
from being.train.preview import evaluate, write_previews
from being.train.run import Checkpoint, Run

GENERATOR_STRIDE = 1_000_003
CHECKED_EVERY = 50  # steps between two looks at the loss on CUDA, where each makes the host wait
AVERAGED_OVER = 50  # steps, the printed loss terms' running mean


def sample(frames: np.ndarray, seed: int, step: int, batch: int) -> np.ndarray:
    """Frame numbers [batch] of `step` (counted from 0): shuffled anew each pass, a pure function of seed and step."""
    laps, places = np.divmod(np.arange(step * batch, (step + 1) * batch), len(frames))
    return np.array([frames[_order(len(frames), seed, int(lap))[place]]
                     for lap, place in zip(laps, places, strict=True)])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, lap: int) -> np.ndarray:
    return np.random.default_rng((seed, lap)).permutation(count)


class Trainer:
    """State of a run while it trains; `train` goes through a stage from where the checkpoint left off."""

    def __init__(self, run: Run, config: Config, dataset: Dataset, clip: Clip, split: Split,
                 model: TalkingHead):
        self.run, self.config, self.dataset, self.clip, self.split = run, config, dataset, clip, split
        self.model = model
        self.reference = is_reference(config.train.compat)
        model.planes_alone = self.reference
        self.low_precision = config.train.mixed_precision and has_bfloat16(clip.device)
        self.features = FeatureLoss(clip.device, self.low_precision) if config.train.loss.feature > 0 else None
        rows, columns = clip.window
        self._corner = torch.tensor([rows.start, rows.start, columns.start, columns.start], device=clip.device)
        self.stopped = threading.Event()
        self.latest: float | None = None  # head-box PSNR of the last evaluation, dB
        self.best = -1.0  # the best one of the fine stage
        self.plateau = Plateau(None, 0)  # of the stage that is trained

    def train(self, stage: str, resume: Checkpoint | None = None) -> None:
        """Run `stage` ("coarse" or "fine") to its end; on SIGTERM or SIGINT save `last` and raise BeingError (130)."""
        plan: StageConfig = getattr(self.config.train, stage)
        extent = camera_extent(self.clip.world_to_camera[self.split.train]) if self.reference else 1.0
        optimizer = make_optimizer(self.model, self.config.train.rate, extent)
        density = Density(self.config.train.density, len(self.model.gaussians), self.clip.device)
        first, self.plateau = 0, Plateau(self.config.train.plateau if stage == "fine" and
                                         self.config.train.until_plateau else None, plan.steps)
        if resume is not None:
            first, self.best = resume.state["step"], resume.state["best"]
            load_optimizer(optimizer, resume.optimizer)
            density.load(resume.optimizer)
            self.plateau.load(resume.state.get("plateau"))
        self.model.train()
        with _Stop(self.stopped), Progress(stage, self.plateau.last, "steps", done=first) as progress:
            averages: dict[str, Tensor] = {}
            step = first
            while step < self.plateau.last:
                step += 1
                set_rates(optimizer, self.plateau.place(step - 1), DECAY_STEPS if self.reference else plan.steps)
                torch.manual_seed(self.config.train.seed * GENERATOR_STRIDE + step + (stage == "fine") * 10**9)
                terms = self._step(stage, step, plan, optimizer, density)
                for key, value in terms.items():
                    averages[key] = averages.get(key, value).lerp(value, 1 / AVERAGED_OVER)
                progress.advance(1, partial(self._note, averages))
                stop = self.stopped.is_set()
                judge = step % self.config.train.evaluate_every == 0 or step == self.plateau.last
                save = step % self.config.train.checkpoint_every == 0 or step == self.plateau.last or stop
                if judge or save or self.clip.device.type == "cpu" or step % CHECKED_EVERY == 0:
                    self._check(stage, step, averages)
                if judge:
                    self._evaluate(stage, step, averages)
                    progress.total = self.plateau.last
                if save:
                    self._checkpoint(stage, step, optimizer, density, keep=not stop)
                if stop:
                    raise BeingError(f"stopped at {stage} step {step}", "interrupted",
                                     "The same command goes on from there", ExitCode.INTERRUPTED)
        if stage == "coarse":
            self.model.bake_canonical()

    def _step(self, stage: str, step: int, plan: StageConfig, optimizer: torch.optim.Optimizer,
              density: Density) -> dict[str, Tensor]:
        seed = self.config.train.seed + (stage == "fine")
        frames = sample(self.split.train, seed, step - 1, plan.batch)
        index = torch.from_numpy(frames).to(self.clip.device)
        coarse = stage == "coarse"
        degree = min(self.config.model.sh_degree, (step - 1) // self.config.train.sh_every) if coarse else None
        watched = coarse and step < self.config.train.density.stop
        offsets = torch.zeros(len(index), len(self.model.gaussians), 2, device=self.clip.device,
                              requires_grad=True) if watched else None
        conditions = None if coarse else self.clip.conditions(index)
        rendering = self.model(conditions, self.clip.world_to_camera[index], self.clip.focal, self.clip.size, degree,
                               offsets, self.low_precision)
        terms = self._losses(rendering, index)
        loss = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if offsets is not None and offsets.grad is not None:
            density.observe(offsets.grad, rendering.output.radii, self.clip.size)
        optimizer.step()
        if watched and any(density.due(step)):
            opacity = pruned_by(self.model, density, step) if self.reference else \
                self.model.canonical().opacities[0].detach()
            density.apply(step, self.model.gaussians, opacity, optimizer,
                          torch.Generator().manual_seed(seed * GENERATOR_STRIDE + step))
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def _losses(self, rendering: Rendering, index: Tensor) -> dict[str, Tensor]:
        """Weighted loss terms of a batch.

        Pictures are compared in the clip's head window only and counted by its share of the picture: outside it the
        target is the plate, and so is the rendering wherever alpha is 0, which the mask term sees to.
        """
        w, output, clip = self.config.train.loss, rendering.output, self.clip
        rows, columns = clip.window
        view = (slice(None), slice(None), rows, columns)
        target = clip.target(index, window=True)
        picture = output.rgb[view] + (1 - output.alpha[view]) * clip.plate(index, window=True)
        share = target[0, 0].numel() / clip.size**2
        alpha = output.alpha.detach() if self.reference else output.alpha
        error = (picture - target).abs()
        terms = {"l1": share * w.l1 * error.mean(),
                 "ssim": share * w.ssim * (1 - ssim(picture, target)),
                 "mask": w.mask * (alpha - clip.mask(index)).abs().mean()}
        for name, weight, boxes in (("lips", w.lips, clip.lips), ("eyes", w.eyes, clip.eyes)):
            if weight:
                terms[name] = weight * box_mean(error, boxes[index] - self._corner)
        if self.features is not None:
            terms["feature"] = w.feature * self.features(composite(output, clip.plate(index)), clip.target(index))
        if w.plane_tv and not self.reference:
            terms["plane_tv"] = w.plane_tv * self.model.network.tri_plane.grid.total_variation()
        return terms

    def _check(self, stage: str, step: int, averages: dict[str, Tensor]) -> None:
        """Raise BeingError when a loss was not finite since the last look; nothing was saved meanwhile."""
        if not bool(torch.isfinite(averages["loss"])):
            raise BeingError(f"the loss is not finite by {stage} step {step}",
                             ", ".join(f"{name} {float(term):.4g}" for name, term in averages.items()),
                             "Resume from the last checkpoint with lower rates (-o train.rate...)")

    def _note(self, averages: dict[str, Tensor]) -> str:
        held = f"  PSNR {self.latest:.2f} dB held out" if self.latest is not None else ""
        return f"loss {averages['loss']:.4f}  {len(self.model.gaussians)} Gaussians{held}"

    def _evaluate(self, stage: str, step: int, averages: dict[str, Tensor]) -> None:
        figures = evaluate(self.model, self.clip, self.split.validation, stage)
        self.latest = figures["psnr_head"]
        terms = {name: float(term) for name, term in averages.items()}
        self.run.log(stage, step, {**terms, **figures, "gaussians": len(self.model.gaussians)})
        if stage == "fine" and self.latest > self.best:
            self.best = self.latest
            self.run.save("best", self.model.state_dict(), self._state(stage, step))
        if self.plateau.reached(step, self.latest):
            say(f"held-out PSNR has levelled off at {stage} step {step}: the rates fall to their end by step "
                f"{self.plateau.last}")
        self.model.train()

    def _state(self, stage: str, step: int) -> dict[str, Any]:
        return {"stage": stage, "step": step, "best": self.best, "audio_width": self.model.network.audio_width,
                "plateau": self.plateau.state()}

    def _checkpoint(self, stage: str, step: int, optimizer: torch.optim.Optimizer, density: Density,
                    keep: bool) -> None:
        state = self._state(stage, step)
        self.run.save("last", self.model.state_dict(), state, {**optimizer_state(optimizer), **density.state()})
        if keep:
            self.run.save(f"{stage}-{step:06d}", self.model.state_dict(), state)
            write_previews(self.run, self.model, self.clip, self.dataset, self.split, stage, step,
                           self.config.train.preview_seconds)
            self.model.train()


class _Stop:
    """While training, SIGTERM and SIGINT ask for a checkpoint and a clean end instead of killing at once."""

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
            state = {key: flat[f"{group['name']}.{k}.{key}"] for key in ("exp_avg", "exp_avg_sq", "step")
                     if f"{group['name']}.{k}.{key}" in flat}
            if state:
                optimizer.state[parameter] = {key: value.to(parameter.device if key != "step" else "cpu")
                                              for key, value in state.items()}


def fresh_model(config: Config, audio_width: int, points: Tensor, colours: Tensor) -> TalkingHead:
    """An untrained model over a cloud: points [N, 3], colours [N, 3] in [0, 1]."""
    torch.manual_seed(config.train.seed)
    return TalkingHead(config.model, audio_width,
                       CanonicalGaussians.from_points(points, colours, config.model.sh_degree))
