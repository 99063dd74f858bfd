"""All findings of the look at a clip, picture and sound, as a table, and the time it took.

    python -m scripts.measure.preflight VIDEO [--picture]

--picture leaves the sound's side out. The last line is JSON: seconds by the clock and of processor
time, frames, segments, pictures' side. Networks are loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from being.face.landmarks import FaceLandmarker
from being.preprocess.inspection.clip import look_at, table
from being.preprocess.inspection.picture import inspect


def main() -> None:
    """Look, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--picture", action="store_true", help="without the sound's side")
    chosen = parser.parse_args()
    landmarker = FaceLandmarker()
    start, worked = time.perf_counter(), time.process_time()
    checked = (inspect if chosen.picture else look_at)(chosen.video, landmarker)
    took, worked = time.perf_counter() - start, time.process_time() - worked
    print(table(checked.findings))
    print(
        json.dumps(
            {
                "seconds": round(took, 2),
                "processor_seconds": round(worked, 2),
                "frames": checked.frames,
                "segments": checked.segments,
                "size": checked.size,
            }
        )
    )


if __name__ == "__main__":
    main()
