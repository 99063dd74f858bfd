"""Time from the start of a new process to its first rendered frame.

python -m being.bench.cold_start AVATAR DEVICE PRECISION DEFORMATION prints the times as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path


def cold_start(path: Path, device: str, precision: str, deform: str) -> dict[str, float]:
    """Seconds from the start of Python to the first image in host memory, and of its parts: import,
    load, first frame.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "being.bench.cold_start", str(path), device, precision, deform],
        capture_output=True,
        text=True,
        check=False,
    )
    whole = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return {**json.loads(done.stdout.splitlines()[-1]), "process_s": round(whole, 3)}


def main() -> None:
    """Load the avatar, render one frame, print the times."""
    start = time.perf_counter()
    import torch  # imported here, because its import is timed

    from being.bench.fps import start_seconds

    imported = time.perf_counter() - start
    path, device, precision, deform = sys.argv[1:]
    _, times = start_seconds(Path(path), torch.device(device), precision, deform)
    print(json.dumps({"import_s": round(imported, 3), **times}))


if __name__ == "__main__":
    main()
