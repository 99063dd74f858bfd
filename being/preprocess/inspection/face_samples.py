"""Face landmarks of the inspected frames of a clip, with the time of each frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GAP_MAX = 1.6  # longest step inside a run of consecutive frames, over the usual step


@dataclass(frozen=True)
class FaceSamples:
    """Landmarks of n inspected frames in the order of time.

    Some long runs hold every frame; elsewhere frames are sampled. Copies (frames that repeat the
    frame before) are left out.
    """

    # float64 [n], s from the first picture
    times: np.ndarray
    # float32 [n, 478, 3], px of the upright source picture; NaN where no face was found
    points: np.ndarray
    # float32 [n, 52] in 0..1, in the order of BLENDSHAPE_NAMES; None: not computed
    blendshapes: np.ndarray | None
    # int64 [n], faces in the frame; -1 where only the known face was followed
    face_counts: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    @property
    def found(self) -> np.ndarray:
        """bool [n]: the frames in which the face was found."""
        return ~np.isnan(self.points[:, 0, 0])

    def runs(self) -> list[slice]:
        """Runs of consecutive frames without a gap, longest first (2 frames or more)."""
        if len(self) < 2:
            return []
        steps = np.diff(self.times)
        edges = np.flatnonzero(steps > GAP_MAX * steps.min() + 1e-6) + 1
        bounds = [0, *edges.tolist(), len(self)]
        runs = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b - a > 1]
        return sorted(runs, key=lambda run: run.start - run.stop)
