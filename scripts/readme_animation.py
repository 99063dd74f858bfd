"""Make the README's animation from the demo video.

    python -m scripts.readme_animation [demo/demo.mp4]

Prints the size of the file as JSON. The person in the video does not exist (`being/sample`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

from being.media import read_frames

OUTPUT = Path("docs/images/speaker.webp")
SECONDS, EVERY = 4.0, 2  # length of the animation; each how many frames one is shown
FPS = 25


def main(video: Path) -> None:
    images = []
    for index, frame in enumerate(read_frames(video)):
        if index >= SECONDS * FPS:
            break
        if index % EVERY == 0:
            images.append(Image.fromarray(frame))
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    duration = round(1000 * EVERY / FPS)
    images[0].save(
        OUTPUT, save_all=True, append_images=images[1:], duration=duration, loop=0, quality=70
    )
    print(json.dumps({"file": str(OUTPUT), "frames": len(images), "bytes": OUTPUT.stat().st_size}))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo/demo.mp4"))
