"""Bases are a part of the avatar bundle: written, read, checked; and their formula."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_avatar import tiny_avatar, write_tiny_avatar
from tiny_bases import random_bases

from being.bench.avatars import random_voice
from being.data.conditions import Conditions
from being.data.mouth import code_rows
from being.errors import InputRejected
from being.files import save_tensors
from being.model.avatar import load_avatar
from being.model.avatar_writing import add_bases
from being.model.bases import BASES_FILE, INPUT_LIMIT, Bases

WIDTH = 10  # channels of the speech features


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose network reads the mouth code, with bases."""
    folder = tmp_path_factory.mktemp("bundle")
    path = write_tiny_avatar(folder / "avatar", "hama", WIDTH, random_voice(WIDTH, 40))
    return add_bases(path, random_bases(load_avatar(path)), {"psnr": 46.0})


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test may change."""
    return shutil.copytree(written, tmp_path / "avatar")


def test_a_bundle_keeps_its_bases_and_everything_else(bundle: Path) -> None:
    avatar = load_avatar(bundle)
    want = random_bases(avatar)
    assert avatar.bases is not None and avatar.manifest["bases"] == {"count": 5, "psnr": 46.0}
    for name, value in avatar.bases.state_dict().items():
        expected = want.state_dict()[name]
        close = expected.half().float() if name == "basis" else expected
        assert torch.equal(value, close), name
    assert not any(value.requires_grad for value in avatar.bases.parameters())
    assert len(avatar.plates) == 5 and avatar.voice is not None
    # Written again with other bases.
    add_bases(bundle, random_bases(avatar, 3, seed=1), {})
    other = load_avatar(bundle)
    assert other.bases is not None and other.bases.count == 3


def test_a_bundle_without_bases_loads(bundle: Path) -> None:
    file = bundle / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["bases"], manifest["files"][BASES_FILE]
    file.write_text(json.dumps(manifest))
    (bundle / BASES_FILE).unlink()
    assert load_avatar(bundle).bases is None


def damaged(bundle: Path, entry: dict[str, Any] | None = None, **tensors: torch.Tensor) -> None:
    """Replace tensors of the bases, or their entry of the manifest; the sha256 fits."""
    file = bundle / BASES_FILE
    save_tensors(file, {**Bases.load(file).tensors(), **tensors})
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][BASES_FILE] = hashlib.sha256(file.read_bytes()).hexdigest()
    if entry is not None:
        manifest["bases"] = entry
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mean": torch.zeros(60, 22)}, "mean is"),
        ({"mean": torch.zeros(60, 11 + 48)}, "Gaussians, harmonics and inputs"),
        ({"basis": torch.zeros(5, 60, 13)}, "basis is"),
        ({"basis": torch.zeros(4, 60, 14)}, "net.2.weight is"),
        ({"basis": torch.zeros(5, 59, 14), "mean": torch.zeros(59, 23)}, "Gaussians, harmonics"),
        ({"basis": torch.full((5, 60, 14), float("nan"))}, "not finite"),
        ({"net.0.weight": torch.zeros(12, 3)}, "net.0.weight is"),
        ({"net.0.bias": torch.zeros(())}, "net.0.bias is"),
        ({"net.3.bias": torch.zeros(3)}, "missing or unknown: net.3.bias"),
        ({"input_scale": torch.zeros(29)}, "input_scale must be above 0"),
        ({"input_mean": torch.zeros(29, dtype=torch.int64)}, "input_mean is torch.int64"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    bundle: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    damaged(bundle, **tensors)
    with pytest.raises(InputRejected) as caught:
        load_avatar(bundle)
    assert message in caught.value.message() and BASES_FILE in caught.value.message()


@pytest.mark.parametrize("entry", [{"count": 4}, {"count": 10**9}, {"count": True}, {}, [5], "5"])
def test_a_wrong_entry_of_the_manifest_is_refused(bundle: Path, entry: Any) -> None:
    damaged(bundle, entry)
    with pytest.raises(InputRejected):
        load_avatar(bundle)


def test_a_missing_or_altered_file_is_refused(bundle: Path) -> None:
    file = bundle / BASES_FILE
    content = file.read_bytes()
    file.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(InputRejected, match="was altered"):
        load_avatar(bundle)
    file.unlink()
    with pytest.raises(InputRejected, match=BASES_FILE):
        load_avatar(bundle)


def test_the_formula(tmp_path: Path) -> None:
    """Offsets computed by hand from the tensors, as the format of the bundle says."""
    avatar = tiny_avatar(tmp_path, 9, degree=2, channels=3, mouth="code")
    bases = random_bases(avatar, 4)
    rng = np.random.default_rng(0)
    code, expression, camera = (rng.normal(size=(2, n)).astype(np.float32) for n in (7, 3, 12))
    code[0, 0] = 1e4  # beyond the limit of the inputs
    audio = torch.from_numpy(code_rows(code)).transpose(1, 2)[:, None].expand(-1, 8, -1, -1)
    conditions = Conditions(audio, torch.from_numpy(expression), torch.from_numpy(camera))

    t = {name: value.double().numpy() for name, value in bases.state_dict().items()}
    inputs = np.concatenate([code, expression, camera], 1)
    x = np.clip((inputs - t["input_mean"]) / t["input_scale"], -INPUT_LIMIT, INPUT_LIMIT)
    for k in (0, 1):
        x = x @ t[f"net.{k}.weight"].T + t[f"net.{k}.bias"]
        x = x / (1 + np.exp(-x))
    coefficients = x @ t["net.2.weight"].T + t["net.2.bias"]
    moved = np.einsum("bk,knc->bnc", coefficients, t["basis"])

    offsets = bases(conditions)
    fields = (offsets.means, offsets.log_scales, offsets.quaternions, offsets.opacity_logits)
    geometry = torch.cat(fields, -1).numpy()
    assert np.abs(geometry - (t["mean"][:, :11] + moved[..., :11])).max() < 1e-4
    sh = t["mean"][:, 11:].reshape(9, 9, 3)[None].repeat(2, 0)
    sh[:, :, 0] += moved[..., 11:]
    assert offsets.sh.shape == (2, 9, 9, 3) and np.abs(offsets.sh.numpy() - sh).max() < 1e-4

    base = bases.base(avatar.model.gaussians)
    gaussians = avatar.model.gaussians
    assert torch.equal(base[:, :3], gaussians.means + bases.mean[:, :3])
    assert torch.allclose(base[:, 11:], gaussians.sh.flatten(1) + bases.mean[:, 11:])


def test_a_model_can_be_deformed_by_bases_instead(tmp_path: Path) -> None:
    avatar = tiny_avatar(tmp_path, 30, mouth="code")
    bases, model = random_bases(avatar), avatar.model
    code = np.random.default_rng(0).normal(size=(1, 7)).astype(np.float32)
    audio = torch.from_numpy(code_rows(code)).transpose(1, 2)[:, None].expand(-1, 8, -1, -1)
    conditions = Conditions(audio, avatar.expression[:1], torch.zeros(1, 12))
    arguments = conditions, avatar.world_to_camera[:1], avatar.focal, avatar.size
    network = model(*arguments)
    model.deformation = bases.forward
    found = model(*arguments)
    assert torch.equal(found.offsets.means, bases(conditions).means)
    assert (found.output.rgb - network.output.rgb).abs().max() > 0.01
    assert not any("bases" in name for name in model.state_dict()), "checkpoints stay as they are"
