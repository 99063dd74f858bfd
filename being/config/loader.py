"""The one config loader: files (`config_files`), typed sections, overrides.

Precedence: flag > `-o key.path=value` > environment `BEING_SECTION__KEY` > file > `_base_` >
default. The docstring under a field is its help text (`field_help`), said where a value of it is
refused.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import math
import os
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from being.config.files import COMPAT, REFERENCE, put, read_file, resolve
from being.config.schema import (
    AT_LEAST,
    AT_MOST,
    Config,
)
from being.errors import UsageError

RESERVED_ENV = ("BEING_HOME", "BEING_CACHE", "BEING_OFFLINE", "BEING_SHARED")


def load(
    file: Path | str | None = None,
    overrides: list[str] | None = None,
    flags: dict[str, Any] | None = None,
    environment: typing.Mapping[str, str] | None = None,
) -> Config:
    """The merged, checked configuration.

    `file`: path, or the name of a shipped config ("quick"). `overrides`: "key.path=value" strings.
    `flags`: dotted key to value, None values are ignored. Raises UsageError naming the key, the
    file and the nearest known key.
    """
    tree: dict[str, Any] = read_file(resolve(file)) if file is not None else {}
    places: dict[str, str] = {}  # of keys that no file set
    for layer in (
        _of_environment(os.environ if environment is None else environment),
        _of_overrides(overrides or []),
        [
            (name, value, f"--{name.split('.')[-1]}")
            for name, value in (flags or {}).items()
            if value is not None
        ],
    ):
        if {name: value for name, value, _ in layer}.get(COMPAT) == "reference":
            for name, value in REFERENCE.items():
                put(tree, name, value, COMPAT)
        for name, value, place in layer:
            places[name] = place
            put(tree, name, value, place)
    try:
        return from_dict(tree)
    except UsageError as error:
        place = next(
            (place for key, place in places.items() if f"'{key}'" in error.what),
            str(file or "the defaults"),
        )
        raise UsageError(
            error.what, "; ".join(filter(None, (error.why, f"set by {place}"))), error.fix
        ) from None


def from_dict(tree: dict[str, Any]) -> Config:
    """A checked Config of a plain nested dict (as `Config.to_dict` gives)."""
    config = _build(Config, tree, "")
    if config.model.d_model % config.model.n_head:
        raise UsageError(
            f"config key 'model.d_model' is {config.model.d_model}",
            f"not a multiple of model.n_head, {config.model.n_head}",
            "Change one of the two",
        )
    return config


def field_help(section: type) -> dict[str, str]:
    """Help text of each field of a section: the string under it in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0].body  # type: ignore[attr-defined]
    texts = {}
    for item, after in zip(body, body[1:], strict=False):
        if (
            isinstance(item, ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            texts[item.target.id] = str(after.value.value)  # type: ignore[union-attr]
    return texts


# --- merging and checking
# ------------------------------------------------------------------------------------------


def _of_environment(environment: typing.Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """Key, value and place of all that BEING_SECTION__KEY sets."""
    keys = sorted(
        key
        for key in environment
        if key.startswith("BEING_") and "__" in key and key not in RESERVED_ENV
    )
    return [
        (
            key[len("BEING_") :].lower().replace("__", "."),
            _value(environment[key], key),
            f"the environment variable {key}",
        )
        for key in keys
    ]


def _of_overrides(items: list[str]) -> list[tuple[str, Any, str]]:
    """Key, value and place of all that `-o key.path=value` sets."""
    found = []
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise UsageError(
                f"-o {item} is not of the form key.path=value",
                fix="Write for instance -o train.fine.steps=500",
            )
        found.append((name.strip(), _value(text, item), f"-o {item}"))
    return found


def _value(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"cannot read the value of {where}", str(error).replace("\n", " "), "Write it as YAML"
        ) from error


def _known_keys(section: Any, prefix: str = "") -> list[str]:
    keys = []
    for item in dataclasses.fields(section):
        kind = typing.get_type_hints(section)[item.name]
        keys += (
            _known_keys(kind, f"{prefix}{item.name}.")
            if dataclasses.is_dataclass(kind)
            else [prefix + item.name]
        )
    return keys


def _build(section: Any, tree: Any, prefix: str) -> Any:
    if not isinstance(tree, dict):
        raise UsageError(
            f"config section '{prefix.rstrip('.')}' cannot be {tree!r}",
            "it must be a mapping",
            f"Its keys: {', '.join(typing.get_type_hints(section))}",
        )
    hints = typing.get_type_hints(section)
    for key in tree:
        if key not in hints:
            everywhere = _known_keys(Config)
            near = (
                difflib.get_close_matches(f"{prefix}{key}", everywhere, 1, 0.5)
                or [k for k in everywhere if k.split(".")[-1] == str(key)][:1]
            )
            raise UsageError(
                f"unknown config key '{prefix}{key}'",
                fix=f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(sorted(hints))}",
            )
    values = {}
    for key, value in tree.items():
        kind, name = hints[key], prefix + key
        if dataclasses.is_dataclass(kind):
            values[key] = _build(kind, value, f"{name}.")
            continue
        try:
            values[key] = _checked(_convert(kind, value, name), name)
        except UsageError as error:
            raise UsageError(
                error.what, error.why, " ".join(field_help(section)[key].split())
            ) from None
    return section(**values)


def _checked(value: Any, name: str) -> Any:
    """`value` if its numbers are finite and in the range of the key."""
    least, most = AT_LEAST.get(name, 0), AT_MOST.get(name, math.inf)
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, (int, float)) and not (least <= number <= most and number < math.inf):
            raise UsageError(
                f"config key '{name}' is {number}",
                f"it must be at least {least}"
                + (f" and at most {most}" if most < math.inf else " and finite"),
            )
    return value


def _convert(kind: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return (
            None
            if value is None
            else _convert(next(a for a in arguments if a is not type(None)), value, name)
        )
    if origin is tuple and isinstance(value, (list, tuple)):
        if Ellipsis not in arguments and len(value) != len(arguments):
            raise UsageError(
                f"config key '{name}' cannot be {value!r}", f"it needs {len(arguments)} values"
            )
        if not value:
            raise UsageError(f"config key '{name}' is empty", "it needs a value at least")
        return tuple(_convert(arguments[0], v, name) for v in value)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind if origin is None else origin) and (
        kind is bool or not isinstance(value, bool)
    ):
        return value
    raise UsageError(
        f"config key '{name}' cannot be {value!r}", f"it must be {getattr(kind, '__name__', kind)}"
    )
