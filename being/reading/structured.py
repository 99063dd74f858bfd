"""JSON, YAML and Python literals of texts that are not trusted."""

from __future__ import annotations

import ast
import json
import warnings
from pathlib import Path
from typing import Any

import yaml

from being.reading.content import RESTORE_HINT, TEXT_MAX, Unreadable, read_text, reason, rejected

SETTINGS_MAX = 64 << 10  # bytes of a YAML or Python file of settings
# Nodes of a YAML text when every alias counts as what it stands for. A few lines of aliases to
# aliases stand for billions.
YAML_NODES_MAX = 20_000
# Digits of a number: longer ones cannot be printed in decimal.
DIGITS_MAX = 400


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises Unreadable."""
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise Unreadable("its lists or objects lie too deep in each other") from error
    except ValueError as error:
        raise Unreadable(reason(error)) from error


def read_json(path: Path, fix: str = RESTORE_HINT, limit: int = TEXT_MAX) -> dict[str, Any]:
    """The JSON object in a file. Raises InputRejected when there is none that can be read."""
    try:
        value = parse_json(read_text(path, limit))
        if not isinstance(value, dict):
            raise Unreadable("it is not a JSON object")
    except (OSError, Unreadable) as error:
        raise rejected(path, error, fix) from error
    return value


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


class _BoundedLoader(yaml.SafeLoader):
    """The safe loader; it counts what aliases stand for, and refuses a node inside itself."""

    def __init__(self, text: str):
        super().__init__(text)
        self._nodes = 0
        self._open: set[int] = set()
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        before = self._nodes
        if self.check_event(yaml.events.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise Unreadable("an alias refers to the value that it is in")
            self._count(self._sizes[id(node)])
            return node
        self._count(1)
        node = super().compose_node(parent, index)
        self._sizes[id(node)] = self._nodes - before
        return node

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > YAML_NODES_MAX:
            raise Unreadable(f"it stands for more than {YAML_NODES_MAX} values")


def parse_yaml(text: str) -> Any:
    """The value of a YAML text of settings, by the safe loader. Raises Unreadable."""
    if len(text) > SETTINGS_MAX:
        raise Unreadable(f"it has {len(text)} characters, at most {SETTINGS_MAX} are read")
    try:
        loader = _BoundedLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise Unreadable(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise Unreadable("its values lie too deep in each other") from error
    except (ValueError, TypeError, OverflowError, LookupError, AttributeError) as error:
        # The constructors of numbers and dates raise these for what only looks like one.
        raise Unreadable(reason(error)) from error


def parse_python(text: str, mode: str = "exec") -> Any:
    """The syntax tree of a Python text; nothing of it is run. Raises Unreadable."""
    if len(text) > SETTINGS_MAX:
        raise Unreadable(f"it has {len(text)} characters, at most {SETTINGS_MAX} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for instance of an escape that is none
            return ast.parse(text, mode=mode)
    except (RecursionError, MemoryError) as error:
        raise Unreadable("its brackets lie too deep in each other") from error
    except (SyntaxError, ValueError) as error:
        raise Unreadable(reason(error)) from error


def python_literal(node: ast.expr) -> Any:
    """The value of a literal of a syntax tree. Raises Unreadable for anything else."""
    try:
        return ast.literal_eval(node)
    except (RecursionError, MemoryError) as error:
        raise Unreadable("a value lies too deep in others") from error
    except (ValueError, TypeError, SyntaxError, ArithmeticError) as error:
        raise Unreadable(reason(error)) from error
