"""Closing: sound nets learn to say "shut" where lips must meet and in silence, and what they said
before elsewhere.
"""

from __future__ import annotations

import pytest
import torch
from tiny_training import settings

from being.audio.articulation import CHANNELS, LOUD
from being.config import ModelConfig
from being.model.avatar import load_avatar
from being.model.gaussiantalker import GaussianTalker
from being.train.lip_closure import STRENGTH, Lesson, close_lips, closing, said, shut_vector
from being.train.training import train

FRAMES, STATES, NOW = 160, 6, 8
SMALL = ModelConfig(plane_resolution=8, plane_scales=(1, 2), net_width=16, ffn_hidden=16)


@pytest.fixture(scope="module")
def taught() -> tuple[GaussianTalker, Lesson]:
    """A network of random weights, taught on slow noise with a closure every 20 frames; and the
    lesson.
    """
    torch.manual_seed(0)
    network = GaussianTalker(SMALL, STATES + CHANNELS)
    steps = torch.randn(2, 2 * FRAMES + 24, STATES + CHANNELS)
    steps[:, 4:-4, :STATES] = steps[:, :, :STATES].unfold(1, 9, 1).mean(-1) * 3
    steps[..., STATES:] = 0
    for at in range(20, FRAMES, 20):
        steps[:, 2 * at + 6 : 2 * at + 11, STATES] = LOUD
    features = torch.stack([steps[:, 2 * i : 2 * i + 16] for i in range(FRAMES)], 1)
    bounds = torch.tensor([[0, FRAMES - 1]]).expand(FRAMES, 2)
    train = torch.arange(120)
    with torch.no_grad():
        vectors = network.speech_vector(Lesson.hear(_Rows(features, bounds), train))  # type: ignore[arg-type]
        aperture = (vectors @ torch.randn(32)).float()
        lesson = Lesson(
            network,
            features,
            bounds,
            train,
            aperture,
            torch.full((16, STATES + CHANNELS), 0.5),
            NOW,
        )
    assert close_lips(network, lesson, 150) > 0.8
    return network, lesson


class _Rows:
    """What `Lesson.hear` reads, of the first voice alone."""

    def __init__(self, features: torch.Tensor, bounds: torch.Tensor):
        self.features, self.bounds = features[0], bounds


def test_a_shut_mouth_is_the_mean_of_what_is_read_as_most_shut() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(200, 32)
    aperture = vectors @ torch.linspace(-1, 1, 32)
    shut = shut_vector(vectors, aperture)
    lowest = vectors[aperture.argsort()[:6]].mean(0)
    assert torch.nn.functional.cosine_similarity(shut, lowest, dim=0) > 0.9
    assert shut @ torch.linspace(-1, 1, 32) < aperture.quantile(0.05)


def test_a_closure_goes_its_strength_of_the_way_and_an_opening_beside_it_lessens_it() -> None:
    heard = torch.zeros(3, 8, STATES + CHANNELS, 16)
    heard[1:, 4, STATES, NOW - 1 : NOW + 1] = LOUD
    heard[2, 4, STATES + 1, NOW - 1 : NOW + 1] = LOUD
    assert closing(heard, NOW)[:, 0].tolist() == pytest.approx([0, STRENGTH, STRENGTH / 2])


def test_frames_never_learnt_from_close_at_closures_and_say_elsewhere_what_they_said(
    taught,
) -> None:
    network, lesson = taught
    test = torch.arange(122, 158)
    with torch.no_grad():
        heard = lesson.hear(test)
        before, after, way = (
            said(lesson.teacher, heard),
            network.speech_vector(heard),
            closing(heard, NOW)[:, 0],
        )
    left = (after - lesson.shut).norm(dim=1) / (before - lesson.shut).norm(dim=1)
    full = way > 0.9 * STRENGTH
    assert left[full].max() < 0.8 and full.sum() == 2
    apart = (after - before).square().mean(1) / lesson.scale
    assert apart[way == 0].mean() < 0.15
    assert network.audio_mlp.net[0].weight.requires_grad  # type: ignore[union-attr]


def test_other_words_beside_a_closure_change_nothing_of_it_and_silence_shuts(taught) -> None:
    network, lesson = taught
    at = torch.tensor([140])
    with torch.no_grad():
        heard = lesson.hear(at)
        for other in (30, 55, 97):
            strange = heard.clone()
            strange[:, :, :STATES] = lesson.hear(torch.tensor([other]))[:, :, :STATES]
            before, after = said(lesson.teacher, strange), network.speech_vector(strange)
            assert (after - lesson.shut).norm() < 0.8 * (before - lesson.shut).norm()
        silent = network.speech_vector(lesson.silence[None])
    assert (silent - lesson.shut).square().mean() / lesson.scale < 0.1


def test_the_avatar_is_made_of_the_closed_network_and_best_stays_as_it_was(
    scene, tmp_path, monkeypatch
) -> None:
    key = "network.audio_mlp.net.0.weight"

    def close(network: GaussianTalker, lesson: object, steps: int, seed: int) -> float:
        with torch.no_grad():
            network.get_parameter(key.removeprefix("network.")).add_(0.5)
        return 1.0

    taught: list[object] = [object(), None]
    monkeypatch.setattr("being.train.training.lesson_of", lambda *_: taught.pop(0))
    monkeypatch.setattr("being.train.training.close_lips", close)
    run = train(
        scene, settings(2, 4, "train.checkpoint_every=2"), runs=tmp_path, fresh=True, device="cpu"
    )
    name, chosen = run.chosen()  # type: ignore[misc]
    best, shown = run.load("best"), load_avatar(run.path).model.state_dict()
    assert best is not None and name == "closed" and chosen.state == best.state
    assert torch.allclose(chosen.model[key], best.model[key] + 0.5)
    assert torch.equal(shown[key].cpu(), chosen.model[key])
    again = train(
        None, settings(2, 4), run=run.path, device="cpu"
    )  # where nothing can be taught any more
    assert again.chosen()[0] == "best"  # type: ignore[index]
