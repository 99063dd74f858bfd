"""A farm of six subjects on a local Ray: one broken clip, one killed worker, five avatars."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from short_clips import broken_clip, short_clips
from tiny_home import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("speech_encoder"),
]
LEAST = [*TINY, "train.augment.voices=0", "avatar.live_encoder=none"]
NAMES = ["a", "b", "c", "d", "e"]


def worker_of(subject: str) -> int:
    """The Ray worker that runs the preprocessing of a subject; 0: none does now."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "being.deploy.stage_process" in words and f"{subject}.log" in " ".join(words):
                return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def test_five_avatars_and_one_honest_line(tmp_path: Path) -> None:
    clips = short_clips(tmp_path / "clips", len(NAMES))
    broken_clip(tmp_path / "clips/broken.mp4")
    subjects = [
        {"name": name, "video": str(clip), "consent": "a synthetic person"}
        for name, clip in zip(NAMES, clips, strict=True)
    ]
    subjects.insert(2, {"name": "broken", "video": "clips/broken.mp4", "consent": None})
    manifest = {"defaults": {"size": 128, "override": LEAST}, "subjects": subjects}
    (tmp_path / "people.yaml").write_text(yaml.safe_dump(manifest))
    home = tmp_path / "home"

    farm = subprocess.Popen(
        [sys.executable, "-m", "being.cli.app", "farm", str(tmp_path / "people.yaml"), "--json"],
        env={**os.environ, "BEING_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=open(tmp_path / "lines", "w"),
        text=True,
    )
    killed, log = 0, home / "farm/people/b.log"
    while not killed and farm.poll() is None:
        time.sleep(0.2)
        if log.exists() and log.stat().st_size and (killed := worker_of("b")):
            os.kill(killed, signal.SIGKILL)
    output, _ = farm.communicate()
    lines = (tmp_path / "lines").read_text().splitlines()
    print("\n" + "\n".join(lines))

    answer = json.loads(output)
    states = {subject["name"]: subject for subject in answer["subjects"]}
    assert farm.returncode == 1 and answer["error"]["what"] == "1 of 6 subjects failed"
    assert {name for name, state in states.items() if state["state"] == "done"} == set(NAMES)
    for name in NAMES:
        run = Path(states[name]["results"]["train"])
        assert (run / "avatar/manifest.json").is_file()
        assert Path(states[name]["results"]["render"]).stat().st_size > 1000
    # One line for the broken one, which says why.
    (line,) = [line for line in lines if "failed" in line and line.startswith("broken: ")]
    assert "broken.mp4 is not a readable media file" in line
    assert killed and any(
        line.startswith("b: preprocess running") and "attempt 2" in line for line in lines
    )
    # Nothing is left behind: no hidden folder of a dataset, no process.
    assert not [path for path in (home / "data").iterdir() if path.name.endswith(".part")]
    assert not any(worker_of(name) for name in NAMES)


def test_a_worker_that_dies_puts_nothing_of_ray_on_stdout() -> None:
    """There the JSON of the command is."""
    script = (
        "import os, time\n"
        "from being.console import console\n"
        "from being.deploy.ray_cluster import cluster\n"
        "console.json = True\n"
        "def die(): os.kill(os.getpid(), 9)\n"
        "with cluster(None, 1) as ray:\n"
        "    try: ray.get(ray.remote(die).options(max_retries=1).remote())\n"
        "    except ray.exceptions.WorkerCrashedError: print('crashed')\n"
        "    time.sleep(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "crashed\n", done
