"""After the fine stage: lips that must meet do, in every voice, and in silence; no picture is
rendered for it.

What a frame's sound says is 32 numbers, and for some of them the network shows a shut mouth.
Photometric training leaves the sound nets short of these where p, b and m are said: they hedge, the
more so in voices never heard. Here they are taught once more: everywhere what they said before, but
on the way to the vector of a shut mouth as far as the channel of closure is on
(`audio.articulation`); in the clip's own voice, in variants of it, and beside words of other
moments. A bilabial with open lips is none (Edwards et al. 2016, "JALI").
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from being.audio.articulation import CHANNELS, LOUD, place, told_by
from being.audio.feature_windows import SAMPLES_PER_FRAME, windows
from being.audio.voice_augmentation import voices
from being.console import Progress
from being.conventions import ATTENTION_PAST, ATTENTION_WINDOW, FPS
from being.data.clip import Clip, silent_features
from being.data.dataset import Dataset
from being.face.landmarks import lip_aperture
from being.media import read_audio
from being.model.gaussiantalker import GaussianTalker

VOICES = 4  # variants of the clip's sound that are learnt from besides
SHUT_SHARE = (
    0.03  # of the frames learnt from: those whose vectors say most surely that the mouth is shut
)
RIDGE = 1e-3  # of the reader of vectors, share of their mean variance
# of the way to the shut mouth, where the channel of closure is fully on: the words go the rest
STRENGTH = 0.65
PARTED = 0.5  # of an opening, by which it lessens a closure beside it
SETTLED = (
    0.1,
    0.2,
    0.4,
    0.2,
    0.1,
)  # weights of a frame and its neighbours in what is to be said: no lip jumps
BATCH, RATE = 96, 1e-3
CLOSURES, STRANGE, SILENT = (
    0.4,
    0.4,
    0.05,
)  # shares of a batch: near closures, beside other words, in silence
NEAR = 0.05  # of the channel, from which on a frame is near a closure
PART = 256  # frames that are heard at once
LONGEST = 5 * 60 * FPS  # frames of a clip that are learnt from


def shut_vector(vectors: Tensor, aperture: Tensor) -> Tensor:
    """The speech vector [32] of a shut mouth: the mean of those of frames [F, 32] from which a
    linear reader of the lip aperture [F] reads the least."""
    x, y = vectors - vectors.mean(0), aperture - aperture.mean()
    square = x.T @ x
    weights = torch.linalg.solve(
        square + RIDGE * square.diagonal().mean() * torch.eye(len(square)).to(x), x.T @ y
    )
    return vectors[
        (x @ weights).topk(max(1, round(SHUT_SHARE * len(x))), largest=False).indices
    ].mean(0)


def closing(heard: Tensor, now: int) -> Tensor:
    """How far on the way to a shut mouth the lips are, [B, 1] in 0..STRENGTH, in windows [B, 8, C,
    16] whose frame lies between the steps `now` - 1 and `now` of its own window."""
    closure, opening = (
        heard[:, ATTENTION_PAST, -CHANNELS:, now - 1 : now + 1].mean(2) / LOUD
    ).unbind(1)
    return STRENGTH * (closure - PARTED * opening).clamp(0, 1)[:, None]


class Lesson:
    """What the sound nets of a network are to say at moments of a clip."""

    def __init__(
        self,
        network: GaussianTalker,
        features: Tensor,
        bounds: Tensor,
        train: Tensor,
        aperture: Tensor,
        silence: Tensor,
        now: int,
    ):
        """features: float32 [V, F, 16, C] of the clip's sound in V voices, its own first; bounds:
        int64 [F, 2], as of `Clip`; train: the frames learnt from, int64 [n]; aperture: true lip
        aperture of these, float32 [n]; silence: features float32 [16, C] of digital silence; now:
        as for `closing`."""
        assert features.ndim == 4 and aperture.shape == train.shape, (
            features.shape,
            aperture.shape,
            train.shape,
        )
        self.teacher = nn.ModuleList(
            copy.deepcopy([network.audio_net, network.audio_att_net])
        ).requires_grad_(False)
        self.features, self.now = features.flatten(0, 1), now
        starts = features.shape[1] * torch.arange(features.shape[0], device=bounds.device)
        self.bounds = (bounds + starts[:, None, None]).flatten(0, 1)
        self.rows = (train + starts[:, None]).flatten()
        self.silence = silence.T.expand(ATTENTION_WINDOW, -1, -1)
        own = torch.cat([said(self.teacher, self.hear(part)) for part in train.split(PART)])
        self.shut, self.scale = shut_vector(own, aperture), own.var(0).mean().clamp_min(1e-8)
        near = torch.cat(
            [closing(self.hear(part), now)[:, 0] > NEAR for part in self.rows.split(PART)]
        )
        self.closures = self.rows[near] if near.any() else self.rows

    def hear(self, rows: Tensor) -> Tensor:
        """Windows [B, 8, C, 16] of rows [B] of all voices."""
        return windows(self.features, rows, self.bounds)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows [B, 8, C, 16] and the vectors [B, 32] that are to be made of them."""

        def drawn(among: Tensor, count: int) -> Tensor:
            return among[torch.randint(len(among), (count,), generator=generator).to(among.device)]

        def chance(share: float) -> Tensor:
            return (torch.rand(BATCH, generator=generator) < share).to(self.rows.device)[:, None]

        count = round(CLOSURES * BATCH)
        at = torch.cat([drawn(self.closures, count), drawn(self.rows, BATCH - count)])
        other, strange, silent = drawn(self.rows, BATCH), chance(STRANGE), chance(SILENT)
        target = own = torch.zeros(())
        reach = len(SETTLED) // 2
        for step, weight in zip(range(-reach, reach + 1), SETTLED, strict=True):
            heard, words = (
                self.hear((rows + step).clamp(self.bounds[rows, 0], self.bounds[rows, 1]))
                for rows in (at, other)
            )
            heard[:, :, :-CHANNELS] = torch.where(
                strange[..., None, None], words[:, :, :-CHANNELS], heard[:, :, :-CHANNELS]
            )
            heard = torch.where(silent[..., None, None], self.silence, heard)
            vectors = said(self.teacher, heard)
            way = torch.maximum(closing(heard, self.now), silent.float())
            target = target + weight * vectors.lerp(self.shut, way)
            own = heard if step == 0 else own
        return own, target


@torch.no_grad()
def lesson_of(
    network: GaussianTalker,
    dataset: Dataset,
    clip: Clip,
    frames: np.ndarray,
    encoder: str,
    seed: int,
) -> Lesson | None:
    """The lesson of a network trained on `frames` int64 [n] of a clip; None where features tell no
    closures, or fewer than a second of frames shows a face."""
    count, width = min(len(clip.features), LONGEST), clip.features.shape[2]
    aperture = lip_aperture(dataset.landmarks)
    frames = frames[(frames < count) & np.isfinite(aperture[frames])]
    if not told_by(encoder, width) or len(frames) < FPS:
        return None
    sound = read_audio(dataset.sound_file)[: count * SAMPLES_PER_FRAME]
    sound = np.pad(sound, (0, count * SAMPLES_PER_FRAME - len(sound)))
    segments = [(first, min(stop, count)) for first, stop in dataset.segments if first < count]
    with Progress("other voices"):
        others = torch.from_numpy(voices(sound, segments, encoder, VOICES, seed)).to(clip.features)
    bounds = torch.from_numpy(dataset.bounds[:count].clip(max=count - 1)).to(clip.device)
    index = torch.from_numpy(frames).to(clip.device)
    return Lesson(
        network,
        torch.cat([clip.features[None, :count], others]),
        bounds,
        index,
        torch.from_numpy(aperture[frames]).to(clip.features),
        torch.from_numpy(silent_features(encoder, width)).to(clip.features),
        place(encoder),
    )


def said(nets: nn.ModuleList, heard: Tensor) -> Tensor:
    """Vectors [B, 32] that sound net and attention, `nets`, make of windows [B, 8, C, 16]."""
    return nets[1](nets[0](heard.flatten(0, 1)).unflatten(0, (-1, ATTENTION_WINDOW)))


def close_lips(network: GaussianTalker, lesson: Lesson, steps: int, seed: int = 0) -> float:
    """Teach the network's sound nets the lesson; returns how much of what they are to say they
    explain (R²).
    """
    nets = nn.ModuleList([network.audio_net, network.audio_att_net]).requires_grad_(True)
    optimizer = torch.optim.AdamW(nets.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    explained = 0.0
    for _ in range(steps):
        with torch.no_grad():
            heard, target = lesson.batch(generator)
        loss = (said(nets, heard) - target).square().mean() / lesson.scale
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        explained += (1 - float(loss.detach()) - explained) / 20
    return explained
