"""What a first look at a clip saw of the face: landmarks on some of its frames, with their true
times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GAP_MAX = 1.6  # longest step inside a run of consecutive frames, over the usual step


@dataclass(frozen=True)
class Look:
    """Landmarks of the frames looked at, n in the order of time: a long run at every frame, samples
    elsewhere.

    Copies (a frame that repeats the one before it) are left out.
    """

    times: np.ndarray  # float64 [n], s from the first picture
    points: (
        np.ndarray
    )  # float32 [n, 478, 3], px of the upright source picture; NaN where no face was found
    blendshapes: (
        np.ndarray | None
    )  # float32 [n, 52] in 0..1, in the order of BLENDSHAPE_NAMES; None: not computed
    faces: (
        np.ndarray
    )  # int64 [n], faces seen in the frame, -1 where only the known one was followed

    def __len__(self) -> int:
        return len(self.times)

    @property
    def found(self) -> np.ndarray:
        """bool [n]: the frames in which the face was found."""
        return ~np.isnan(self.points[:, 0, 0])

    def runs(self) -> list[slice]:
        """Runs of frames that follow each other without a gap, longest first (2 frames or more)."""
        if len(self) < 2:
            return []
        steps = np.diff(self.times)
        edges = np.flatnonzero(steps > GAP_MAX * steps.min() + 1e-6) + 1
        bounds = [0, *edges.tolist(), len(self)]
        runs = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b - a > 1]
        return sorted(runs, key=lambda run: run.start - run.stop)
