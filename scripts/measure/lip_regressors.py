"""Regressors that predict lip aperture from speech features, for the measurements.

The input of a frame is the 30 feature steps of the network's eight windows (steps 2 i - 16 to
2 i + 13). There are two regressors: ridge regression, and a small convolutional network (48
channels, dropout, mean of several seeds). The figure is the correlation of predicted and true
aperture on frames that were not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from being.conventions import (
    ATTENTION_PAST,
    ATTENTION_WINDOW,
    FEATURE_WINDOW,
    STEPS_PER_FRAME,
)
from being.data.dataset import Dataset
from being.face.landmarks import lip_aperture

PAST = STEPS_PER_FRAME * ATTENTION_PAST + FEATURE_WINDOW // 2  # steps before the frame's time
SPAN = STEPS_PER_FRAME * (ATTENTION_WINDOW - 1) + FEATURE_WINDOW  # steps in all
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # times the kernel's mean
CHANNELS, DROPOUT, EPOCHS, BATCH, RATE = 48, 0.3, 30, 64, 2e-3
NOISE = 0.3  # standard deviations, added to the features while a net learns


@dataclass
class Footage:
    """Sound and lips of a dataset."""

    name: str
    sound: np.ndarray  # float32 [640 F] at 16 kHz
    aperture: np.ndarray  # float32 [F], lip aperture less its mean, over its deviation
    raw: np.ndarray  # float32 [F], lip aperture over the outer-eye distance

    @classmethod
    def of(cls, folder: Path) -> Footage:
        """The dataset at `folder`."""
        dataset = Dataset.open(folder)
        raw = lip_aperture(dataset.landmarks)
        raw = np.where(np.isfinite(raw), raw, np.nanmean(raw))
        sound = dataset.audio()
        return cls(dataset.name, sound, ((raw - raw.mean()) / raw.std()).astype(np.float32), raw)

    def split(self, share: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
        """Frames to learn from, and the last `share` of the clip."""
        frames = np.arange(len(self.aperture))
        border = round(len(frames) * (1 - share))
        return frames[:border], frames[border:]


def frame_windows(steps: np.ndarray, frames: int, shift: int = 0) -> np.ndarray:
    """Steps 2 i - 16 to 2 i + 13 of every frame, less the shift, float32 [F, 30, C], of steps [S,
    C]; zeros outside.
    """
    rows = np.pad(
        steps, ((PAST + shift, max(0, STEPS_PER_FRAME * frames + SPAN - PAST - len(steps))), (0, 0))
    )
    view = np.lib.stride_tricks.sliding_window_view(rows, SPAN, axis=0)[::STEPS_PER_FRAME][:frames]
    return view.transpose(0, 2, 1)


@dataclass
class Scale:
    """Mean and deviation of each channel over the training steps."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, windows: np.ndarray) -> Scale:
        """Of windows [F, 30, C]."""
        flat = windows[:, PAST : PAST + STEPS_PER_FRAME].reshape(-1, windows.shape[2])
        return cls(flat.mean(0), flat.std(0) + 1e-6)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        return ((windows - self.mean) / self.deviation).astype(np.float32)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; 0 where one is constant."""
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 1e-9 and y.std() > 1e-9 else 0.0


class Ridge:
    """Ridge regression on windows; the last fifth of its training data selects the penalty."""

    def __init__(self, windows: np.ndarray, target: np.ndarray):
        self.scale = Scale.of(windows)
        x = self.scale(windows).reshape(len(windows), -1).astype(np.float64)
        self.offset, border = target.mean(), len(x) * 4 // 5
        y = target - self.offset
        kernel = x @ x.T
        mean = np.trace(kernel) / len(kernel)
        scores = [
            correlation(
                kernel[border:, :border] @ _solve(kernel[:border, :border], y[:border], r * mean),
                y[border:],
            )
            for r in RIDGES
        ]
        self.weights = x.T @ _solve(kernel, y, RIDGES[int(np.argmax(scores))] * mean)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Predicted aperture [F]."""
        return self.scale(windows).reshape(len(windows), -1) @ self.weights + self.offset


def _solve(kernel: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(kernel + penalty * np.eye(len(kernel)), y)


class Net:
    """Mean of small convolutional networks, one for each seed.

    windows: [F, 30, C], or [V, F, 30, C] of the same words in V voices; each training sample uses
    one of them at random.
    """

    def __init__(self, windows: np.ndarray, target: np.ndarray, seeds: Sequence[int] = (0, 1, 2)):
        voices = windows if windows.ndim == 4 else windows[None]
        self.scale = Scale.of(voices.reshape(-1, *voices.shape[2:]))
        x = torch.from_numpy(self.scale(voices)).transpose(2, 3).contiguous()
        self.readers = [_learn(x, torch.from_numpy(target), seed) for seed in seeds]

    @torch.no_grad()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Predicted aperture [F]."""
        x = torch.from_numpy(self.scale(windows)).transpose(1, 2).contiguous()
        return torch.stack([reader(x)[:, 0] for reader in self.readers]).mean(0).numpy()


def _learn(x: Tensor, y: Tensor, seed: int) -> nn.Module:
    """A reader of x [V, F, C, 30] that predicts y [F]."""
    torch.manual_seed(seed)
    reader = nn.Sequential(
        nn.Conv1d(x.shape[2], CHANNELS, 1),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        nn.Conv1d(CHANNELS, CHANNELS, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        nn.Conv1d(CHANNELS, CHANNELS, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Flatten(),
        nn.Dropout(DROPOUT),
        nn.Linear(CHANNELS * -(-SPAN // 4), 1),
    )
    steps = EPOCHS * -(-x.shape[1] // BATCH)
    optimizer = torch.optim.AdamW(reader.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        at = torch.randint(x.shape[1], (BATCH,), generator=order)
        sample = x[torch.randint(len(x), (BATCH,), generator=order), at]
        sample = sample + NOISE * torch.randn(sample.shape, generator=order)
        loss = (reader(sample)[:, 0] - y[at]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return reader.eval()
