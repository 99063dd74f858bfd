"""The sound net of an imported avatar taught to hear our speech features: every other weight stays
the reference's.

GaussianTalker hears DeepSpeech (29 numbers a step), which needs its own graph. What the sound net
makes of a window is 32 numbers; on the clip the avatar was trained on both kinds of features are
known, so a net for ours is fitted to make the same 32 numbers. A linear map of the features folds
into the net's first convolution exactly; where no exact map is known it is the start, found by
ridge regression, and the net is then fitted by Adam.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from being.model.gaussiantalker import GaussianTalker
from being.model.tokens import AudioNet

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # shares of the mean variance of a channel
HELD = 11  # the last 1/11 of the clip is held out
STEPS, BATCH, RATE = 600, 128, 1e-3
EVERY = 50  # steps between looks at the held-out part


def fold(network: GaussianTalker, matrix: Tensor) -> GaussianTalker:
    """The same network behind a linear map of the features: matrix [C_ours, C_theirs], features @
    matrix are theirs.
    """
    assert matrix.shape[1] == network.audio_width, (matrix.shape, network.audio_width)
    folded = GaussianTalker(network.config, matrix.shape[0], network.expression_width)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    first = "audio_net.encoder_conv.0.weight"
    state[first] = torch.einsum("oik,ji->ojk", state[first], matrix.to(state[first]))
    folded.load_state_dict(state)
    return folded.train(network.training)


def teach(
    network: GaussianTalker, theirs: np.ndarray, ours: np.ndarray, seed: int = 0
) -> tuple[GaussianTalker, float]:
    """The network with a sound net for our features, and how much of what the old one says it
    explains (R², held out).

    theirs: float32 [F, 16, C_theirs], ours: float32 [F, 16, C_ours], of the same frames.
    """
    assert theirs.shape[:2] == ours.shape[:2] and theirs.shape[2] == network.audio_width, (
        theirs.shape,
        ours.shape,
    )
    border = len(ours) - max(1, len(ours) // HELD)
    with torch.no_grad():
        target = network.audio_net(torch.from_numpy(theirs).transpose(1, 2).contiguous())
        silent = network.audio_net(torch.zeros(1, theirs.shape[2], theirs.shape[1]))
    taught = fold(network, torch.from_numpy(_ridge(theirs, ours, border)))
    net = taught.audio_net
    windows = torch.from_numpy(ours).transpose(1, 2).contiguous()
    best, kept = explained(net, windows[border:], target[border:]), copy.deepcopy(net.state_dict())
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    order = np.random.default_rng(seed)
    scale = target[:border].var(0).mean().clamp_min(1e-8)
    nothing = torch.zeros_like(windows[:1])
    for step in range(1, STEPS + 1):
        at = torch.from_numpy(order.integers(0, border, min(BATCH, border)))
        loss = nn.functional.mse_loss(net(windows[at]), target[at]) / scale
        loss = loss + 0.1 * nn.functional.mse_loss(net(nothing), silent) / scale
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            score = explained(net, windows[border:], target[border:])
            if score > best:
                best, kept = score, copy.deepcopy(net.state_dict())
    net.load_state_dict(kept)
    return taught, best


@torch.no_grad()
def explained(net: AudioNet, windows: Tensor, target: Tensor) -> float:
    """Share of the variance of `target` [F, 32] that the net's vectors of `windows` [F, C, 16]
    explain.
    """
    left = (net(windows) - target).square().sum()
    return float(1 - left / (target - target.mean(0)).square().sum().clamp_min(1e-12))


def _ridge(theirs: np.ndarray, ours: np.ndarray, border: int) -> np.ndarray:
    """Matrix float32 [C_ours, C_theirs]: the map without a constant that predicts held-out steps
    best.
    """

    def steps(features: np.ndarray) -> np.ndarray:
        middle = features.shape[1] // 2
        return (
            features[:, middle - 1 : middle + 1].reshape(-1, features.shape[2]).astype(np.float64)
        )

    x, y, held_x, held_y = (
        steps(ours[:border]),
        steps(theirs[:border]),
        steps(ours[border:]),
        steps(theirs[border:]),
    )
    square, mixed = x.T @ x, x.T @ y
    mean = np.trace(square) / len(square)
    maps = [
        np.linalg.solve(square + (share * mean + 1e-9) * np.eye(len(square)), mixed)
        for share in RIDGES
    ]
    errors = [float(((held_x @ matrix - held_y) ** 2).sum()) for matrix in maps]
    return maps[int(np.argmin(errors))].astype(np.float32)
