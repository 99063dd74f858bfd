"""Adapts the audio network of an imported GaussianTalker to our speech features.

GaussianTalker's audio network reads DeepSpeech features (29 channels a step), which need a network
of their own. The audio network turns a feature window into 32 numbers. On the clip that the
checkpoint was trained on, both kinds of features are known, so an audio network for our features is
fitted to return the same 32 numbers (distillation). All other weights stay unchanged.

A linear map of the features folds into the first convolution of the audio network exactly. Where no
exact map is known, ridge regression gives the map to start from, and Adam then fits the network.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from being.model.gaussiantalker import GaussianTalker
from being.model.tokens import AudioNet

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # shares of the mean variance of a channel
HOLDOUT = 11  # the last 1/11 of the clip is held out
STEPS, BATCH, RATE = 600, 128, 1e-3
SILENCE_WEIGHT = 0.1  # of the loss on a window of zeros
EVALUATION_STEPS = 50  # between two evaluations on the held-out part


def fold_linear_map(network: GaussianTalker, matrix: Tensor) -> GaussianTalker:
    """A network for features x that computes what `network` computes for x @ matrix.

    matrix: [C_in, C_out], C_out the audio width of `network`.
    """
    assert matrix.shape[1] == network.audio_width, (matrix.shape, network.audio_width)
    folded = GaussianTalker(network.config, matrix.shape[0], network.expression_width)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    first = "audio_net.encoder_conv.0.weight"
    state[first] = torch.einsum("oik,ji->ojk", state[first], matrix.to(state[first]))
    folded.load_state_dict(state)
    return folded.train(network.training)


def fit_audio_adapter(
    network: GaussianTalker, source: np.ndarray, target: np.ndarray, seed: int = 0
) -> tuple[GaussianTalker, float]:
    """The network with an audio network for the target features, and its R² on held-out frames.

    source: float32 [F, 16, C_source], the features that `network` was trained on; target: float32
    [F, 16, C_target] of the same frames. R² is the explained share of the variance of the old audio
    network's output.
    """
    assert source.shape[:2] == target.shape[:2] and source.shape[2] == network.audio_width, (
        source.shape,
        target.shape,
    )
    border = len(target) - max(1, len(target) // HOLDOUT)

    # The outputs to match: those of the clip, and of silence.
    with torch.no_grad():
        wanted = network.audio_net(torch.from_numpy(source).transpose(1, 2).contiguous())
        wanted_silence = network.audio_net(torch.zeros(1, source.shape[2], source.shape[1]))
    scale = wanted[:border].var(0).mean().clamp_min(1e-8)

    # Start from the best linear map.
    adapted = fold_linear_map(network, torch.from_numpy(_fit_ridge(source, target, border)))
    net = adapted.audio_net
    windows = torch.from_numpy(target).transpose(1, 2).contiguous()
    silence = torch.zeros_like(windows[:1])
    best_score = explained_variance(net, windows[border:], wanted[border:])
    best_state = copy.deepcopy(net.state_dict())

    # Fit with Adam and keep the weights that are best on the held-out frames.
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    rng = np.random.default_rng(seed)
    for step in range(1, STEPS + 1):
        batch = torch.from_numpy(rng.integers(0, border, min(BATCH, border)))
        loss = nn.functional.mse_loss(net(windows[batch]), wanted[batch]) / scale
        silence_loss = SILENCE_WEIGHT * nn.functional.mse_loss(net(silence), wanted_silence) / scale
        loss = loss + silence_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVALUATION_STEPS == 0:
            score = explained_variance(net, windows[border:], wanted[border:])
            if score > best_score:
                best_score, best_state = score, copy.deepcopy(net.state_dict())
    net.load_state_dict(best_state)
    return adapted, best_score


@torch.no_grad()
def explained_variance(net: AudioNet, windows: Tensor, wanted: Tensor) -> float:
    """R²: the share of the variance of `wanted` [F, 32] that net(windows [F, C, 16]) explains."""
    residual = (net(windows) - wanted).square().sum()
    return float(1 - residual / (wanted - wanted.mean(0)).square().sum().clamp_min(1e-12))


def _fit_ridge(source: np.ndarray, target: np.ndarray, border: int) -> np.ndarray:
    """Matrix float32 [C_target, C_source], target @ matrix ≈ source, by ridge regression.

    It has no constant term. The ridge is the one of RIDGES with the least error on held-out steps.
    """

    def middle_steps(features: np.ndarray) -> np.ndarray:
        middle = features.shape[1] // 2
        steps = features[:, middle - 1 : middle + 1]
        return steps.reshape(-1, features.shape[2]).astype(np.float64)

    x, held_x = middle_steps(target[:border]), middle_steps(target[border:])
    y, held_y = middle_steps(source[:border]), middle_steps(source[border:])
    square, mixed = x.T @ x, x.T @ y
    mean = np.trace(square) / len(square)
    maps = [
        np.linalg.solve(square + (share * mean + 1e-9) * np.eye(len(square)), mixed)
        for share in RIDGES
    ]
    errors = [float(((held_x @ matrix - held_y) ** 2).sum()) for matrix in maps]
    return maps[int(np.argmin(errors))].astype(np.float32)
