"""Print all findings of the inspection of a clip, and the time that it took.

    python -m scripts.measure.inspection VIDEO [--picture]

--picture leaves out the checks of the audio. The last line is JSON: seconds by the clock and of
processor time, frames, segments, side of the pictures. Networks are loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from being.face.landmarks import FaceLandmarker
from being.preprocess.inspection.clip import findings_table, inspect_clip
from being.preprocess.inspection.picture import inspect_picture


def main() -> None:
    """Inspect the clip and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--picture", action="store_true", help="without the checks of the audio")
    chosen = parser.parse_args()
    landmarker = FaceLandmarker()
    inspect = inspect_picture if chosen.picture else inspect_clip
    start, processor_start = time.perf_counter(), time.process_time()
    inspection = inspect(chosen.video, landmarker)
    seconds = time.perf_counter() - start
    processor_seconds = time.process_time() - processor_start
    print(findings_table(inspection.findings))
    print(
        json.dumps(
            {
                "seconds": round(seconds, 2),
                "processor_seconds": round(processor_seconds, 2),
                "frames": inspection.frames,
                "segments": inspection.segments,
                "size": inspection.size,
            }
        )
    )


if __name__ == "__main__":
    main()
