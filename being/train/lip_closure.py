"""Lip closure distillation: the audio branch learns to close the lips on p, b, m and in silence.

It runs after the fine stage and renders no image. The audio of a frame becomes a speech vector of
32 numbers, and for some vectors the network shows a closed mouth. After training on images, the
vectors of p, b and m lie too far from these: the audio branch hedges, and more so for voices that
it has not trained on. Here it is trained once more, with its own state as the teacher. The target
is the teacher's vector, moved towards the vector of a closed mouth by as much as the closure
channel is on (`audio.articulation`). The inputs are the clip's own audio, variants of it in other
voices, and mixtures with the speech of other frames. A bilabial with open lips is none (Edwards et
al. 2016, "JALI").
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from being.audio.articulation import (
    ARTICULATION_CHANNELS,
    CHANNEL_MAX,
    frame_time_step,
    has_articulation,
)
from being.audio.feature_windows import attention_windows
from being.audio.voice_augmentation import augmented_features
from being.console import Progress
from being.conventions import ATTENTION_PAST, ATTENTION_WINDOW, FPS
from being.data.clip import Clip, silence_features
from being.data.dataset import Dataset
from being.face.landmarks import lip_aperture
from being.model.gaussiantalker import GaussianTalker

VARIANTS = 4  # variants of the clip's audio, beside the original
MAX_FRAMES = 5 * 60 * FPS  # only the first frames of a longer clip are used

# The closed mouth
CLOSED_SHARE = 0.03  # of the training frames: those that read as the most closed
RIDGE = 1e-3  # of the linear readout of the aperture, as a share of the mean variance
# How far the target moves to the closed mouth where the closure channel is fully on. The other
# channels of the audio move it the rest of the way.
MAX_CLOSURE = 0.65
OPENING_WEIGHT = 0.5  # how much an opening reduces a closure next to it

# Weights of a frame and its neighbours in the target. The mean keeps the lips from jumping.
SMOOTHING = (0.1, 0.2, 0.4, 0.2, 0.1)

# Training
BATCH_SIZE = 96
LEARNING_RATE = 1e-3
CLOSURE_SHARE = 0.4  # of a batch: frames near a closure
SWAPPED_SHARE = 0.4  # of a batch: frames with the speech of another frame
SILENT_SHARE = 0.05  # of a batch: silence
NEAR_CLOSURE = 0.05  # closure amount from which on a frame is near a closure
CHUNK = 256  # frames that are computed at once

# The count of learnt closures
SURE_CLOSURE = 0.5 * MAX_CLOSURE  # closure amount from which on a frame surely belongs to a closure


@dataclass
class ClosureCount:
    """How many closures (p, b, m) of the training audio the audio branch has learnt."""

    learnt: int
    total: int


def closed_and_open_vectors(vectors: Tensor, aperture: Tensor) -> tuple[Tensor, Tensor]:
    """The speech vectors [32] of a closed and of an open mouth.

    A ridge regression reads the lip aperture [F] from the speech vectors [F, 32]. The results are
    the means of the vectors with the lowest and with the highest predicted aperture.
    """
    x, y = vectors - vectors.mean(0), aperture - aperture.mean()
    square = x.T @ x
    ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square)).to(x)
    weights = torch.linalg.solve(square + ridge, x.T @ y)
    count = max(1, round(CLOSED_SHARE * len(x)))
    predicted = x @ weights
    closed = vectors[predicted.topk(count, largest=False).indices].mean(0)
    return closed, vectors[predicted.topk(count).indices].mean(0)


def closure_amount(audio: Tensor, now: int) -> Tensor:
    """How far the lips are on the way to a closed mouth, [B, 1] in 0 to MAX_CLOSURE.

    audio: attention windows [B, 8, C, 16]. A frame lies between the steps `now` - 1 and `now` of
    its own feature window.
    """
    channels = audio[:, ATTENTION_PAST, -ARTICULATION_CHANNELS:, now - 1 : now + 1].mean(2)
    closure, opening = (channels / CHANNEL_MAX).unbind(1)
    return MAX_CLOSURE * (closure - OPENING_WEIGHT * opening).clamp(0, 1)[:, None]


def closure_peaks(amount: Tensor, frames: Tensor) -> Tensor:
    """Positions int64 [P] of the surest frame of each closure.

    amount: closure amount [n] of the frames int64 [n], in order. A closure is a row of consecutive
    frames that surely belong to one.
    """
    peaks: list[int] = []
    last = None
    for i, (value, frame) in enumerate(zip(amount.tolist(), frames.tolist(), strict=True)):
        if value < SURE_CLOSURE:
            continue
        if last is None or frame != last + 1:
            peaks.append(i)
        elif value > amount[peaks[-1]]:
            peaks[-1] = i
        last = frame
    return torch.tensor(peaks, dtype=torch.int64, device=amount.device)


class LipClosureTargets:
    """Inputs and target speech vectors of the distillation, for the frames of one clip."""

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
        """features: float32 [V, F, 16, C] of the clip's audio in V voices, the original first;
        bounds: int64 [F, 2], as in `Clip`; train: training frames, int64 [n]; aperture: their true
        lip aperture, float32 [n]; silence: features float32 [16, C] of digital silence; now: as in
        `closure_amount`."""
        assert features.ndim == 4, features.shape
        assert aperture.shape == train.shape, (aperture.shape, train.shape)
        self.now = now
        nets = copy.deepcopy([network.audio_net, network.audio_att_net])
        self.teacher = nn.ModuleList(nets).requires_grad_(False)

        # All voices one after the other; a row is a frame in a voice.
        self.features = features.flatten(0, 1)
        voices, frames = features.shape[:2]
        starts = frames * torch.arange(voices, device=bounds.device)
        self.bounds = (bounds + starts[:, None, None]).flatten(0, 1)
        self.rows = (train + starts[:, None]).flatten()
        self.silence = silence.T.expand(ATTENTION_WINDOW, -1, -1)

        # The closed and the open mouth, and the variance of the vectors, from the original voice
        vectors = [speech_vectors(self.teacher, self.windows(p)) for p in train.split(CHUNK)]
        original = torch.cat(vectors)
        self.closed_vector, self.open_vector = closed_and_open_vectors(original, aperture)
        self.variance = original.var(0).mean().clamp_min(1e-8)

        # Rows near a closure; all rows when there are none
        amounts = [closure_amount(self.windows(p), now)[:, 0] for p in self.rows.split(CHUNK)]
        amount = torch.cat(amounts)
        near = amount > NEAR_CLOSURE
        self.closure_rows = self.rows[near] if near.any() else self.rows

        # The closures of the original voice, whose rows come first
        self.peaks = train[closure_peaks(amount[: len(train)], train)]

    def windows(self, rows: Tensor) -> Tensor:
        """Attention windows [B, 8, C, 16] of the rows [B] of all voices."""
        return attention_windows(self.features, rows, self.bounds)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random batch: attention windows [B, 8, C, 16] and their target vectors [B, 32]."""

        def draw(rows: Tensor, count: int) -> Tensor:
            return rows[torch.randint(len(rows), (count,), generator=generator).to(rows.device)]

        def draw_share(share: float) -> Tensor:
            drawn = torch.rand(BATCH_SIZE, generator=generator) < share
            return drawn.to(self.rows.device)[:, None]

        # Which frames, whose speech is mixed in, and which are silent
        near_count = round(CLOSURE_SHARE * BATCH_SIZE)
        near = draw(self.closure_rows, near_count)
        frames = torch.cat([near, draw(self.rows, BATCH_SIZE - near_count)])
        others = draw(self.rows, BATCH_SIZE)
        swapped, silent = draw_share(SWAPPED_SHARE), draw_share(SILENT_SHARE)

        # The target is a weighted mean over the frame and its neighbours.
        target = windows = torch.zeros(())
        reach = len(SMOOTHING) // 2
        for step, weight in zip(range(-reach, reach + 1), SMOOTHING, strict=True):
            audio, other = (
                self.windows((rows + step).clamp(self.bounds[rows, 0], self.bounds[rows, 1]))
                for rows in (frames, others)
            )

            # A swapped frame keeps its articulation channels and gets all others from elsewhere.
            speech = slice(None, -ARTICULATION_CHANNELS)
            audio[:, :, speech] = torch.where(
                swapped[..., None, None], other[:, :, speech], audio[:, :, speech]
            )
            audio = torch.where(silent[..., None, None], self.silence, audio)

            vectors = speech_vectors(self.teacher, audio)
            amount = torch.maximum(closure_amount(audio, self.now), silent.float())
            target = target + weight * vectors.lerp(self.closed_vector, amount)
            if step == 0:
                windows = audio
        return windows, target

    @torch.no_grad()
    def count_learnt(self, nets: nn.ModuleList) -> ClosureCount:
        """The closures at which the speech vector is nearer to the closed than to the open mouth.

        nets: the audio network and its attention.
        """
        learnt = 0
        for rows in self.peaks.split(CHUNK):
            vectors = speech_vectors(nets, self.windows(rows))
            to_closed, to_open = (
                (vectors - mouth).norm(dim=1) for mouth in (self.closed_vector, self.open_vector)
            )
            learnt += int((to_closed < to_open).sum())
        return ClosureCount(learnt, len(self.peaks))


@torch.no_grad()
def lip_closure_targets(
    network: GaussianTalker,
    dataset: Dataset,
    clip: Clip,
    frames: np.ndarray,
    encoder: str,
    seed: int,
) -> LipClosureTargets | None:
    """The distillation targets of a network that was trained on `frames` int64 [n] of a clip.

    None when the features have no articulation channels, or when fewer than a second of the frames
    shows a face.
    """
    count, width = min(len(clip.features), MAX_FRAMES), clip.features.shape[2]
    aperture = lip_aperture(dataset.landmarks)
    frames = frames[(frames < count) & np.isfinite(aperture[frames])]
    if not has_articulation(encoder, width) or len(frames) < FPS:
        return None

    # Features of the audio in other voices
    segments = [(first, min(stop, count)) for first, stop in dataset.segments if first < count]
    with Progress("lip closure: other voices"):
        variants = augmented_features(dataset.audio(count), segments, encoder, VARIANTS, seed)
    features = torch.cat(
        [clip.features[None, :count], torch.from_numpy(variants).to(clip.features)]
    )

    return LipClosureTargets(
        network,
        features,
        bounds=torch.from_numpy(dataset.bounds[:count].clip(max=count - 1)).to(clip.device),
        train=torch.from_numpy(frames).to(clip.device),
        aperture=torch.from_numpy(aperture[frames]).to(clip.features),
        silence=torch.from_numpy(silence_features(encoder, width)).to(clip.features),
        now=frame_time_step(encoder),
    )


def speech_vectors(nets: nn.ModuleList, windows: Tensor) -> Tensor:
    """Speech vectors [B, 32] of attention windows [B, 8, C, 16].

    nets: the audio network and its attention.
    """
    audio_net, attention = nets
    return attention(audio_net(windows.flatten(0, 1)).unflatten(0, (-1, ATTENTION_WINDOW)))


def distil_lip_closure(
    network: GaussianTalker, targets: LipClosureTargets, steps: int, seed: int = 0
) -> ClosureCount:
    """Train the network's audio branch on `targets`; returns the closures that it has learnt."""
    nets = nn.ModuleList([network.audio_net, network.audio_att_net]).requires_grad_(True)
    optimizer = torch.optim.AdamW(nets.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    with Progress("lip closure", steps, "steps") as progress:
        for _ in range(steps):
            with torch.no_grad():
                windows, target = targets.batch(generator)
            loss = (speech_vectors(nets, windows) - target).square().mean() / targets.variance
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.advance()
    return targets.count_learnt(nets)
