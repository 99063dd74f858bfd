"""Training on the tiny synthetic scene: it learns, is deterministic, and builds the right avatar.

test_resume.py tests interrupted trainings.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import metrics, settings

from being.config import DensityConfig
from being.config.files import shipped
from being.data.dataset import Dataset
from being.errors import InputRejected, UsageError
from being.metrics.image_quality import box_mean, ssim
from being.model.avatar import load_avatar
from being.model.gaussians import PARAMETER_NAMES, CanonicalGaussians
from being.train.compat import camera_extent
from being.train.density import DensityControl, rotation_matrices
from being.train.optimizer import set_learning_rates
from being.train.step import sample_frames
from being.train.training import train_avatar


def test_the_fine_stage_improves_on_the_coarse_head(scene, tmp_path):
    plan = settings(40, 60, "train.lips.warmup_steps=20")
    run = train_avatar(scene, plan, runs=tmp_path, fresh=True)
    coarse, fine = metrics(run)[0], metrics(run)[-1]
    assert fine["stage"] == "fine" and fine["psnr_head"] > coarse["psnr_head"] + 2.5, (coarse, fine)
    assert coarse["gaussians"] > 400  # densified
    assert (run.path / "avatar/manifest.json").is_file() and run.record["finished"]
    assert {p.name for p in (run.path / "previews").glob("sheet*")} == {
        "sheet_coarse_000040.jpg",
        "sheet_fine_000060.jpg",
    }


def test_one_seed_gives_one_result(scene, tmp_path):
    states = []
    for k in range(2):
        run = train_avatar(scene, settings(30, 6), runs=tmp_path / str(k), fresh=True)
        states.append(load_file(run.path / "checkpoints/last/model.safetensors"))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_dataset_of_another_schema_or_without_files_is_refused(scene, tmp_path):
    copy = shutil.copytree(scene, tmp_path / "copy")
    (copy / "au.csv").unlink()
    with pytest.raises(InputRejected, match="au.csv"):
        train_avatar(copy, settings(1, 1), runs=tmp_path)
    manifest = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(InputRejected, match="schema 99"):
        train_avatar(copy, settings(1, 1), runs=tmp_path)
    with pytest.raises(InputRejected, match="does not exist"):
        train_avatar(tmp_path / "nothing", settings(1, 1), runs=tmp_path)
    assert not (tmp_path / "scene").exists()


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_reach_the_same_psnr(scene, tmp_path):
    ends = [
        metrics(
            train_avatar(scene, settings(60, 80), runs=tmp_path / device, fresh=True, device=device)
        )
        for device in ("cpu", "cuda")
    ]
    for on_cpu, on_cuda in zip(*ends, strict=True):
        assert abs(on_cpu["psnr_head"] - on_cuda["psnr_head"]) < 0.5


def test_the_best_checkpoint_is_one_that_was_evaluated(scene, tmp_path, monkeypatch):
    figures = {"coarse": 30.0, "fine": 20.0}
    monkeypatch.setattr(
        "being.train.trainer.evaluate",
        lambda model, clip, frames, stage: {"psnr": figures[stage], "psnr_head": figures[stage]},
    )
    run = train_avatar(scene, settings(2, 4, "train.checkpoint_every=2"), runs=tmp_path, fresh=True)
    best = run.load("best")
    assert (best.state["step"], best.state["best"]) == (4, 20.0)


def test_compat_reference_trains_with_the_faults_of_the_reference(scene, tmp_path):
    """The explicit opacity keeps its initial value, and that of the planes is baked in.

    So the pruning of added Gaussians does not use the rendered opacity.
    """
    plan = settings(60, 2, "train.compat=reference")
    run = train_avatar(scene, plan, runs=tmp_path, stage="coarse", fresh=True)
    saved = load_file(run.path / "checkpoints/last/model.safetensors")
    assert torch.allclose(saved["gaussians.opacity_logits"], torch.logit(torch.tensor(0.1)))
    corrected = load_file(
        train_avatar(
            scene, settings(60, 2), runs=tmp_path / "corrected", stage="coarse", fresh=True
        ).path
        / "checkpoints/last/model.safetensors"
    )
    assert not torch.allclose(corrected["gaussians.opacity_logits"], torch.logit(torch.tensor(0.1)))
    with pytest.raises(UsageError, match="'train.compat' cannot be 'peer': it must be one of none"):
        train_avatar(scene, settings(1, 1, "train.compat=peer"), runs=tmp_path / "bad", fresh=True)
    assert not (tmp_path / "bad").exists()
    turned = torch.eye(4).repeat(2, 1, 1)
    turned[:, 2, 3] = torch.tensor([6.0, 8.0])
    assert camera_extent(turned) == pytest.approx(1.1)


@pytest.mark.parametrize("best_step", [2, 4])
def test_the_avatar_is_built_from_best_not_from_last(scene, tmp_path, monkeypatch, best_step):
    """`best` is after step 2 or 4 of 6, so it is never `last`."""
    steps = iter([2, 4, 6])

    def evaluate(model, clip, frames, stage):
        if stage == "coarse":
            return {"psnr": 20.0, "psnr_head": 20.0}
        figure = 30.0 - abs(next(steps) - best_step)
        return {"psnr": figure, "psnr_head": figure}

    monkeypatch.setattr("being.train.trainer.evaluate", evaluate)
    plan = settings(2, 6, "train.evaluate_every=2", "train.lips.closure_steps=0")
    run = train_avatar(scene, plan, runs=tmp_path, fresh=True, device="cpu")
    best, last = run.load("best"), run.load("last")
    assert (best.state["step"], last.state["step"]) == (best_step, 6)

    avatar = load_avatar(run.path).model.state_dict()
    assert avatar.keys() == best.model.keys() == last.model.keys()
    for name, value in best.model.items():
        assert torch.equal(avatar[name], value), name
    assert not torch.equal(avatar["gaussians.means"], last.model["gaussians.means"])
    assert run.avatar_checkpoint()[0] == "best"


@pytest.mark.parametrize("config", shipped())
def test_every_shipped_config_trains_two_steps(scene, tmp_path, config):
    run = train_avatar(scene, settings(2, 2, config=config), runs=tmp_path, fresh=True)
    assert all(np.isfinite(m["loss"]) for m in metrics(run)) and run.record["finished"]


def test_sampling_is_a_shuffle_without_repeats_and_a_function_of_the_step():
    frames = np.arange(10, 17)
    drawn = np.concatenate([sample_frames(frames, 3, step, 2) for step in range(7)])
    assert sorted(drawn[:7]) == sorted(drawn[7:]) == list(frames) and list(drawn[:7]) != list(
        drawn[7:]
    )
    assert list(sample_frames(frames, 3, 5, 2)) == list(drawn[10:12])


def test_rates_decay_log_linearly_over_the_steps_of_the_stage():
    optimizer = torch.optim.Adam(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "decay": (1e-2, 1e-4)}], lr=0.0
    )
    for step, expected in ((0, 1e-2), (50, 1e-3), (100, 1e-4)):
        set_learning_rates(optimizer, step, 100)
        assert np.isclose(optimizer.param_groups[0]["lr"], expected)


def cloud(scales, opacity=0.5):
    count = len(scales)
    generator = torch.Generator().manual_seed(0)
    logit = torch.logit(torch.full((count, 1), opacity))
    log_scales = torch.tensor(scales).log()[:, None].repeat(1, 3)
    return CanonicalGaussians(
        torch.rand(count, 3, generator=generator),
        log_scales,
        torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        logit,
        torch.zeros(count, 1, 3),
        torch.zeros(count, 3, 3),
    )


def test_density_control_clones_small_splits_large_and_prunes_faint():
    gaussians = cloud([0.001, 0.5, 0.001, 0.001])
    optimizer = torch.optim.Adam(
        [{"params": [getattr(gaussians, n)]} for n in PARAMETER_NAMES], lr=0.1
    )
    sum(getattr(gaussians, n).square().sum() for n in PARAMETER_NAMES).backward()
    optimizer.step()
    density = DensityControl(
        DensityConfig(start=0, stop=100, every=1, prune_start=0, gradient=0.1),
        4,
        torch.device("cpu"),
    )
    density.observe(
        torch.tensor([[[1.0, 0], [1.0, 0], [0.0, 0], [0.0, 0]]]), torch.ones(1, 4), size=2
    )
    small, large = gaussians.means[0].clone(), gaussians.log_scales[1].clone()
    density.apply(
        1,
        gaussians,
        torch.tensor([0.5, 0.5, 0.5, 0.001]),
        optimizer,
        torch.Generator().manual_seed(0),
    )
    assert len(gaussians) == 5  # 0 and its clone, 2, two halves of 1; 3 was faint
    assert sum(torch.allclose(mean, small) for mean in gaussians.means) == 2
    halves = gaussians.log_scales[-2:]
    assert torch.allclose(halves, (large - np.log(1.6)).expand(2, 3))
    for group, name in zip(optimizer.param_groups, PARAMETER_NAMES, strict=True):
        parameter = group["params"][0]
        assert (
            parameter is getattr(gaussians, name)
            and optimizer.state[parameter]["exp_avg"].shape == parameter.shape
        )


def test_rotation_matrices_are_rotations():
    matrices = rotation_matrices(torch.randn(20, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(
        matrices @ matrices.transpose(1, 2), torch.eye(3).expand(20, 3, 3), atol=1e-5
    )
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(20), atol=1e-5)
    assert torch.allclose(
        rotation_matrices(torch.tensor([[0.5, 0, 0, 0.5]]))[0] @ torch.tensor([1.0, 0, 0]),
        torch.tensor([0.0, 1, 0]),
        atol=1e-6,
    )


def test_ssim_and_box_mean_values():
    a = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.isclose(ssim(a, a), torch.tensor(1.0), atol=1e-5) and ssim(a, a.flip(3)) < 0.2
    b = a.clone()
    b[0, :, 4:8, 4:8] += 0.5
    squares = torch.tensor([[4, 8, 4, 8], [0, 0, 0, 0]])  # the second frame has no landmarks
    assert torch.isclose(box_mean(b, squares - 6), b[0, :, :2, :2].mean())  # over the border
    assert torch.isclose(box_mean((a - b).abs(), squares), torch.tensor(0.5))


def test_only_the_first_seconds_are_used_for_training(scene, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "being.train.training._train_stages",
        lambda stage, trainer, last: seen.update(split=trainer.split),
    )
    monkeypatch.setattr("being.train.training.finish_run", lambda *a: None)
    train_avatar(scene, settings(1, 1, "data.seconds=0.6"), runs=tmp_path, device="cpu")
    whole = Dataset.open(scene).split()
    assert (seen["split"].train == whole.train[:15]).all() and (
        seen["split"].test == whole.test
    ).all()
