"""Measure mouth closing and opening in real footage, to compare avatars with.

    python -m scripts.measure.mouths DATASET...

Prints for each dataset how often the mouth is closed (aperture under a fifth of its range) on p, b
and m and in silences over 200 ms, how often it is open on open vowels, and the ratio of the mean
apertures. The phoneme conformer recognises the phonemes. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from being.data.dataset import Dataset
from being.eval.footage import footage_figures
from being.eval.report_tables import mouth_rows


def main(paths: list[str]) -> None:
    """Print a table for each dataset."""
    found = {}
    for path in paths:
        dataset = Dataset.open(Path(path))
        found[dataset.name] = footage_figures(dataset)
        print(dataset.name)
        for name, value, what in mouth_rows([found[dataset.name]]):
            print(f"  {name:34} {value:>6}  {what}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
