"""Config files as plain trees: YAML with `_base_`, and GaussianTalker's own `arguments/*.py`.

Config files are data: YAML goes through the safe loader, `arguments/*.py` are read from their
syntax tree.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import yaml

from being.errors import UsageError

CONFIG_DIR = Path(__file__).parent / "presets"
GAUSSIANTALKER_KEYS = {  # theirs to ours
    "net_width": "model.net_width",
    "d_model": "model.d_model",
    "n_head": "model.n_head",
    "n_layer": "model.n_layer",
    "ffn_hidden": "model.ffn_hidden",
    "drop_prob": "model.drop_prob",
    "plane_tv_weight": "train.loss.plane_tv",
    "multires": "model.plane_scales",
    "iterations": "train.fine.steps",
    "coarse_iterations": "train.coarse.steps",
    "batch_size": "train.fine.batch",
    "densify_from_iter": "train.density.start",
    "densify_until_iter": "train.density.stop",
    "densification_interval": "train.density.every",
    "densify_grad_threshold_coarse": "train.density.gradient",
    "opacity_threshold_coarse": "train.density.prune_opacity",
}
COMPAT = "train.compat"
REFERENCE = {  # what `train.compat: reference` sets; what it does besides is in train/compat.py
    "model.drop_prob": 0.2,
    "data.expression": "blink",
    "train.mixed_precision": False,
    "train.audio_warmup": 0,
    "train.disturb": False,
    "train.voices": 0,
    "train.silence": 0.0,
    "train.closing": 0,
    "train.blink_share": 0.0,
    "train.loss.feature": 0.01,
    "train.loss.eyes": 0.0,
    "train.loss.plane_tv": 0.0,
    "train.rate.means": [1.6e-4, 1.6e-6],
    "train.rate.network": [1e-4, 1e-5],
    "train.rate.planes": [1.6e-3, 1.6e-4],
    "train.rate.sound": 1.0,
}


def resolve(name: Path | str) -> Path:
    """Path of a config file or of a shipped config given by name; raises UsageError when there is
    none.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = CONFIG_DIR / f"{path.stem}.yaml"
    if known.is_file() and (len(path.parts) == 1 or path.parent.name == "configs"):
        return known
    raise UsageError(f"no config file {name}", fix=f"Shipped ones: {', '.join(shipped())}")


def read_file(path: Path) -> dict[str, Any]:
    """The tree of one file with its `_base_` merged under it (mmengine's merge: dicts deep, lists
    replaced).

    A file that says `train.compat: reference` says REFERENCE too; what stands in the file itself
    holds against it.
    """
    from mmengine.config import Config as Tree

    if path.suffix == ".py":
        return read_gaussiantalker(path)
    chain, seen = [], set()
    current: Path | None = path
    while current is not None:
        if current.resolve() in seen:
            raise UsageError(
                f"cannot read config {path}",
                "it refers to itself through _base_",
                "Take one _base_ out",
            )
        seen.add(current.resolve())
        try:
            tree = yaml.safe_load(current.read_text()) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(
                f"cannot read config {current}", str(error).replace("\n", " "), "Mend the file"
            ) from error
        if not isinstance(tree, dict) or not all(
            isinstance(key, str) and "." not in key for key in tree
        ):
            raise UsageError(
                f"cannot read config {current}",
                "it is not a mapping of sections",
                "Write for instance train: {fine: {steps: 500}}",
            )
        base = tree.pop("_base_", None)
        chain.append(tree)
        current = None if base is None else _base(current, str(base))
    merged = Tree()
    for tree in reversed(chain):
        train = tree.get("train")
        if isinstance(train, dict) and train.get("compat") == "reference":
            merged.merge_from_dict(REFERENCE)
        try:
            merged.merge_from_dict(tree)
        except (TypeError, RecursionError) as error:
            raise UsageError(
                f"cannot read config {path}",
                "what is a section in one file is a value in its _base_",
                "Write for instance train: {fine: {steps: 500}}",
            ) from error
    return merged.to_dict()


def _base(file: Path, name: str) -> Path:
    """The config that `file` names as its base: beside it, or else a shipped one."""
    for path in (file.parent / name, CONFIG_DIR / f"{name.removesuffix('.yaml')}.yaml"):
        if path.is_file():
            return path
    raise UsageError(
        f"config {file} names _base_ {name}",
        f"{file.parent / name} does not exist",
        f"Its path is relative to the file that names it; shipped ones: {', '.join(shipped())}",
    )


def shipped() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in CONFIG_DIR.glob("*.yaml"))


def read_gaussiantalker(path: Path) -> dict[str, Any]:
    """Our keys of a GaussianTalker `arguments/*.py`: dict literals of the syntax tree, nothing is
    executed.
    """
    try:
        module = ast.parse(path.read_text())
        sections = {
            node.targets[0].id: ast.literal_eval(node.value)
            if not isinstance(node.value, ast.Call)
            else {k.arg: ast.literal_eval(k.value) for k in node.value.keywords if k.arg}
            for node in module.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
    except (OSError, SyntaxError, ValueError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read {path} as a GaussianTalker config",
            str(error),
            "Only literal values are read; give a YAML file instead",
        ) from error
    tree: dict[str, Any] = {}
    for section in sections.values():
        if not isinstance(section, dict):
            continue
        for key, name in GAUSSIANTALKER_KEYS.items():
            if key in section:
                put(tree, name, section[key], str(path))
        planes = section.get("kplanes_config")
        if isinstance(planes, dict):
            put(tree, "model.plane_channels", planes.get("output_coordinate_dim", 32), str(path))
            side = planes.get("resolution", 64)
            put(
                tree,
                "model.plane_resolution",
                side[0] if isinstance(side, list) and side else side,
                str(path),
            )
    return tree


def put(tree: dict[str, Any], name: str, value: Any, where: str) -> None:
    """Set the key `name`, its parts joined by dots; a part that is no section raises UsageError
    naming `where`.
    """
    *parents, last = name.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise UsageError(
                f"{where} cannot be set",
                f"'{part}' is a value, not a section",
                f"Set {name.rpartition('.')[0]} itself",
            )
    tree[last] = value
