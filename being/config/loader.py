"""Load a config: merge files, environment, overrides and flags, and check every value.

Precedence: flag > `-o key.path=value` > environment `BEING_SECTION__KEY` > file > `_base_` >
default. pydantic checks the values by the types of `schema.py`; an error about a value shows what
its key may hold, and `describe` lists it for every key.
"""

from __future__ import annotations

import difflib
import math
import os
import typing
from collections.abc import Iterable, Iterator
from functools import cache, reduce
from operator import attrgetter, getitem
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from being.config.files import COMPAT_KEY, REFERENCE_SETTINGS, read_file, resolve, set_key
from being.config.schema import INTEGER_MAX, Config, Section
from being.errors import UsageError
from being.reading.content import Unreadable
from being.reading.structured import parse_yaml

SHOWN = 120  # characters of a wrong value that an error shows
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
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, tree) from None


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
    config = config or Config()
    return [
        KeyDescription(
            name, attrgetter(name)(config), _one_line(rule["description"]), _bounds(rule)
        )
        for name, rule in _rules().items()
    ]


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


# --- what a key may hold --------------------------------------------------------------------------


@cache
def _rules() -> dict[str, dict[str, Any]]:
    """The JSON Schema of every dotted key."""
    return dict(_rules_of_section(Config, ""))


def _rules_of_section(section: type[Section], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rules = section.model_json_schema()["properties"]
    for key in section.model_fields:
        inner = _section_at(section, [key])
        if inner is None:
            yield prefix + key, rules[key]
        else:
            yield from _rules_of_section(inner, f"{prefix}{key}.")


def _section_at(section: type[Section], keys: Iterable[str]) -> type[Section] | None:
    """The section inside `section` that `keys` lead to; None when they lead to a value."""
    for key in keys:
        kind = section.model_fields[key].annotation
        if not isinstance(kind, type) or not issubclass(kind, Section):
            return None
        section = kind
    return section


def _numbers(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule of one number of a key: that of its items when it holds several."""
    return rule.get("items") or rule.get("prefixItems", [rule])[0]


def _bounds(rule: dict[str, Any]) -> tuple[float, float] | None:
    """Smallest and largest number that a key may hold; None when it holds no numbers."""
    rule = _numbers(rule)
    if rule["type"] not in ("integer", "number"):
        return None
    highest = rule.get("maximum", math.inf)
    return rule["minimum"], math.inf if highest == INTEGER_MAX else highest


def _allowed(rule: dict[str, Any]) -> str:
    """What a key may hold, in words, for instance "a whole number, at least 1 and at most 9"."""
    if "enum" in rule:
        return f"one of {', '.join(rule['enum'])}"
    if rule["type"] in ("boolean", "string"):
        return {"boolean": "true or false", "string": "text"}[rule["type"]]
    number = _numbers(rule)
    text = "whole number" if number["type"] == "integer" else "number"
    least, most = rule.get("minItems"), rule.get("maxItems")
    if rule["type"] != "array":
        text = f"a {text},"
    elif least == most:
        text = f"a list of {least} {text}s, each"
    else:
        text = f"a list of {least} to {most} {text}s, each"
    limit = f"at most {number['maximum']}" if "maximum" in number else "finite"
    return f"{text} at least {number['minimum']} and {limit}"


# --- errors ---------------------------------------------------------------------------------------


def _explain(error: ValidationError, tree: dict[str, Any]) -> UsageError:
    """The first fault that pydantic found in `tree`, in the words of this package."""
    faults = error.errors(include_url=False, include_context=False)
    unknown = ("extra_forbidden", "invalid_key")
    fault = next((item for item in faults if item["type"] in unknown), faults[0])
    place = fault["loc"]
    if fault["type"] in unknown:
        return _unknown_key([str(key) for key in place])

    # The number of an item of a list is no key.
    keys = [key for key in place if isinstance(key, str)]
    name, value = ".".join(keys), reduce(getitem, keys, tree)
    section = _section_at(Config, keys)
    if section is not None:
        return UsageError(
            f"config section '{name}' cannot be {_shown(value)}",
            "it must be a mapping",
            f"Its keys: {', '.join(section.model_fields)}",
        )
    rule = _rules()[name]
    return UsageError(
        f"config key '{name}' cannot be {_shown(value)}",
        f"it must be {_allowed(rule)}",
        _one_line(rule["description"]),
    )


def _unknown_key(keys: list[str]) -> UsageError:
    """The error for an unknown key; `keys` are its sections and itself."""
    name = ".".join(keys)
    what = f"unknown config key '{name}'"
    if name in RENAMED_KEYS:
        return UsageError(what, f"{name} is now {RENAMED_KEYS[name]}", "Use the new name")
    near = difflib.get_close_matches(name[:SHOWN], _rules(), 1, 0.5)
    if not near:  # perhaps the right key without its section
        near = [key for key in _rules() if key.split(".")[-1] == name.split(".")[-1]][:1]
    if near:
        return UsageError(what, fix=f"Did you mean '{near[0]}'?")
    section = _section_at(Config, keys[:-1])
    assert section is not None
    return UsageError(what, fix=f"Known: {', '.join(sorted(section.model_fields))}")


def _shown(value: Any) -> str:
    """A wrong value as an error shows it."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write whole numbers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _one_line(text: str) -> str:
    return " ".join(text.split())
