"""Make a dataset of a video and train an avatar on it.

    python examples/make_dataset_and_train.py me.mp4 home/ "my own face, 2026"

The dataset is home/data/NAME, the run lies in home/runs/NAME. A dataset that is there already is
used as it is. The last line is the run's folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import being
from being.config import load


def make_avatar(video: Path, home: Path, consent: str, config: str = "quick") -> Path:
    """The folder of a run with an avatar of the person in `video`.

    consent: whose face it is and how they agreed. config: a shipped one's name or a file.
    """
    data = home / "data" / video.stem
    if not data.exists():
        being.preprocess_video(video, data, consent=consent)
    return being.train_avatar(data, load(config), label="example", runs=home / "runs").path


def main() -> None:
    """Read the arguments, make the avatar, and print the run's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("consent")
    parser.add_argument("--config", default="quick")
    arguments = parser.parse_args()
    print(make_avatar(arguments.video, arguments.home, arguments.consent, arguments.config))


if __name__ == "__main__":
    main()
