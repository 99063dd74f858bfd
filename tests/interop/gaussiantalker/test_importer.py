"""Import of trained GaussianTalker directories: outputs, poses, plates, the audio adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from family_folder import FRAMES, SIZE, Landmarker, Truth, truth, write_folder
from needs import load_or_skip
from trained_gaussiantalker import (
    FEATURE_WIDTH,
    SMALL,
    fake_encode_frames,
    fake_engine_encode,
    random_gaussians,
    write_trained,
)

from being.audio.feature_windows import attention_windows
from being.bench.fps import time_engine
from being.config import ModelConfig
from being.data.conditions import Conditions
from being.data.dataset import Dataset
from being.errors import BeingError, InputRejected
from being.eval.measured_run import open_measured_run
from being.face.canonical_mesh import canonical_mesh
from being.inference.engine import Engine
from being.interop.family import export_family, import_family
from being.interop.gaussiantalker.audio_adapter import fit_audio_adapter, fold_linear_map
from being.interop.gaussiantalker.checkpoint import read_cfg_args, read_checkpoint
from being.interop.gaussiantalker.importer import import_checkpoint, with_network
from being.interop.ply import read_ply, write_ply
from being.model.avatar import load_avatar
from being.model.gaussians import CanonicalGaussians
from being.model.gaussiantalker import GaussianTalker
from being.model.talking_head import TalkingHead
from being.runs.run_directory import Run


@pytest.fixture(scope="module")
def known() -> Truth:
    load_or_skip(canonical_mesh)
    return truth()


@pytest.fixture()
def quick_speech(monkeypatch):
    monkeypatch.setattr("being.audio.clip_features.encode_frames", fake_encode_frames)
    monkeypatch.setattr("being.inference.engine.Engine.encode", fake_engine_encode)
    monkeypatch.setattr("being.interop.gaussiantalker.audio_adapter.STEPS", 50)


def conditions_of(width: int, seed: int = 5) -> Conditions:
    rng = torch.Generator().manual_seed(seed)
    return Conditions(
        torch.randn(2, 8, width, 16, generator=rng),
        torch.rand(2, 1, generator=rng),
        torch.randn(2, 12, generator=rng),
    )


def outputs(model: TalkingHead, conditions: Conditions) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return vars(model.network(model.gaussians.means, conditions))


def expect_same(
    one: TalkingHead, other: TalkingHead, conditions: Conditions, near: float = 0.0
) -> None:
    for (name, value), again in zip(
        outputs(one, conditions).items(), outputs(other, conditions).values(), strict=True
    ):
        assert value is again is None or torch.allclose(value, again, atol=near, rtol=0), name


# --- files of GaussianTalker


@pytest.mark.shared
def test_loaded_network_gives_gaussian_talker_s_outputs(shared_dir, tmp_path):
    """A directory with the golden deformation.pth and its Gaussians, through the run's checkpoint
    and its avatar.
    """
    golden = {
        name: torch.from_numpy(value.astype(np.float32))
        for name, value in np.load(shared_dir / "golden/network.npz").items()
    }
    folder = tmp_path / "output/May/point_cloud/iteration_10000"
    folder.mkdir(parents=True)
    shutil.copy(shared_dir / "golden/deformation.pth", folder)
    write_ply(
        folder / "point_cloud.ply",
        CanonicalGaussians(
            golden["xyz"],
            golden["log_scale"],
            golden["rotation"],
            golden["opacity_logit"],
            golden["sh"][:, :1],
            golden["sh"][:, 1:],
        ),
    )
    done = import_checkpoint(tmp_path / "output/May", out=tmp_path / "run")
    checkpoint = Run.open(done.run).load("best")
    models = [
        TalkingHead.from_state(Run.open(done.run).config.model, 29, checkpoint.model).eval(),
        load_avatar(done.run).model,
    ]
    names = {
        "means": "xyz",
        "log_scales": "log_scale",
        "quaternions": "rotation",
        "opacity_logits": "opacity_logit",
        "sh": "sh",
    }
    for model in models:
        out = outputs(model, Conditions(golden["audio"], golden["blink"], golden["camera"]))
        for output, name in names.items():
            expected = golden[f"out_{name}"]
            assert torch.allclose(golden[name] + out[output], expected, atol=1e-4), output
        assert torch.allclose(out["attention"], golden["attention"], atol=1e-4)
    assert Run.open(done.run).config.model == ModelConfig()


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_ply_round_trip_keeps_every_bit(tmp_path, degree):
    gaussians = random_gaussians(degree)
    write_ply(tmp_path / "a.ply", gaussians)
    for name, value in read_ply(tmp_path / "a.ply").state_dict().items():
        assert torch.equal(value, gaussians.state_dict()[name]), name
    head = (tmp_path / "a.ply").read_bytes().split(b"end_header")[0].decode()
    assert (
        head.count("property float") == 17 + 3 * ((degree + 1) ** 2 - 1)
        and "f_rest_0" not in head
        or degree
    )


def test_ply_harmonics_are_stored_channel_by_channel_and_properties_by_name(tmp_path):
    """f_rest_k of degree 3: 15 of red, 15 of green, 15 of blue; any order of properties, text or
    either byte order.
    """
    names = [f"f_rest_{k}" for k in range(45)][::-1] + [
        "rot_3",
        "rot_2",
        "rot_1",
        "rot_0",
        "scale_2",
        "scale_1",
        "scale_0",
        "opacity",
        "f_dc_2",
        "f_dc_1",
        "f_dc_0",
        "nx",
        "z",
        "y",
        "x",
    ]
    values = np.arange(2 * len(names)).reshape(2, -1) / 7
    head = "\n".join(
        ["element vertex 2", *(f"property float {name}" for name in names), "end_header", ""]
    )
    (tmp_path / "t.ply").write_text(
        "ply\nformat ascii 1.0\ncomment by hand\n"
        + head
        + "\n".join(" ".join(map(repr, map(float, row))) for row in values)
    )
    (tmp_path / "l.ply").write_bytes(
        f"ply\nformat binary_little_endian 1.0\n{head}".encode() + values.astype("<f4").tobytes()
    )
    (tmp_path / "b.ply").write_bytes(
        f"ply\nformat binary_big_endian 1.0\n{head}".encode() + values.astype(">f4").tobytes()
    )
    column = {name: torch.from_numpy(values[:, k]).float() for k, name in enumerate(names)}
    for file in ("t.ply", "l.ply", "b.ply"):
        read = read_ply(tmp_path / file)
        assert torch.equal(read.means[:, 1], column["y"])
        assert torch.equal(read.quaternions[:, 0], column["rot_0"])
        assert torch.equal(read.sh_rest[:, 4, 0], column["f_rest_4"])
        assert torch.equal(read.sh_rest[:, 4, 2], column["f_rest_34"])


def test_last_iteration_of_the_fine_stage_is_read(tmp_path):
    first, last = (write_trained(tmp_path / "t", iteration=k) for k in (9500, 10_000))
    (tmp_path / "t/point_cloud/coarse_iteration_99999").mkdir()
    checkpoint = read_checkpoint(tmp_path / "t")
    assert checkpoint.iteration == 10_000
    assert checkpoint.config == SMALL
    assert checkpoint.audio_width == 29
    expect_same(checkpoint.model, last, conditions_of(29))
    expect_same(read_checkpoint(tmp_path / "t", 9500).model, first, conditions_of(29))
    assert torch.equal(
        checkpoint.model.network.tri_plane.grid.aabb, last.network.tri_plane.grid.aabb
    )


def test_layers_and_widths_follow_from_the_weights(tmp_path):
    config = ModelConfig(
        plane_resolution=4,
        plane_scales=(1, 2, 4),
        plane_channels=8,
        net_width=16,
        d_model=24,
        n_head=3,
        n_layer=2,
        ffn_hidden=20,
        sh_degree=2,
    )
    model = write_trained(tmp_path / "t", width=44, config=config)
    checkpoint = read_checkpoint(tmp_path / "t", heads=3)
    assert checkpoint.config == config and checkpoint.audio_width == 44
    expect_same(checkpoint.model, model, conditions_of(44))


def test_cfg_args_is_read_and_never_run(tmp_path):
    file = tmp_path / "cfg_args"
    file.write_text(
        "Namespace(source_path='/data/May', n_head=2, evil=__import__('os').abort(), lr=[1e-3, 2])"
    )
    assert read_cfg_args(file) == {"source_path": "/data/May", "n_head": 2, "lr": [1e-3, 2]}
    for text in ("__import__('os').abort()", "Namespace(", "[1]", "\0"):
        file.write_text(text)
        with pytest.raises(InputRejected, match="cfg_args cannot be read"):
            read_cfg_args(file)


# --- the imported run


def test_without_its_clip_the_avatar_has_one_frontal_pose_on_white(tmp_path):
    model = write_trained(tmp_path / "May")
    done = import_checkpoint(tmp_path / "May", out=tmp_path / "run", consent="her own")
    avatar = load_avatar(done.run)
    assert avatar.pose_count == 1
    assert avatar.manifest["encoder"] == "ds"
    assert avatar.consent_note == "Consent: her own"
    assert avatar.plate(0).min() >= 250 and any("--data" in line for line in done.warnings)
    middle = model.gaussians.means.median(0).values
    placed = avatar.world_to_camera[0, :3, :3] @ middle + avatar.world_to_camera[0, :3, 3]
    assert torch.allclose(placed[:2], torch.zeros(2), atol=1e-5) and 6 < placed[2] < 8
    engine = Engine(avatar)
    assert time_engine(engine, 8)["rows"][0]["calls"] == 8
    expect_same(avatar.model, model, conditions_of(29))


def test_poses_plates_and_blink_of_the_dataset(tmp_path, known, quick_speech):
    """With the imported training directory the avatar has the clip's poses and our encoder."""
    folder = write_folder(tmp_path / "source", known)
    imported = import_family(
        folder, tmp_path / "data", landmarker=Landmarker(known), consent="her own"
    )
    model = write_trained(tmp_path / "May")
    done = import_checkpoint(tmp_path / "May", imported.path, runs=tmp_path / "runs")
    dataset, avatar = Dataset.open(imported.path), load_avatar(done.run)
    assert done.run.parent == tmp_path / "runs/source"
    assert avatar.size == SIZE
    assert avatar.focal == 300
    assert np.array_equal(avatar.world_to_camera.numpy(), dataset.world_to_camera)
    assert np.array_equal(avatar.expression.numpy(), dataset.blink)
    assert avatar.consent_note == "Consent: her own"
    assert avatar.manifest["encoder"] == "hama" and avatar.manifest["audio_width"] == FEATURE_WIDTH
    run = Run.open(done.run)
    assert run.dataset == dataset.path.resolve()
    assert run.config.data.encoder == "ds"
    assert run.record["finished"]
    checkpoint = run.load("best")
    expect_same(
        TalkingHead.from_state(run.config.model, 29, checkpoint.model).eval(),
        model,
        conditions_of(29),
    )
    assert any("fitted to" in line for line in done.notes)
    features = Engine(avatar).encode(np.zeros(6400, np.float32))
    images = list(Engine(avatar).stream(features))
    assert len(images) == 10 and images[0].shape == (SIZE, SIZE, 3)


def test_poses_of_the_directory_it_was_trained_on(tmp_path, known, quick_speech):
    folder = write_folder(tmp_path / "source", known)
    write_trained(tmp_path / "May", source=str(folder))
    done = import_checkpoint(tmp_path / "May", out=tmp_path / "run")
    avatar = load_avatar(done.run)
    assert (
        avatar.pose_count == FRAMES and avatar.manifest["encoder"] == "hama" and not done.warnings
    )
    assert np.allclose(avatar.expression[:, 0].numpy(), np.arange(FRAMES) % 3 / 2)


def test_checkpoint_trained_on_our_export_takes_our_features_exactly(tmp_path, known, quick_speech):
    """The 29-channel projection of the export folds into the first layer of the audio network."""
    folder = write_folder(tmp_path / "source", known)
    (folder / "aud_ds.npy").unlink()
    imported = Dataset.open(
        import_family(folder, tmp_path / "data", landmarker=Landmarker(known)).path
    )
    out = export_family(imported.path, "gaussiantalker", tmp_path / "out").path
    source_features = np.load(out / "aud_ds.npy")
    model = write_trained(tmp_path / "May", width=source_features.shape[2], source=str(out))
    index, camera = np.arange(3), torch.randn(3, 12)
    for settings in ({"data": imported.path}, {}):
        done = import_checkpoint(tmp_path / "May", runs=tmp_path / "runs", **settings)
        avatar = load_avatar(done.run)
        assert avatar.manifest["encoder"] == "hama"
        assert any("exactly" in line for line in done.notes)
        before, after = (
            outputs(
                one,
                Conditions(
                    torch.from_numpy(attention_windows(features, index)), torch.zeros(3, 1), camera
                ),
            )
            for one, features in (
                (model, source_features),
                (avatar.model, imported.features("hama")),
            )
        )
        for name, value in before.items():
            assert value is after[name] is None or torch.allclose(value, after[name], atol=1e-5), (
                name
            )


@pytest.mark.parametrize("has", ["the checkpoint's features", "ours only"])
def test_imported_checkpoint_is_measured_on_its_dataset(tmp_path, known, quick_speech, has):
    """`eval` finds the speech features, and the network gives what GaussianTalker's gives."""
    folder = write_folder(tmp_path / "source", known)
    if has == "ours only":
        (folder / "aud_ds.npy").unlink()
    imported = import_family(folder, tmp_path / "data", landmarker=Landmarker(known)).path
    dataset = Dataset.open(imported)
    out = export_family(imported, "gaussiantalker", tmp_path / "out").path
    features = np.load(out / "aud_ds.npy")
    model = write_trained(tmp_path / "May", width=features.shape[2], source=str(out))
    done = import_checkpoint(tmp_path / "May", imported, runs=tmp_path / "runs")
    measured = open_measured_run(Run.open(done.run), device="cpu", rasterizer="cpu")
    assert measured.dataset.path == dataset.path.resolve()
    assert next(measured.render(measured.frames[:1])).shape == (SIZE, SIZE, 3)

    index, camera = np.arange(3), torch.randn(3, 12)
    theirs, ours = (
        outputs(
            one,
            Conditions(
                torch.from_numpy(attention_windows(values, index)), torch.zeros(3, 1), camera
            ),
        )
        for one, values in (
            (model, features),
            (measured.model, dataset.features(measured.config.data.encoder)),
        )
    )
    for name, value in theirs.items():
        assert value is ours[name] is None or torch.allclose(value, ours[name], atol=1e-5), name


def test_eval_says_that_a_checkpoint_was_imported_without_a_dataset(tmp_path):
    write_trained(tmp_path / "May")
    run = Run.open(import_checkpoint(tmp_path / "May", out=tmp_path / "run").run)
    with pytest.raises(InputRejected, match="imported without a dataset.*--data DATASET"):
        open_measured_run(run, device="cpu")


def test_folding_a_linear_map_keeps_silence_and_borders():
    torch.manual_seed(0)
    network = GaussianTalker(SMALL, 5).eval()
    matrix = torch.randn(9, 5)
    audio = torch.randn(2, 8, 9, 16)
    audio[0, :3] = 0
    folded = fold_linear_map(network, matrix)
    assert torch.allclose(
        folded.speech_vector(audio),
        network.speech_vector(torch.einsum("bncs,cd->bnds", audio, matrix)),
        atol=1e-5,
    )


def test_audio_adapter_fits_nonlinear_features(monkeypatch):
    """Source features that are a nonlinear function of the target: R² above 0.8."""
    monkeypatch.setattr("being.interop.gaussiantalker.audio_adapter.STEPS", 150)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    network = GaussianTalker(SMALL, 7).eval()
    steps = np.stack(
        [np.convolve(rng.normal(size=1616 + 8), np.ones(9) / 3, "valid") for _ in range(4)], 1
    )
    target_features = np.stack([steps[2 * i : 2 * i + 16] for i in range(800)]).astype(np.float32)
    source_features = np.tanh(0.5 * target_features @ rng.normal(size=(4, 7)).astype(np.float32))
    adapted, share = fit_audio_adapter(network, source_features, target_features)
    assert share > 0.8 and adapted.audio_width == 4
    for name, value in adapted.state_dict().items():
        if not name.startswith("audio_net."):
            assert torch.equal(value, network.state_dict()[name]), name
    head = with_network(TalkingHead(SMALL, 7, random_gaussians(1)), adapted)
    assert head.network.audio_width == 4


# --- faults


class Malice:
    """A pickle that would run code."""

    def __reduce__(self):
        return print, ("code was run",)


GRIDS = "deformation_net.tri_plane.grid.grids"


def edit_state(folder: Path, change) -> None:
    state = torch.load(folder / "deformation.pth", weights_only=True)
    change(state)
    torch.save(state, folder / "deformation.pth")


def edit_ply(folder: Path, old: bytes, new: bytes) -> None:
    file = folder / "point_cloud.ply"
    file.write_bytes(file.read_bytes().replace(old, new, 1))


def without_rotations(folder: Path) -> None:
    for k in range(4):
        edit_ply(folder, f"property float rot_{k}".encode(), f"property float turn_{k}".encode())


def not_finite(folder: Path) -> None:
    gaussians = random_gaussians(1)
    with torch.no_grad():
        gaussians.log_scales[3, 1] = torch.inf
    write_ply(folder / "point_cloud.ply", gaussians)


FAULTS = {
    "only coarse": (
        lambda p: p.rename(p.with_name("coarse_iteration_7999")),
        "only the coarse stage is there",
    ),
    "no gaussians": (lambda p: (p / "point_cloud.ply").unlink(), "lacks point_cloud.ply"),
    "no network": (lambda p: (p / "deformation.pth").unlink(), "lacks deformation.pth"),
    "code in the pickle": (
        lambda p: torch.save({"a": Malice()}, p / "deformation.pth"),
        "deformation.pth cannot be read as plain tensors",
    ),
    "a broken pickle": (
        lambda p: (p / "deformation.pth").write_bytes(b"zip?"),
        "deformation.pth cannot be read",
    ),
    "a pickle of numbers": (
        lambda p: torch.save({"a": 3}, p / "deformation.pth"),
        "is not a state dict",
    ),
    "weights of something else": (
        lambda p: torch.save({"w": torch.zeros(3)}, p / "deformation.pth"),
        "tri-planes of []",
    ),
    "weights without end": (
        lambda p: torch.save(
            {"deformation_net.null_vector": torch.zeros(1).expand(2**40)}, p / "deformation.pth"
        ),
        "claims more values than the file stores",
    ),
    "weights that are sparse": (
        lambda p: torch.save({"a": torch.eye(3).to_sparse()}, p / "deformation.pth"),
        "holds a sparse",
    ),
    "a weight missing": (
        lambda p: edit_state(p, lambda s: s.pop("deformation_net.null_vector")),
        "null_vector",
    ),
    "a weight too many": (
        lambda p: edit_state(p, lambda s: s.update({"deformation_net.extra": torch.zeros(2)})),
        "extra",
    ),
    "a weight of another shape": (
        lambda p: edit_state(
            p, lambda s: s.update({"deformation_net.cam_mlp.net.0.weight": torch.zeros(64, 11)})
        ),
        "cam_mlp",
    ),
    "a weight that is not finite": (
        lambda p: edit_state(p, lambda s: s["pos_poc"].fill_(torch.nan)),
        "not finite",
    ),
    "a tri-plane too many": (
        lambda p: edit_state(
            p,
            lambda s: s.update({f"{GRIDS}.2.{k}": s[f"{GRIDS}.1.{k}"] for k in range(3)}),
        ),
        "a network that cannot be used: config key 'model.d_model'",
    ),
    "harmonics of another degree": (
        lambda p: write_ply(p / "point_cloud.ply", random_gaussians(2)),
        "changes 4 spherical harmonics",
    ),
    "a text called ply": (
        lambda p: (p / "point_cloud.ply").write_text("hello"),
        "does not begin with 'ply'",
    ),
    "a header without end": (
        lambda p: (p / "point_cloud.ply").write_text("ply\nformat ascii 1.0\n"),
        "does not end",
    ),
    "a ply cut off": (
        lambda p: (p / "point_cloud.ply").write_bytes((p / "point_cloud.ply").read_bytes()[:-9]),
        "point_cloud.ply is cut off",
    ),
    "a ply of a billion": (
        lambda p: edit_ply(p, b"vertex 50", b"vertex 50000000000"),
        "50000000000 vertices",
    ),
    "a ply with lists": (
        lambda p: edit_ply(p, b"property float x", b"property list uchar int x"),
        "property list",
    ),
    "a ply of plain points": (without_rotations, "lacks the properties rot_0"),
    "seven harmonics": (
        lambda p: edit_ply(p, b"property float f_rest_8", b"property float other"),
        "8 properties f_rest",
    ),
    "gaussians that are not finite": (not_finite, "scale_1 holds values that are not finite"),
    "a cfg_args that is code": (
        lambda p: (p.parents[1] / "cfg_args").write_text("print('code was run')"),
        "cfg_args cannot be read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_error_and_leaves_no_run(tmp_path, fault, capsys):
    write_trained(tmp_path / "May")
    spoil, words = FAULTS[fault]
    spoil(tmp_path / "May/point_cloud/iteration_10000")
    with pytest.raises(InputRejected) as caught:
        import_checkpoint(tmp_path / "May", runs=tmp_path / "runs")
    assert words in str(caught.value) and caught.value.fix, caught.value
    assert [path.name for path in tmp_path.iterdir()] == ["May"]
    assert "code was run" not in capsys.readouterr().out


def test_other_faults(tmp_path, known, quick_speech):
    for path, words in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "holds no trained GaussianTalker"),
    ):
        with pytest.raises(InputRejected, match=words):
            import_checkpoint(path, runs=tmp_path / "runs")
    write_trained(tmp_path / "May", width=44)
    with pytest.raises(InputRejected, match="no iteration_7"):
        import_checkpoint(tmp_path / "May", iteration=7, runs=tmp_path / "runs")
    folder = write_folder(tmp_path / "source", known)
    imported = import_family(folder, tmp_path / "data", landmarker=Landmarker(known)).path
    with pytest.raises(
        InputRejected, match=r"deformation.pth needs 44-wide speech features: .*data has hama, ds"
    ):
        import_checkpoint(tmp_path / "May", imported, runs=tmp_path / "runs")
    (imported / "torso_imgs/5.png").write_bytes(b"no picture")
    write_trained(tmp_path / "June")
    with pytest.raises(InputRejected, match="5.png cannot be read"):
        import_checkpoint(tmp_path / "June", imported, runs=tmp_path / "runs")
    assert not list((tmp_path / "runs").rglob("*.json"))
    with pytest.raises(BeingError, match="exists already"):
        import_checkpoint(tmp_path / "June", out=imported)
    assert json.loads((imported / "dataset.json").read_text())["name"] == "source"
