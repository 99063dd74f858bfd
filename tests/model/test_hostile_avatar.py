"""An avatar whose manifest claims other sizes than its tensors and plates is refused early."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from being.config import ModelConfig
from being.errors import InputRejected
from being.model.avatar import load_avatar
from being.model.talking_head import ModelMismatch, TalkingHead

CLAIMS: dict[str, list[Any]] = {
    "poses": [10**9, 10**30, 0, "5", True, 1.5],
    "size": [10**6, 0, -1, 5, "48"],
    "focal": [0, -1, 1e300, "x", 10**400],
    "audio_width": [10**9, 0, "7"],
    "name": ["../../x", "a\x1b[31m", 3],
    "encoder": ["", "x" * 5000, 3],
    "consent": [[], {"statement": "x" * 9000}],
    "files": [[], {"model.safetensors": 3}],
    "schema": [9, None, "2", [1]],
}
MODEL_CLAIMS: dict[str, list[Any]] = {
    "n_layer": [10**9, 32, 0, "1"],
    "net_width": [10**9, 8192, 1],
    "plane_scales": [[1, 64], [64, 64], [1] * 10_000, [], "12", [10**9, 2]],
    "plane_resolution": [4096, 10**9],
    "ffn_hidden": [16_384],
    "d_model": [4096],
    "n_head": [10**9, 3],
    "sh_degree": [3, 9],
    "new_key": [1],
}


def change(folder: Path, change: dict[str, Any]) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, **change}))


def refuse_quickly(folder: Path) -> None:
    """Assert that the avatar is refused within a second or two, and without new memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(InputRejected) as caught:
        load_avatar(folder)
    assert len(caught.value.message()) < 1500
    assert time.monotonic() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize("key", CLAIMS)
def test_a_manifest_that_claims_too_much_is_refused(key: str, avatar: Path) -> None:
    original = (avatar / "manifest.json").read_text()
    for wrong in CLAIMS[key]:
        change(avatar, {key: wrong})
        refuse_quickly(avatar)
        (avatar / "manifest.json").write_text(original)


@pytest.mark.parametrize("key", MODEL_CLAIMS)
def test_a_network_of_other_sizes_is_refused_before_it_is_built(key: str, avatar: Path) -> None:
    model = json.loads((avatar / "manifest.json").read_text())["model"]
    for wrong in MODEL_CLAIMS[key]:
        if model.get(key) == wrong:
            continue
        change(avatar, {"model": {**model, key: wrong}})
        refuse_quickly(avatar)


def test_a_state_of_another_model_names_the_tensor(avatar: Path) -> None:
    loaded = load_avatar(avatar)
    state, config = loaded.model.state_dict(), loaded.model.network.config
    width = loaded.manifest["audio_width"]
    assert len(TalkingHead.from_state(config, width, state).gaussians)
    first = next(name for name in state if name.startswith("network."))
    for wrong in ({**state, first: state[first][:0]}, {**state, "more": state[first]}):
        with pytest.raises(ModelMismatch, match=f"{first}|more"):
            TalkingHead.from_state(config, width, wrong)
    with pytest.raises(ModelMismatch, match="gaussians"):
        TalkingHead.from_state(config, width, {k: v for k, v in state.items() if "means" not in k})
    with pytest.raises(ModelMismatch):
        TalkingHead.from_state(ModelConfig(n_layer=32, net_width=8192), width, state)


def replace_plate(folder: Path, content: bytes, size: int | None = None) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    for k in range(manifest["poses"]):
        (folder / f"plates/{k:06d}.jpg").write_bytes(content)
        manifest["files"][f"plates/{k:06d}.jpg"] = hashlib.sha256(content).hexdigest()
    manifest["size"] = size or manifest["size"]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def image(side: int, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(buffer, form, quality=5)
    return buffer.getvalue()


def test_plates_that_expand_a_thousandfold_are_refused(avatar: Path, tmp_path: Path) -> None:
    """PNG files of one colour; and so many JPEG files that their pixels exceed the budget."""
    png = shutil.copytree(avatar, tmp_path / "png")
    replace_plate(png, image(4096, "PNG"), 4096)
    with pytest.raises(InputRejected, match="not a usable plate"):
        load_avatar(png)
    jpeg = shutil.copytree(avatar, tmp_path / "jpeg")
    content = image(4096, "JPEG")
    replace_plate(jpeg, content, 4096)
    poses = json.loads((jpeg / "manifest.json").read_text())["poses"]
    if poses * 4096**2 > (1 << 27) + 64 * poses * len(content):
        with pytest.raises(InputRejected, match="million px"):
            load_avatar(jpeg)


def test_a_broken_plate_is_refused_when_it_is_needed(avatar: Path) -> None:
    size = json.loads((avatar / "manifest.json").read_text())["size"]
    replace_plate(avatar, image(size, "JPEG")[:-40] + b"\x00" * 20)
    loaded = load_avatar(avatar)
    try:
        assert loaded.plate(0).shape == (size, size, 3)
    except InputRejected as refusal:
        assert "cannot be decoded" in refusal.message()
