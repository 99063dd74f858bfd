"""The folder of a diffusion model: what may be loaded, and what is refused before anything is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from being.errors import InputRejected
from being.refine.model_folder import ModelFolder

PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": [None, None],
}


def rewrite(folder: Path, **changes: Any) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    for part in ("unet", "vae", "text_encoder"):
        (path / part).mkdir(parents=True)
        (path / part / "config.json").write_text("{}")
        (path / part / "model.safetensors").write_bytes(b"weights")
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1", **PARTS}
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_a_pipeline_of_safetensors_is_taken(folder):
    found = ModelFolder.checked(folder)
    assert found.pipeline == "StableDiffusionImg2ImgPipeline" and found.variant is None
    (folder / "unet" / "old.bin").write_bytes(b"")  # safetensors lie beside it: they are read
    assert ModelFolder.checked(folder) == found
    rewrite(folder, _class_name="StableDiffusionXLPipeline")
    assert ModelFolder.checked(folder).pipeline == "StableDiffusionXLImg2ImgPipeline"


def test_weights_in_half_precision_alone_are_a_variant(folder):
    (folder / "unet/model.safetensors").rename(folder / "unet/model.fp16.safetensors")
    assert ModelFolder.checked(folder).variant == "fp16"


def pickled(folder: Path) -> None:
    (folder / "unet/model.safetensors").rename(folder / "unet/diffusion_pytorch_model.bin")


def code(folder: Path) -> None:
    (folder / "pipeline.py").write_text("print('run')")


def auto_map(folder: Path) -> None:
    (folder / "text_encoder/config.json").write_text('{"auto_map": {"AutoModel": "m.M"}}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "no model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{"), "model_index.json"),
        (lambda folder: rewrite(folder, _class_name="FluxPipeline"), "is a FluxPipeline"),
        (lambda folder: rewrite(folder, _class_name=["pipeline", "Own"]), "is a "),
        (lambda folder: rewrite(folder, unet=["own_code", "Net"]), "of 'own_code'"),
        (pickled, "pickle can run code"),
        (lambda folder: (folder / "vae/model.safetensors").unlink(), "weights of vae"),
        (code, "holds code"),
        (auto_map, "auto_map"),
    ],
)
def test_what_may_not_be_loaded_is_refused(
    folder: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(folder)
    with pytest.raises(InputRejected, match=message):
        ModelFolder.checked(folder)


def test_a_missing_folder_and_a_file_are_refused(tmp_path):
    with pytest.raises(InputRejected, match="does not exist"):
        ModelFolder.checked(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputRejected, match="not a folder"):
        ModelFolder.checked(tmp_path / "file")
