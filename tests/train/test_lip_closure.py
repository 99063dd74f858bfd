"""Lip closure distillation: closed lips at closures and in silence, no change elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny_training import settings

from being.audio.articulation import ARTICULATION_CHANNELS, CHANNEL_MAX
from being.config import ModelConfig
from being.model.avatar import load_avatar
from being.model.gaussiantalker import GaussianTalker
from being.train.lip_closure import (
    MAX_CLOSURE,
    ClosureCount,
    LipClosureTargets,
    closed_and_open_vectors,
    closure_amount,
    closure_peaks,
    distil_lip_closure,
    speech_vectors,
)
from being.train.training import train_avatar

FRAMES, STATES, NOW = 160, 6, 8
SMALL = ModelConfig(plane_resolution=8, plane_scales=(1, 2), net_width=16, ffn_hidden=16)


@pytest.fixture(scope="module")
def distilled() -> tuple[GaussianTalker, LipClosureTargets]:
    """A random network after the distillation, and its targets.

    The features are slow noise with a closure every 20 frames.
    """
    torch.manual_seed(0)
    network = GaussianTalker(SMALL, STATES + ARTICULATION_CHANNELS)
    steps = torch.randn(2, 2 * FRAMES + 24, STATES + ARTICULATION_CHANNELS)
    steps[:, 4:-4, :STATES] = steps[:, :, :STATES].unfold(1, 9, 1).mean(-1) * 3
    steps[..., STATES:] = 0
    for at in range(20, FRAMES, 20):
        steps[:, 2 * at + 6 : 2 * at + 11, STATES] = CHANNEL_MAX
    features = torch.stack([steps[:, 2 * i : 2 * i + 16] for i in range(FRAMES)], 1)
    bounds = torch.tensor([[0, FRAMES - 1]]).expand(FRAMES, 2)
    train = torch.arange(120)
    with torch.no_grad():
        rows: Any = _Rows(features, bounds)
        vectors = network.speech_vector(LipClosureTargets.windows(rows, train))
        aperture = (vectors @ torch.randn(32)).float()
        targets = LipClosureTargets(
            network,
            features,
            bounds,
            train,
            aperture,
            torch.full((16, STATES + ARTICULATION_CHANNELS), 0.5),
            NOW,
        )
    distil_lip_closure(network, targets, 100)
    return network, targets


class _Rows:
    """The attributes that `LipClosureTargets.windows` reads, for the first voice only."""

    def __init__(self, features: torch.Tensor, bounds: torch.Tensor):
        self.features, self.bounds = features[0], bounds


def test_the_closed_and_the_open_vector_are_means_of_the_most_closed_and_open() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(200, 32)
    aperture = vectors @ torch.linspace(-1, 1, 32)
    order = aperture.argsort()
    both = closed_and_open_vectors(vectors, aperture)
    for found, extreme in zip(both, (order[:6], order[-6:]), strict=True):
        mean = vectors[extreme].mean(0)
        assert torch.nn.functional.cosine_similarity(found, mean, dim=0) > 0.9
    closed, opened = (vector @ torch.linspace(-1, 1, 32) for vector in both)
    assert closed < aperture.quantile(0.05) and opened > aperture.quantile(0.95)


def test_a_closure_is_counted_once_at_its_surest_frame() -> None:
    frames = torch.tensor([0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 20])
    amount = MAX_CLOSURE * torch.tensor([0.6, 0.9, 0.7, 0.4, 0.0, 0.6, 0.8, 0.9, 1, 0.2, 0.45])
    # Frames 0 to 2, 5 and 6, 9 and 10; frame 20 is unsure.
    assert closure_peaks(amount, frames).tolist() == [1, 6, 8]
    assert closure_peaks(0 * amount, frames).tolist() == []


def test_the_learnt_closures_are_those_nearer_to_the_closed_mouth(distilled, monkeypatch) -> None:
    network, targets = distilled
    nets = torch.nn.ModuleList([network.audio_net, network.audio_att_net])
    assert [round(int(row) / 20) for row in targets.peaks] == [1, 2, 3, 4, 5]
    assert targets.count_learnt(nets) == ClosureCount(5, 5)

    # Vectors between the closed (0) and the open (1) mouth: three are nearer to the closed one.
    way = torch.tensor([0.0, 0.4, 0.45, 0.6, 1.0])[:, None]
    vectors = targets.closed_vector.lerp(targets.open_vector, way)
    monkeypatch.setattr("being.train.lip_closure.speech_vectors", lambda *_: vectors)
    assert targets.count_learnt(nets) == ClosureCount(3, 5)


def test_the_distillation_shows_its_progress(distilled, capsys: pytest.CaptureFixture[str]) -> None:
    network, targets = distilled
    distil_lip_closure(copy.deepcopy(network), targets, 3)
    assert capsys.readouterr().err.startswith("lip closure  3/3 steps  0:0")


def test_the_closure_amount_is_limited_and_an_opening_beside_it_reduces_it() -> None:
    audio = torch.zeros(3, 8, STATES + ARTICULATION_CHANNELS, 16)
    audio[1:, 4, STATES, NOW - 1 : NOW + 1] = CHANNEL_MAX
    audio[2, 4, STATES + 1, NOW - 1 : NOW + 1] = CHANNEL_MAX
    assert closure_amount(audio, NOW)[:, 0].tolist() == pytest.approx(
        [0, MAX_CLOSURE, MAX_CLOSURE / 2]
    )


def test_new_frames_close_at_closures_and_keep_their_vectors_elsewhere(
    distilled,
) -> None:
    network, targets = distilled
    test = torch.arange(122, 158)
    with torch.no_grad():
        audio = targets.windows(test)
        before, after, amount = (
            speech_vectors(targets.teacher, audio),
            network.speech_vector(audio),
            closure_amount(audio, NOW)[:, 0],
        )
    left = (after - targets.closed_vector).norm(dim=1) / (before - targets.closed_vector).norm(
        dim=1
    )
    full = amount > 0.9 * MAX_CLOSURE
    assert left[full].max() < 0.8 and full.sum() == 2
    change = (after - before).square().mean(1) / targets.variance
    assert change[amount == 0].mean() < 0.15
    assert network.audio_mlp.net[0].weight.requires_grad  # type: ignore[union-attr]


def test_a_closure_closes_in_any_context_and_silence_closes(distilled) -> None:
    network, targets = distilled
    at = torch.tensor([140])
    with torch.no_grad():
        audio = targets.windows(at)
        for other in (30, 55, 97):
            swapped = audio.clone()
            swapped[:, :, :STATES] = targets.windows(torch.tensor([other]))[:, :, :STATES]
            before, after = speech_vectors(targets.teacher, swapped), network.speech_vector(swapped)
            assert (after - targets.closed_vector).norm() < 0.8 * (
                before - targets.closed_vector
            ).norm()
        silent = network.speech_vector(targets.silence[None])
    assert (silent - targets.closed_vector).square().mean() / targets.variance < 0.1


def test_the_avatar_is_built_from_the_distilled_network_and_best_stays(
    scene, tmp_path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "network.audio_mlp.net.0.weight"

    def close(network: GaussianTalker, targets: object, steps: int, seed: int) -> ClosureCount:
        with torch.no_grad():
            network.get_parameter(key.removeprefix("network.")).add_(0.5)
        return ClosureCount(27, 30)

    targets: list[object] = [object(), None]
    monkeypatch.setattr("being.train.training.lip_closure_targets", lambda *_: targets.pop(0))
    monkeypatch.setattr("being.train.training.distil_lip_closure", close)
    run = train_avatar(
        scene, settings(2, 4, "train.checkpoint_every=2"), runs=tmp_path, fresh=True, device="cpu"
    )
    printed = capsys.readouterr().out
    assert "lip closures learnt: 27 of 30 (p, b, m in the training audio)\n" in printed
    name, chosen = run.avatar_checkpoint()  # type: ignore[misc]
    best, shown = run.load("best"), load_avatar(run.path).model.state_dict()
    assert best is not None and name == "closed" and chosen.state == best.state
    assert torch.allclose(chosen.model[key], best.model[key] + 0.5)
    assert torch.equal(shown[key].cpu(), chosen.model[key])
    # Without targets the same run is built from `best`, and nothing is said of closures.
    again = train_avatar(None, settings(2, 4), run=run.path, device="cpu")
    assert "lip closure" not in capsys.readouterr().out
    assert again.avatar_checkpoint()[0] == "best"  # type: ignore[index]
