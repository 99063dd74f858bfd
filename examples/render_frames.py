"""Render an avatar that speaks an audio file, as one PNG file a frame.

    python examples/render_frames.py runs/me/RUN speech.wav frames/

The last line says how many frames were written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

import being
from being.media import read_audio


def render_frames(run: Path, audio: Path, out: Path) -> int:
    """Write `out`/000000.png, 000001.png, ... at 25 frames/s; returns their number.

    run: folder of a run or of an avatar bundle. audio: any audio or video file.
    """
    out.mkdir(parents=True, exist_ok=True)
    engine = being.Engine.load(run)
    count = 0
    for image in engine.stream(engine.encode(read_audio(audio))):  # uint8 [S, S, 3] RGB
        Image.fromarray(image).save(out / f"{count:06d}.png")
        count += 1
    engine.close()
    return count


def main() -> None:
    """Read the arguments, render, and print the number of frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "audio", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    count = render_frames(arguments.run, arguments.audio, arguments.out)
    print(f"{count} frames in {arguments.out}")


if __name__ == "__main__":
    main()
