"""What the mouths of real footage do at what is said: the figures an avatar is held against.

    python -m scripts.measure.mouths DATASET...

Prints for each dataset how often its mouth is closed (aperture under a fifth of its range) on p, b
and m and in silences over 200 ms, how often it is open on open vowels, and the ratio of the mean
apertures; what is said is heard by the phoneme conformer. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from being.data.dataset import Dataset
from being.eval.run_figures import real_speech
from being.eval.tables import speech_rows


def main(paths: list[str]) -> None:
    """Print a table for each dataset."""
    found = {}
    for path in paths:
        dataset = Dataset.open(Path(path))
        found[dataset.name] = real_speech(dataset)
        print(dataset.name)
        for name, value, what in speech_rows([found[dataset.name]]):
            print(f"  {name:34} {value:>6}  {what}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
