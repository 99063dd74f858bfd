"""Augmentation of the audio features, and the learning rate of the audio network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_training import settings

from being.config import RateConfig
from being.data.clip import load_clip
from being.data.dataset import Dataset
from being.train import step as step_module
from being.train.audio_warmup import warm_up_audio_branch
from being.train.density import DensityControl
from being.train.feature_augmentation import (
    CHANNEL_DROP_CHANCE,
    NOISE_DEVIATION,
    WINDOW_DROP_CHANCE,
    augment_features,
)
from being.train.initial_points import initial_cloud
from being.train.objective import Objective
from being.train.optimizer import make_optimizer, set_learning_rates
from being.train.step import TrainingStep
from being.train.trainer import untrained_model


def test_channels_and_windows_are_dropped_with_the_stated_chances():
    received = augment_features(
        torch.full((2000, 8, 12, 16), 5.0), torch.Generator().manual_seed(0)
    )
    gone = received == 0
    windows, channels = gone.all(3).all(2), gone.all(3).all(1)
    assert set(windows.sum(1).tolist()) == {0, 1}, "at most one window of a frame"
    assert windows.any(1).float().mean() == pytest.approx(WINDOW_DROP_CHANCE, abs=0.04)
    assert (windows.float().mean(0) - WINDOW_DROP_CHANCE / 8).abs().max() < 0.03, (
        "each window as often"
    )
    assert channels.float().mean() == pytest.approx(CHANNEL_DROP_CHANCE, abs=0.01)
    assert (gone == (windows[:, :, None] | channels[:, None])[..., None]).all(), (
        "nothing else is zero"
    )
    kept = received[~gone]
    assert kept.mean() == pytest.approx(5, abs=0.01) and kept.std() == pytest.approx(
        NOISE_DEVIATION, abs=0.01
    )


def test_it_draws_from_the_given_generator_or_from_that_of_the_device():
    audio = torch.randn(3, 8, 5, 16)
    one, two = (augment_features(audio, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(
        one, augment_features(audio, torch.Generator().manual_seed(5))
    )
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment_features(audio))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    "stage, augmented, times", [("fine", True, 3), ("fine", False, 0), ("coarse", True, 0)]
)
def test_the_fine_stage_augments_its_features_when_the_config_says_so(
    scene: Path, monkeypatch, stage, augmented, times
):
    calls, received = [], []
    monkeypatch.setattr(
        step_module,
        "augment_features",
        lambda audio: calls.append(audio.shape) or torch.full_like(audio, 7.0),
    )
    config, dataset, clip = (
        settings(3, 3, f"train.augment.audio_features={augmented}"),
        Dataset.open(scene),
        load_clip(Dataset.open(scene), 48, "hama"),
    )
    frames = dataset.split().train
    points, colours = initial_cloud(dataset, clip, frames, config.data.initial_gaussians, 0)
    model = untrained_model(config, clip.features.shape[2], points, colours, len(clip.channels))
    objective = Objective(
        config.train.loss, clip, model.network.tri_plane.grid, reference=False, low_precision=False
    )
    speech_vector = model.network.speech_vector
    monkeypatch.setattr(
        model.network, "speech_vector", lambda audio: received.append(audio) or speech_vector(audio)
    )
    work = TrainingStep(
        config,
        stage,
        model,
        clip,
        frames,
        objective,
        make_optimizer(model, config.train.rate),
        DensityControl(config.train.density, len(model.gaussians), clip.device),
        False,
    )
    for number in (1, 2, 3):
        assert work(number).isfinite().all()
    assert calls == [(2, 8, clip.features.shape[2], 16)] * times
    assert len(received) == (3 if stage == "fine" else 0)
    assert all(bool((audio == 7.0).all()) == augmented for audio in received), (
        "the network gets the augmented features"
    )


def test_the_warm_up_augments_with_its_own_generator_and_learns(scene: Path):
    dataset, clip = Dataset.open(scene), load_clip(Dataset.open(scene), 48, "hama")
    split, config = dataset.split(), settings(3, 3)
    points, colours = initial_cloud(dataset, clip, split.train, 400, 0)
    weights, scores = [], []
    for seed, steps in ((0, 60), (0, 60), (1, 10)):
        model = untrained_model(config, clip.features.shape[2], points, colours)
        torch.manual_seed(3)
        scores.append(
            warm_up_audio_branch(
                model.network, clip, dataset.mesh[0], split.train, split.train, steps, seed
            )
        )
        weights.append(model.network.audio_net.state_dict()["encoder_conv.0.weight"])
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert scores[0] == scores[1] > 0.5, "correlation on its training frames"


def test_the_audio_network_learns_at_its_multiple_of_the_rate(scene: Path):
    config, dataset, clip = (
        settings(3, 3),
        Dataset.open(scene),
        load_clip(Dataset.open(scene), 48, "hama"),
    )
    points, colours = initial_cloud(dataset, clip, dataset.split().train, 400, 0)
    model = untrained_model(config, clip.features.shape[2], points, colours)
    audio = {
        id(p)
        for net in (model.network.audio_net, model.network.audio_att_net)
        for p in net.parameters()
    }
    rate = RateConfig(network=(1e-3, 1e-5), audio=0.1)
    groups = {group["name"]: group for group in make_optimizer(model, rate).param_groups}
    assert {id(p) for p in groups["sound"]["params"]} == audio
    together = make_optimizer(model, rate.replace(audio=1.0))
    assert "sound" not in [group["name"] for group in together.param_groups], (
        "no group of its own at the full rate"
    )
    for optimizer in (make_optimizer(model, rate), together):
        every = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(every) == sorted({id(p) for p in model.parameters() if p.numel()}), (
            "each in one group"
        )
    optimizer = make_optimizer(model, rate)
    for step, network in ((0, 1e-3), (50, 1e-4), (100, 1e-5)):
        set_learning_rates(optimizer, step, 100)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates["network"] == pytest.approx(network) and rates["sound"] == pytest.approx(
            network / 10
        )
    frozen = make_optimizer(model, rate.replace(audio=0.0))
    set_learning_rates(frozen, 3, 100)
    assert {group["name"]: group["lr"] for group in frozen.param_groups}["sound"] == 0
