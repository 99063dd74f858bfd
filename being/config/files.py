"""Read config files into nested dicts: YAML with `_base_`, and GaussianTalker's `arguments/*.py`.

Config files are data and are never executed: YAML goes through the safe loader, and
`arguments/*.py` are read from their syntax tree.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from being.errors import UsageError
from being.paths import user_path
from being.reading.content import Unreadable, read_text
from being.reading.structured import SETTINGS_MAX, parse_python, parse_yaml, python_literal

CONFIG_DIR = Path(__file__).parent / "presets"

# Key of a GaussianTalker config -> key of a being config
GAUSSIANTALKER_KEYS = {
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

COMPAT_KEY = "train.compat"

# Settings that `train.compat: reference` implies. train/compat.py holds its other effects.
REFERENCE_SETTINGS = {
    "model.drop_prob": 0.2,
    "model.mouth": "audio",
    "data.expression": "blink",
    "train.fine.steps": 10_000,
    "train.mixed_precision": False,
    "train.lips.warmup_steps": 0,
    "train.lips.closure_steps": 0,
    "train.augment.audio_features": False,
    "train.augment.voices": 0,
    "train.augment.silence_share": 0.0,
    "train.oversample.blink_share": 0.0,
    "train.oversample.rare_mouths": False,
    "train.loss.feature": 0.01,
    "train.loss.eyes": 0.0,
    "train.loss.plane_tv": 0.0,
    "train.rate.means": [1.6e-4, 1.6e-6],
    "train.rate.network": [1e-4, 1e-5],
    "train.rate.planes": [1.6e-3, 1.6e-4],
    "train.rate.audio": 1.0,
}


def resolve(name: Path | str) -> Path:
    """Path of a config file, or of a shipped config given by name ("quick", "configs/quick.yaml").

    Raises UsageError when neither exists.
    """
    path = user_path(name)
    if path.is_file():
        return path
    known = CONFIG_DIR / f"{path.stem}.yaml"
    if known.is_file() and (len(path.parts) == 1 or path.parent.name == "configs"):
        return known
    raise UsageError(f"no config file {name}", fix=f"Shipped configs: {', '.join(shipped())}")


def shipped() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(path.stem for path in CONFIG_DIR.glob("*.yaml"))


def read_file(path: Path) -> dict[str, Any]:
    """The settings of one config file as a nested dict, merged over those of its `_base_`.

    Dicts are merged deeply, lists are replaced (mmengine's rules). A file that sets
    `train.compat: reference` also sets REFERENCE_SETTINGS; its own keys override these. Raises
    UsageError for a file that cannot be read, is no mapping, or has a wrong `_base_`.
    """
    from mmengine.config import Config as Tree

    if path.suffix == ".py":
        return read_gaussiantalker(path)

    # The file, its base, the base of its base, ...
    chain = []
    seen = set()
    current: Path | None = path
    while current is not None:
        if current.resolve() in seen:
            raise UsageError(
                f"cannot read config {path}",
                "it refers to itself through _base_",
                "Remove one of the _base_ lines",
            )
        seen.add(current.resolve())
        tree = _read_yaml(current)
        base = tree.pop("_base_", None)
        chain.append(tree)
        current = None if base is None else _find_base(current, str(base))

    # Merge from the last base to the file itself.
    merged = Tree()
    for tree in reversed(chain):
        train = tree.get("train")
        if isinstance(train, dict) and train.get("compat") == "reference":
            merged.merge_from_dict(REFERENCE_SETTINGS)
        try:
            merged.merge_from_dict(tree)
        except (TypeError, RecursionError) as error:
            raise UsageError(
                f"cannot read config {path}",
                "a key is a section in one file and a value in its _base_",
                "Write for instance train: {fine: {steps: 500}}",
            ) from error
    return merged.to_dict()


def _read_yaml(path: Path) -> dict[str, Any]:
    """The content of one YAML file; raises UsageError when it is no mapping of sections."""
    try:
        tree = parse_yaml(read_text(path, SETTINGS_MAX)) or {}
    except (OSError, Unreadable) as error:
        raise UsageError(f"cannot read config {path}", str(error), "Correct the file") from error
    if not _is_mapping_of_sections(tree):
        raise UsageError(
            f"cannot read config {path}",
            "it is not a mapping of sections",
            "Write for instance train: {fine: {steps: 500}}",
        )
    return tree


def _is_mapping_of_sections(tree: Any) -> bool:
    """Whether all keys, those of inner mappings too, are plain names."""
    return isinstance(tree, dict) and all(
        isinstance(key, str)
        and "." not in key
        and (not isinstance(value, dict) or _is_mapping_of_sections(value))
        for key, value in tree.items()
    )


def _find_base(file: Path, name: str) -> Path:
    """Path of the `_base_` that `file` names: a file beside it, or else a shipped config."""
    shown = name[:80]
    for path in (file.parent / name, CONFIG_DIR / f"{name.removesuffix('.yaml')}.yaml"):
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # a name that no file can have
            continue
    raise UsageError(
        f"config {file} names _base_ {shown}",
        f"{file.parent / shown} does not exist",
        "The path is relative to the file that names it; shipped configs: " + ", ".join(shipped()),
    )


def read_gaussiantalker(path: Path) -> dict[str, Any]:
    """The settings of a GaussianTalker `arguments/*.py`, under being's keys.

    Only dict literals of the syntax tree are read; nothing is executed. Raises UsageError when the
    file cannot be parsed or a value is no literal.
    """
    try:
        module = parse_python(read_text(path, SETTINGS_MAX))
        sections = {
            node.targets[0].id: _literal(node.value)
            for node in module.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
    except (OSError, Unreadable) as error:
        raise UsageError(
            f"cannot read {path} as a GaussianTalker config",
            str(error),
            "Only literal values are read; use a YAML file instead",
        ) from error

    tree: dict[str, Any] = {}
    for section in sections.values():
        if not isinstance(section, dict):
            continue
        for key, name in GAUSSIANTALKER_KEYS.items():
            if key in section:
                set_key(tree, name, section[key], str(path))

        # The tri-planes have a dict of their own.
        planes = section.get("kplanes_config")
        if isinstance(planes, dict):
            channels = planes.get("output_coordinate_dim", 32)
            side = planes.get("resolution", 64)
            if isinstance(side, list) and side:
                side = side[0]
            set_key(tree, "model.plane_channels", channels, str(path))
            set_key(tree, "model.plane_resolution", side, str(path))
    return tree


def _literal(node: ast.expr) -> Any:
    """The value of a literal, or of the keywords of a `dict(...)` call; raises Unreadable."""
    if isinstance(node, ast.Call):
        return {item.arg: python_literal(item.value) for item in node.keywords if item.arg}
    return python_literal(node)


def set_key(tree: dict[str, Any], name: str, value: Any, source: str) -> None:
    """Set the dotted key `name` in a nested dict.

    Raises UsageError, which names `source`, when a part of the key is a value and no section.
    """
    *parents, last = name.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise UsageError(
                f"{source} cannot be set",
                f"'{part}' is a value, not a section",
                f"Set {name.rpartition('.')[0]} itself",
            )
    tree[last] = value
