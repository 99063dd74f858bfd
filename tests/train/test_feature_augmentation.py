"""Sound that is never heard twice alike while training, and sound nets that learn slower than what
follows them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_training import settings

from being.config import RateConfig
from being.data.clip import load_clip
from being.data.dataset import Dataset
from being.train import step as step_module
from being.train.audio_warmup import warm_up_sound
from being.train.density import Density
from being.train.feature_augmentation import CHANNELS_LOST, NOISE, WINDOWS_LOST, disturb
from being.train.initial_points import initial_cloud
from being.train.objective import Objective
from being.train.optimizer import make_optimizer, set_rates
from being.train.step import Step
from being.train.trainer import fresh_model


def test_what_is_lost_is_lost_in_the_shares_that_are_said():
    heard = disturb(torch.full((2000, 8, 12, 16), 5.0), torch.Generator().manual_seed(0))
    gone = heard == 0
    windows, channels = gone.all(3).all(2), gone.all(3).all(1)
    assert set(windows.sum(1).tolist()) == {0, 1}, "at most one window of a frame"
    assert windows.any(1).float().mean() == pytest.approx(WINDOWS_LOST, abs=0.04)
    assert (windows.float().mean(0) - WINDOWS_LOST / 8).abs().max() < 0.03, "each window as often"
    assert channels.float().mean() == pytest.approx(CHANNELS_LOST, abs=0.01)
    assert (gone == (windows[:, :, None] | channels[:, None])[..., None]).all(), (
        "nothing else is zero"
    )
    kept = heard[~gone]
    assert kept.mean() == pytest.approx(5, abs=0.01) and kept.std() == pytest.approx(
        NOISE, abs=0.01
    )


def test_it_is_drawn_by_the_generator_that_is_given_or_else_by_the_devices():
    audio = torch.randn(3, 8, 5, 16)
    one, two = (disturb(audio, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(
        one, disturb(audio, torch.Generator().manual_seed(5))
    )
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(disturb(audio))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    "stage, wanted, times", [("fine", True, 3), ("fine", False, 0), ("coarse", True, 0)]
)
def test_the_fine_stage_hears_disturbed_sound_where_it_is_asked_for(
    scene: Path, monkeypatch, stage, wanted, times
):
    calls, heard = [], []
    monkeypatch.setattr(
        step_module,
        "disturb",
        lambda audio: calls.append(audio.shape) or torch.full_like(audio, 7.0),
    )
    config, dataset, clip = (
        settings(3, 3, f"train.disturb={wanted}"),
        Dataset.open(scene),
        load_clip(Dataset.open(scene), 48, "hama"),
    )
    frames = dataset.split().train
    points, colours = initial_cloud(dataset, clip, frames, config.data.gaussians, 0)
    model = fresh_model(config, clip.features.shape[2], points, colours, len(clip.channels))
    objective = Objective(
        config.train.loss, clip, model.network.tri_plane.grid, reference=False, low_precision=False
    )
    hear = model.network.speech_vector
    monkeypatch.setattr(
        model.network, "speech_vector", lambda audio: heard.append(audio) or hear(audio)
    )
    work = Step(
        config,
        stage,
        model,
        clip,
        frames,
        objective,
        make_optimizer(model, config.train.rate),
        Density(config.train.density, len(model.gaussians), clip.device),
        False,
    )
    for number in (1, 2, 3):
        assert work(number).isfinite().all()
    assert calls == [(2, 8, clip.features.shape[2], 16)] * times
    assert len(heard) == (3 if stage == "fine" else 0)
    assert all(bool((audio == 7.0).all()) == wanted for audio in heard), (
        "what is disturbed is what is heard"
    )


def test_the_warm_up_is_disturbed_by_its_own_generator_and_learns(scene: Path):
    dataset, clip = Dataset.open(scene), load_clip(Dataset.open(scene), 48, "hama")
    split, config = dataset.split(), settings(3, 3)
    points, colours = initial_cloud(dataset, clip, split.train, 400, 0)
    made, scores = [], []
    for seed, steps in ((0, 60), (0, 60), (1, 60)):
        model = fresh_model(config, clip.features.shape[2], points, colours)
        torch.manual_seed(3)
        scores.append(
            warm_up_sound(
                model.network, clip, dataset.mesh[0], split.train, split.train, steps, seed
            )
        )
        made.append(model.network.audio_net.state_dict()["encoder_conv.0.weight"])
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    assert scores[0] == scores[1] > 0.5, "the lip mode of frames that it learns from"


def test_sound_nets_learn_at_their_share_of_the_networks_rate(scene: Path):
    config, dataset, clip = (
        settings(3, 3),
        Dataset.open(scene),
        load_clip(Dataset.open(scene), 48, "hama"),
    )
    points, colours = initial_cloud(dataset, clip, dataset.split().train, 400, 0)
    model = fresh_model(config, clip.features.shape[2], points, colours)
    sound = {
        id(p)
        for net in (model.network.audio_net, model.network.audio_att_net)
        for p in net.parameters()
    }
    rate = RateConfig(network=(1e-3, 1e-5), sound=0.1)
    groups = {group["name"]: group for group in make_optimizer(model, rate).param_groups}
    assert {id(p) for p in groups["sound"]["params"]} == sound
    together = make_optimizer(model, replace(rate, sound=1.0))
    assert "sound" not in [group["name"] for group in together.param_groups], (
        "as it was before there was a share"
    )
    for optimizer in (make_optimizer(model, rate), together):
        every = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(every) == sorted({id(p) for p in model.parameters() if p.numel()}), (
            "each in one group"
        )
    optimizer = make_optimizer(model, rate)
    for step, network in ((0, 1e-3), (50, 1e-4), (100, 1e-5)):
        set_rates(optimizer, step, 100)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates["network"] == pytest.approx(network) and rates["sound"] == pytest.approx(
            network / 10
        )
    frozen = make_optimizer(model, replace(rate, sound=0.0))
    set_rates(frozen, 3, 100)
    assert {group["name"]: group["lr"] for group in frozen.param_groups}["sound"] == 0
