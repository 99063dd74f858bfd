"""The bit rate of live H.264: the built-in clip, 512², through the encoder of live sessions.

    python -m scripts.measure.video_bits

Prints one JSON object; `bits_s` is the input of scripts/scaling.py.
"""

from __future__ import annotations

import json
from itertools import islice

import cv2
import numpy as np

from being.conventions import FPS
from being.media import read_frames
from being.media.live_video import mark_json, new_encoder
from being.sample import sample_clip

SIDE, FRAMES = 512, 500
SAMPLES_A_FRAME = 960
IDENTITY = "0" * 16


def main() -> None:
    """Encode and print; see the module."""
    encoder, size = new_encoder("h264", SIDE, SIDE), 0
    for number, frame in enumerate(islice(read_frames(sample_clip()), FRAMES)):
        i420 = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2YUV_I420).reshape(-1)
        mark = mark_json("speaker", True, number * SAMPLES_A_FRAME, IDENTITY)
        size += len(encoder.encode(i420, False, mark)[0])
    print(json.dumps({"frames": FRAMES, "bytes": size, "bits_s": round(size * 8 * FPS / FRAMES)}))


if __name__ == "__main__":
    main()
