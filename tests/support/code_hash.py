"""A hash of a module's code that comments, docstrings and layout do not change."""

from __future__ import annotations

import ast
import hashlib
from types import ModuleType
from typing import Any


def code_hash(module: ModuleType) -> str:
    """`tree_hash` of a module's syntax tree."""
    assert module.__file__ is not None
    with open(module.__file__, encoding="utf-8") as file:
        return tree_hash(ast.parse(file.read()))


def tree_hash(*trees: ast.AST) -> str:
    """The first 16 hexadecimal digits of the sha256 of syntax trees without docstrings.

    Empty fields are left out of the trees, because versions of Python differ in them.
    """
    digest = hashlib.sha256()
    for tree in trees:
        digest.update(_dump(tree).encode())
    return digest.hexdigest()[:16]


def _dump(node: Any) -> str:
    if isinstance(node, list):
        return "[" + ",".join(_dump(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    values = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if ast.get_docstring(node, clean=False) is not None:
            values["body"] = values["body"][1:]
    fields = [
        f"{name}={_dump(value)}"
        for name, value in values.items()
        if value is not None and value != []
    ]
    return f"{type(node).__name__}({','.join(fields)})"
