"""Checks the folder of a diffusers pipeline before anything of it is loaded.

The folder is not trusted: its classes must be those of the libraries themselves, its weights
safetensors, and it must hold no code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from being.errors import InputRejected
from being.paths import check_folder
from being.reading.structured import read_json

INDEX = "model_index.json"
# What a folder may say that it is -> the class that changes images with the same weights.
PIPELINES = {
    "StableDiffusionPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionImg2ImgPipeline": "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLImg2ImgPipeline": "StableDiffusionXLImg2ImgPipeline",
}
# Libraries that may hold the classes of a pipeline's parts; the last one is a part of diffusers.
LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
# Parts with weights; the others are settings and vocabularies.
WEIGHTED = ("unet", "vae", "text_encoder", "text_encoder_2", "safety_checker", "image_encoder")
SAFE = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
CODE = (".py", ".pyc", ".so", ".pyd", ".dll")
HALF = "fp16"  # the variant that is taken where a part has no other weights
FILES_MAX = 10_000
FIX = "Give the folder of a Stable Diffusion pipeline with safetensors weights, such as SD-Turbo's"


@dataclass(frozen=True)
class ModelFolder:
    """A folder that may be loaded."""

    path: Path
    pipeline: str  # the class in diffusers
    variant: str | None  # of the weights' file names

    @classmethod
    def checked(cls, path: Path) -> ModelFolder:
        """The folder at `path`.

        Raises InputRejected for a folder that is missing, is no image pipeline, holds code, or has
        weights in another format than safetensors.
        """
        path = Path(path)
        check_folder(path, "the folder of a diffusers pipeline", FIX)
        if not (path / INDEX).is_file():
            raise InputRejected(f"{path} is no diffusers pipeline", f"it has no {INDEX}", FIX)
        index = read_json(path / INDEX, FIX)
        name = index.get("_class_name")
        pipeline = PIPELINES.get(name) if isinstance(name, str) else None
        if pipeline is None:
            raise InputRejected(
                f"{path} is a {name}",
                f"frames are refined by one of {', '.join(PIPELINES)}",
                FIX,
            )
        files = _files(path)
        _check_code(path, files, index)
        return cls(path, pipeline, _variant(path, files, index))


def _files(path: Path) -> list[Path]:
    """The files of the folder, relative to it."""
    found = []
    for file in path.rglob("*"):
        if file.is_dir():
            continue
        found.append(file.relative_to(path))
        if len(found) > FILES_MAX:
            raise InputRejected(
                f"{path} holds more than {FILES_MAX} files", "a model has some", FIX
            )
    return sorted(found)


def _check_code(path: Path, files: list[Path], index: dict[str, Any]) -> None:
    """Raise InputRejected where the folder holds, or asks for, code of its own."""
    code = [str(file) for file in files if file.suffix.lower() in CODE]
    if code:
        raise InputRejected(
            f"{path} holds code ({', '.join(code[:3])})",
            "code of a model is never run",
            "Remove it, or give a model without code of its own",
        )
    for part, entry in _parts(index).items():
        library, name = entry
        if library is not None and library not in LIBRARIES:
            raise InputRejected(
                f"{path}: part {part} is a {name} of '{library}'",
                f"only parts of {', '.join(LIBRARIES[:2])} are loaded",
                "Give a model without code of its own",
            )
    for file in files:
        if file.name == "config.json" and "auto_map" in read_json(path / file, FIX):
            raise InputRejected(
                f"{path / file} asks for code of its own (auto_map)",
                "code of a model is never run",
                "Give a model without it",
            )


def _parts(index: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
    """Library and class of each part that the index names."""
    found = {}
    for part, entry in index.items():
        if isinstance(entry, list) and len(entry) == 2:
            library, name = entry
            found[part] = (
                None if library is None else str(library),
                None if name is None else str(name),
            )
    return found


def _variant(path: Path, files: list[Path], index: dict[str, Any]) -> str | None:
    """The variant of the weights' names: None, or HALF where a part has no other weights.

    Raises InputRejected for a part without safetensors.
    """
    variants = set()
    for part, (library, _) in _parts(index).items():
        if library is None or part not in WEIGHTED:
            continue
        own = [file for file in files if file.parts[0] == part]
        safe = [file for file in own if file.suffix.lower() == SAFE]
        if not safe:
            pickled = [str(file) for file in own if file.suffix.lower() in PICKLED]
            why = "only safetensors are read: a pickle can run code when it is loaded"
            if not pickled:
                why = f"the folder {part} is missing or holds none"
            held = f" (it has {pickled[0]})" if pickled else ""
            raise InputRejected(f"{path} has no safetensors weights of {part}{held}", why, FIX)
        plain = [file for file in safe if f".{HALF}." not in file.name]
        variants.add(None if plain else HALF)
    # With a variant, diffusers takes the plain weights of the parts that lack it.
    return HALF if HALF in variants else None
