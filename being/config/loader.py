"""Load a config: merge files, environment, overrides and flags, and check every value.

Precedence: flag > `-o key.path=value` > environment `BEING_SECTION__KEY` > file > `_base_` >
default. The docstring under a field in `schema.py` is its help text. An error about a value shows
it, and `describe` lists it for every key.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from being.config.files import COMPAT_KEY, REFERENCE_SETTINGS, read_file, resolve, set_key
from being.config.schema import CHOICES, INTEGER_MAX, LOWER_BOUNDS, UPPER_BOUNDS, Config
from being.errors import UsageError
from being.reading.content import Unreadable
from being.reading.structured import parse_yaml

SHOWN = 120  # characters of a wrong value that an error shows
ITEMS_MAX = 16  # numbers in one list
RESERVED_ENV = ("BEING_HOME", "BEING_CACHE", "BEING_OFFLINE", "BEING_SHARED")

# Old key -> new key. An old key is refused with its new name, wherever it is set.
RENAMED_KEYS = {
    "train.closing": "train.lips.closure_steps",
    "train.audio_warmup": "train.lips.warmup_steps",
    "train.mouth_told": "train.lips.true_mouth_share",
    "train.disturb": "train.augment.audio_features",
    "train.voices": "train.augment.voices",
    "train.silence": "train.augment.silence_share",
    "train.blink_share": "train.oversample.blink_share",
    "train.rate.sound": "train.rate.audio",
    "train.sh_every": "train.sh_degree_every",
    "data.gaussians": "data.initial_gaussians",
}


# What `field_help` has read.
_FIELD_HELP: dict[type, dict[str, str]] = {}


class Setting(NamedTuple):
    """One value that environment, override or flag sets."""

    name: str  # dotted key
    value: Any
    source: str  # for error messages, e.g. "-o data.size=3"


class KeyDescription(NamedTuple):
    """One config key as `describe` lists it."""

    name: str  # dotted key
    value: Any  # the value in the described config
    help: str  # plain text on one line
    bounds: tuple[float, float] | None  # smallest and largest allowed number; None: no number


def load(
    file: Path | str | None = None,
    overrides: list[str] | None = None,
    flags: dict[str, Any] | None = None,
    environment: typing.Mapping[str, str] | None = None,
) -> Config:
    """The merged and checked config.

    `file`: path, or name of a shipped config ("quick"). `overrides`: "key.path=value" strings.
    `flags`: dotted key to value; None values are ignored. `environment`: variables by name
    (default: those of the process). Raises UsageError that names the key, its source and, for an
    unknown key, the nearest known one.
    """
    tree: dict[str, Any] = read_file(resolve(file)) if file is not None else {}
    if environment is None:
        environment = os.environ
    layers = (
        _environment_settings(environment),
        _override_settings(overrides or []),
        _flag_settings(flags or {}),
    )

    # Merge from the weakest layer to the strongest; remember where each key was set last.
    sources: dict[str, str] = {}
    for layer in layers:
        # `train.compat: reference` implies its settings below the other keys of the same layer.
        if {item.name: item.value for item in layer}.get(COMPAT_KEY) == "reference":
            for name, value in REFERENCE_SETTINGS.items():
                set_key(tree, name, value, COMPAT_KEY)
        for name, value, source in layer:
            sources[name] = source
            set_key(tree, name, value, source)

    # An error names the source of its key.
    try:
        return from_dict(tree)
    except UsageError as error:
        named = (source for key, source in sources.items() if f"'{key}'" in error.what)
        source = next(named, str(file or "the defaults"))
        why = "; ".join(filter(None, (error.why, f"set by {source}")))
        raise UsageError(error.what, why, error.fix) from None


def from_dict(tree: dict[str, Any]) -> Config:
    """The checked Config of a nested dict such as `Config.to_dict` returns.

    Raises UsageError for an unknown or renamed key, a value of the wrong type or out of its bounds.
    """
    if not isinstance(tree, dict):
        raise UsageError(f"the config is {type(tree).__name__}, not keys with values")
    _refuse_renamed_keys(tree)
    config = _build_section(Config, tree, "")
    if config.model.d_model % config.model.n_head:
        raise UsageError(
            f"config key 'model.d_model' is {config.model.d_model}",
            f"not a multiple of model.n_head, {config.model.n_head}",
            "Change one of the two",
        )
    features = config.model.plane_channels * len(config.model.plane_scales)
    if features != config.model.d_model:
        raise UsageError(
            f"config key 'model.d_model' is {config.model.d_model}",
            f"the tri-planes give {features} features: model.plane_channels times the number of "
            "model.plane_scales",
            "Make both equal",
        )
    return config


def _refuse_renamed_keys(tree: dict[str, Any]) -> None:
    """Raise UsageError that names every old key of the tree when there are several.

    One old key alone is refused by `_unknown_key`.
    """
    renamed = [name for name in _dotted_keys(tree) if name in RENAMED_KEYS]
    if len(renamed) > 1:
        raise UsageError(
            "unknown config keys " + ", ".join(f"'{name}'" for name in renamed),
            "; ".join(f"{name} is now {RENAMED_KEYS[name]}" for name in renamed),
            "Use the new names",
        )


def _dotted_keys(tree: dict[str, Any]) -> list[str]:
    """The keys of a nested dict, joined by dots; those of inner dicts too."""
    keys = []
    for key, value in tree.items():
        keys.append(str(key))
        if isinstance(value, dict):
            keys += [f"{key}.{inner}" for inner in _dotted_keys(value)]
    return keys


def describe(config: Config | None = None) -> list[KeyDescription]:
    """Every key of `config` (default: the defaults) with its value, help text and bounds."""
    return list(_describe_section(config or Config(), ""))


def field_help(section: type) -> dict[str, str]:
    """Help text of each field of a section class: the docstring under the field in its source."""
    if section not in _FIELD_HELP:
        _FIELD_HELP[section] = _parse_field_help(section)
    return _FIELD_HELP[section]


def _parse_field_help(section: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(section))
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    texts = {}
    for item, after in zip(body, body[1:], strict=False):
        if (
            isinstance(item, ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            texts[item.target.id] = str(after.value.value)  # type: ignore[union-attr]
    return texts


# --- settings of environment, overrides and flags -------------------------------------------------


def _environment_settings(environment: typing.Mapping[str, str]) -> list[Setting]:
    """The settings of all variables BEING_SECTION__KEY."""
    variables = sorted(
        name
        for name in environment
        if name.startswith("BEING_") and "__" in name and name not in RESERVED_ENV
    )
    return [
        Setting(
            name.removeprefix("BEING_").lower().replace("__", "."),
            _parse_value(environment[name], name),
            f"the environment variable {name}",
        )
        for name in variables
    ]


def _override_settings(overrides: list[str]) -> list[Setting]:
    """The settings of all `-o key.path=value`."""
    found = []
    for item in overrides:
        name, equals, text = item.partition("=")
        if not equals:
            raise UsageError(
                f"-o {item} is not of the form key.path=value",
                fix="Write for instance -o train.fine.steps=500",
            )
        found.append(Setting(name.strip(), _parse_value(text, item), f"-o {item}"))
    return found


def _flag_settings(flags: dict[str, Any]) -> list[Setting]:
    """The settings of command-line flags; a value of None means that the flag is not set."""
    return [
        Setting(name, value, f"--{name.split('.')[-1]}")
        for name, value in flags.items()
        if value is not None
    ]


def _parse_value(text: str, source: str) -> Any:
    try:
        return parse_yaml(text)
    except Unreadable as error:
        raise UsageError(
            f"cannot read the value of {source[:SHOWN]}", str(error), "Write it as YAML"
        ) from error


# --- typed sections -------------------------------------------------------------------------------


def _build_section(section: Any, tree: Any, prefix: str) -> Any:
    """An instance of the dataclass `section` from a dict; `prefix` is its dotted key and a dot."""
    if not isinstance(tree, dict):
        raise UsageError(
            f"config section '{prefix.rstrip('.')}' cannot be {_shown(tree)}",
            "it must be a mapping",
            f"Its keys: {', '.join(typing.get_type_hints(section))}",
        )
    hints = typing.get_type_hints(section)
    for key in tree:
        if key not in hints:
            raise _unknown_key(f"{prefix}{key}", sorted(hints))

    values = {}
    for key, value in tree.items():
        hint, name = hints[key], prefix + key
        if dataclasses.is_dataclass(hint):
            values[key] = _build_section(hint, value, f"{name}.")
            continue
        try:
            values[key] = _check_bounds(_convert(hint, value, name), name)
        except UsageError as error:
            help_text = _one_line(field_help(section)[key])
            raise UsageError(error.what, error.why, help_text) from None
    return section(**values)


def _unknown_key(name: str, siblings: list[str]) -> UsageError:
    """The error for the unknown dotted key `name`; `siblings` are the known keys of its section."""
    what = f"unknown config key '{name}'"
    if name in RENAMED_KEYS:
        return UsageError(what, f"{name} is now {RENAMED_KEYS[name]}", "Use the new name")
    every_key = [item.name for item in describe()]
    near = difflib.get_close_matches(name[:SHOWN], every_key, 1, 0.5)
    if not near:  # perhaps the right key without its section
        near = [key for key in every_key if key.split(".")[-1] == name.split(".")[-1]][:1]
    fix = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(siblings)}"
    return UsageError(what, fix=fix)


def _check_bounds(value: Any, name: str) -> Any:
    """`value`, whose numbers must be finite and within the bounds of the key `name`."""
    lowest, highest = _bounds(name)
    if name in CHOICES and value not in CHOICES[name]:
        raise UsageError(
            f"config key '{name}' is {value!r}", f"it must be one of {', '.join(CHOICES[name])}"
        )
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, (int, float)):
            continue
        if isinstance(number, int) and highest == math.inf:
            highest = INTEGER_MAX
        if not (lowest <= number <= highest and number < math.inf):
            limit = f"at most {highest}" if highest < math.inf else "finite"
            raise UsageError(
                f"config key '{name}' is {_shown(number)}",
                f"it must be at least {lowest} and {limit}",
            )
    return value


def _bounds(name: str) -> tuple[float, float]:
    return LOWER_BOUNDS.get(name, 0), UPPER_BOUNDS.get(name, math.inf)


def _convert(hint: Any, value: Any, name: str) -> Any:
    """`value` as the type `hint`: bool, int, float, str or a tuple of them.

    Raises UsageError, which names the key `name`, for a value of another type.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)

    # Optional values
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, name)

    # Lists
    if origin is tuple and isinstance(value, (list, tuple)):
        if Ellipsis not in arguments and len(value) != len(arguments):
            raise UsageError(
                f"config key '{name}' cannot be {_shown(value)}",
                f"it needs {len(arguments)} values",
            )
        if not value:
            raise UsageError(f"config key '{name}' is empty", "it needs at least one value")
        if len(value) > ITEMS_MAX:
            raise UsageError(f"config key '{name}' has {len(value)} values", f"{ITEMS_MAX} at most")
        return tuple(_convert(arguments[0], item, name) for item in value)

    # Numbers; YAML 1.1 reads 1e-4 as text
    if hint is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an integer beyond every float
            return math.inf

    # A bool is an int for Python, but not in a config.
    right_type = isinstance(value, hint if origin is None else origin)
    if right_type and (hint is bool or not isinstance(value, bool)):
        return value
    raise UsageError(
        f"config key '{name}' cannot be {_shown(value)}",
        f"it must be {getattr(hint, '__name__', hint)}",
    )


def _shown(value: Any) -> str:
    """A wrong value as an error shows it."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _describe_section(section: Any, prefix: str) -> Iterator[KeyDescription]:
    texts = field_help(type(section))
    for item in dataclasses.fields(section):
        name, value = prefix + item.name, getattr(section, item.name)
        if dataclasses.is_dataclass(value):
            yield from _describe_section(value, f"{name}.")
            continue
        first = value[0] if isinstance(value, tuple) else value
        is_number = isinstance(first, (int, float)) and not isinstance(first, bool)
        bounds = _bounds(name) if is_number else None
        yield KeyDescription(name, value, _one_line(texts[item.name]), bounds)


def _one_line(text: str) -> str:
    return " ".join(text.split())
