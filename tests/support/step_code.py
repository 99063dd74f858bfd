"""Hashes of the code that each preprocessing step runs, and the command that saves them.

    python -m tests.support.step_code

writes tests/preprocess/step_code.json. The code of a step is its function and every function, class
and constant of `being` that it refers to, directly or through others; docstrings, comments and
annotations do not count as references. What only shows progress or errors is left out.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from tests.support.code_hash import tree_hash

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "preprocess" / "step_code.json"
STEPS_MODULE = "being.preprocess.steps"
CONTEXT = "StepContext"  # a step depends only on the members of the context that it uses
CONTEXT_NAMES = ("context", "self")  # of the context inside the steps and inside its members
# Modules whose code does not change the outputs of a step.
LEFT_OUT = (
    "being.console",
    "being.errors",
    "being.preprocess.step_graph",
    "being.preprocess.workspace",
)

Symbol = tuple[str, str]  # dotted module, name


def step_hashes() -> dict[str, dict[str, int | str]]:
    """Version and hash of the code of each step, by name."""
    from being.preprocess.steps import STEPS

    hashes: dict[str, dict[str, int | str]] = {}
    for step in STEPS:
        nodes = definitions(step.run.__name__)
        trees = [node for symbol in sorted(nodes) for node in nodes[symbol]]
        hashes[step.name] = {"version": step.version, "code": tree_hash(*trees)}
    return hashes


def definitions(function: str) -> dict[Symbol, list[ast.stmt]]:
    """The definitions that a function of the module of steps needs, itself included."""
    found: dict[Symbol, list[ast.stmt]] = {}
    waiting = [(STEPS_MODULE, function)]
    while waiting:
        module, name = waiting.pop()
        if (module, name) in found or module in LEFT_OUT:
            continue
        nodes, references = _definition(module, name)
        if nodes:
            found[module, name] = nodes
            waiting += references
        elif name in _imports(module):
            waiting.append(_imports(module)[name])
    return found


@cache
def _definition(module: str, name: str) -> tuple[list[ast.stmt], list[Symbol]]:
    """The statements that define a top-level name of a module, and the symbols they refer to.

    name: also CONTEXT.member. The context as a whole has no definition.
    """
    if module == STEPS_MODULE and name == CONTEXT:
        return [], []
    owner, _, member = name.rpartition(".")
    body = _tree(module).body
    if owner:
        classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == owner]
        body, name = classes[0].body, member
    nodes = [node for node in body if name in _defined_names(node)]
    return nodes, [symbol for node in nodes for symbol in _references(module, node)]


def _defined_names(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        parts = [part for target in targets for part in ast.walk(target)]
        return [part.id for part in parts if isinstance(part, ast.Name)]
    return []


def _references(module: str, definition: ast.stmt) -> Iterator[Symbol]:
    """The symbols of `being` that a definition refers to, directly."""
    inside = [node for node in ast.walk(definition) if isinstance(node, ast.ImportFrom)]
    imports = {**_imports(module), **_import_table(inside)}
    for node in _without_annotations(definition):
        if isinstance(node, ast.Name):
            # A name imported as a module is followed where an attribute of it is used.
            yield imports.get(node.id, (module, node.id))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = node.value.id
            if module == STEPS_MODULE and owner in CONTEXT_NAMES:
                yield module, f"{CONTEXT}.{node.attr}"
            if owner in imports and _path(".".join(imports[owner])) is not None:
                yield ".".join(imports[owner]), node.attr


def _without_annotations(node: ast.AST) -> Iterator[ast.AST]:
    """A syntax tree's nodes, those of annotations left out."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _without_annotations(child)


@cache
def _imports(module: str) -> dict[str, Symbol]:
    """The symbols of `being` that a module imports at its top level, by their local name."""
    return _import_table([node for node in _tree(module).body if isinstance(node, ast.ImportFrom)])


def _import_table(statements: Iterable[ast.ImportFrom]) -> dict[str, Symbol]:
    """The symbols of `being` in import statements, by their local name."""
    table: dict[str, Symbol] = {}
    for statement in statements:
        source = statement.module or ""
        if source.split(".")[0] == "being":
            for alias in statement.names:
                table[alias.asname or alias.name] = (source, alias.name)
    return table


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


def _path(module: str) -> Path | None:
    """The file of a module of `being`, or None."""
    path = ROOT.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def main() -> None:
    """Save the hashes of all steps."""
    FILE.write_text(json.dumps(step_hashes(), indent=2) + "\n")
    print(f"saved {FILE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
