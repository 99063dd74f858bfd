"""Raw parsers are called in `being/reading` only, where their errors and sizes are checked."""

from __future__ import annotations

import ast
from pathlib import Path

import being

ROOT = Path(being.__file__).parent
# Calls that read content without a limit, or raise many types for a broken file.
RAW = {
    "json.load",
    "json.loads",
    "yaml.load",
    "yaml.safe_load",
    "np.load",
    "np.loadtxt",
    "np.genfromtxt",
    "torch.load",
    "load_file",
    "csv.reader",
    "csv.DictReader",
    "Image.open",
    "cv2.imread",
    "ast.parse",
    "ast.literal_eval",
    "pickle.load",
    "pickle.loads",
}
# What this program itself wrote into the package or to its own processes, printed to a pipe, or
# asked the package index.
OWN = {
    "assets/package_index.py": {"json.loads"},
    "bench/browser.py": {"json.loads"},
    "bench/cold_start.py": {"json.loads"},
    "bench/drawn.py": {"json.loads"},
    "bench/drawn_load.py": {"json.loads", "np.load"},
    "bench/live.py": {"json.loads", "np.load"},
    "bench/live_load.py": {"json.loads", "np.load"},
    "api/front_process.py": {"json.loads"},
    "api/talk_options.py": {"json.loads"},
    "api/webrtc.py": {"json.loads"},
    "bench/stand_ins.py": {"json.loads"},
    "api/supervisor.py": {"json.loads"},
    "session/avatar_facts.py": {"json.loads", "np.load"},
    "session/render_client.py": {"json.loads"},
    "session/render_process.py": {"json.loads"},
    "sample/__init__.py": {"np.load"},
    "interop/family/export_steps.py": {"np.load"},
}


def test_raw_parsers_are_called_behind_the_door_only() -> None:
    found: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("reading/"):
            continue
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        if raw := calls & RAW:
            found[name] = raw
    assert found == OWN
