"""The import contract: which package may import which, and no import cycles, eager or lazy."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import being

ROOT = Path(being.__file__).parent
# Packages and modules of `being` in the order of data flow. Imports go to the left only.
ORDER = """
    conventions errors threads progress_bars console names paths locks reading files onnx_runtime
    config assets media report audio tts splat face data provenance preprocess model metrics runs
    train inference refine session conversation adapters api deploy run_page interop library eval
    bench sample view demo doctor cli
""".split()
# What each of them imports. A new edge is a decision: add it here, and say why in the commit.
ALLOWED = {
    "console": "progress_bars",
    "names": "console errors",
    "paths": "errors",
    "locks": "errors paths",
    "reading": "console errors",
    "files": "paths locks",
    "config": "errors paths reading",
    "assets": "errors console locks files",
    "media": "conventions errors paths reading files",
    "report": "conventions",
    "audio": "conventions errors reading files assets media",
    "tts": "audio errors threads onnx_runtime assets media",
    "splat": "conventions errors",
    "face": "conventions errors threads reading assets",
    "data": "conventions errors threads console names paths reading files media audio face",
    "provenance": "errors paths reading media data",
    "preprocess": (
        "conventions errors threads console names paths locks reading files onnx_runtime assets "
        "media report audio face data"
    ),
    "model": "conventions errors names paths reading files config media audio splat face data",
    "runs": "errors console names paths locks reading files config",
    "train": (
        "conventions errors threads console paths locks reading files config assets media report "
        "audio splat face data provenance model metrics runs"
    ),
    "inference": (
        "conventions errors threads console paths reading files media audio tts splat face data "
        "provenance model"
    ),
    "refine": "errors threads console paths reading assets media audio face provenance inference",
    "session": "conventions errors threads media audio tts data provenance model inference",
    "conversation": "conventions errors console reading onnx_runtime assets media",
    "adapters": "conventions errors media provenance inference session",
    "api": ("conventions errors threads console reading media tts session conversation adapters"),
    "run_page": "errors reading runs api",
    "deploy": (
        "errors threads console names paths locks reading files config data preprocess runs "
        "session api"
    ),
    "interop": (
        "conventions errors threads console names paths locks reading files onnx_runtime config "
        "media audio face data provenance preprocess model runs"
    ),
    "library": "errors paths locks reading files data model runs interop",
    "eval": (
        "conventions errors threads console paths locks reading files config assets media report "
        "audio tts face data provenance model metrics runs inference"
    ),
    "bench": (
        "conventions errors threads console files onnx_runtime config assets media report audio "
        "tts splat face data model inference refine session conversation api interop"
    ),
    "view": (
        "conventions errors console paths reading files media report audio splat data provenance "
        "model runs inference interop sample"
    ),
    "demo": "errors console files config tts splat data preprocess train inference eval sample",
    "doctor": (
        "conventions errors paths reading assets media audio tts splat provenance model inference "
        "api"
    ),
    "cli": (
        "errors threads console paths reading config assets media tts splat face data preprocess "
        "provenance model runs train inference refine api deploy run_page interop library eval "
        "bench view demo doctor"
    ),
}
ONLY_DOORS = {
    "av": "being.media",
    "imageio_ffmpeg": "being.media",
    "onnxruntime": "being.onnx_runtime",
    "open3d": "being.view.window",
    "diffusers": "being.refine.image_model",
    "c2pa": "being.provenance.content_credentials",
    "transformers": "being.assets.hub",
    "huggingface_hub": "being.assets.hub",
    "livekit": "being.adapters.livekit",
    "pipecat": "being.adapters.pipecat",
    "aiortc": "being.adapters.webrtc",
    "ray": "being.deploy",
}  # third-party packages that one package alone may import


def _modules() -> dict[str, Path]:
    """All modules of the package by dotted name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = _modules()


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "being"


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _imported(tree: ast.AST, with_types: bool) -> Iterable[str]:
    """Dotted names that the nodes under `tree` import, those inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if _is_type_checking(node) and not with_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        yield from _imported(node, with_types)


def _edges(with_types: bool) -> dict[str, set[str]]:
    """For each module the modules of `being` that it imports."""
    edges = {}
    for module, path in MODULES.items():
        names = set(_imported(ast.parse(path.read_text()), with_types))
        edges[module] = {
            name for name in names if name in MODULES and name not in (module, "being")
        }
    return edges


def _cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in edges[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                found.append(sorted(component))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def test_every_package_has_its_place_in_the_order() -> None:
    rooms = {_room(module) for module in MODULES} - {"being"}
    assert rooms == set(ORDER)


def test_imports_go_downward_only() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in _edges(with_types=True).items()
        for other in others
        if module != "being" and ORDER.index(_room(other)) > ORDER.index(_room(module))
    ]
    assert not wrong, wrong


def test_each_package_imports_what_the_contract_names() -> None:
    used: dict[str, set[str]] = {room: set() for room in ORDER}
    for module, others in _edges(with_types=True).items():
        if module != "being":
            used[_room(module)] |= {_room(other) for other in others} - {_room(module)}
    allowed = {room: set(ALLOWED.get(room, "").split()) for room in ORDER}
    more = {
        room: sorted(used[room] - allowed[room]) for room in ORDER if used[room] - allowed[room]
    }
    fewer = {
        room: sorted(allowed[room] - used[room]) for room in ORDER if allowed[room] - used[room]
    }
    assert not more, f"imports that the contract does not name: {more}"
    assert not fewer, f"the contract names imports that no longer exist: {fewer}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count: a lazy import must not hide a cycle."""
    assert not _cycles(_edges(with_types=False))


def test_one_package_is_the_door_to_each_outside_library() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        for name in _imported(ast.parse(path.read_text()), with_types=True)
        if (door := ONLY_DOORS.get(name.split(".")[0])) and not f"{module}.".startswith(f"{door}.")
    ]
    assert not wrong, wrong


def test_the_cycle_finder_finds_a_cycle() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert _cycles(edges) == [["b", "c"]]
