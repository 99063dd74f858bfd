"""Checks of a video that was joined of several clips: one framing, one person, a part of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from being.face.canonical_mesh import canonical_mesh
from being.face.topology import RIGID
from being.preprocess.inspection.crop import face_boxes
from being.preprocess.inspection.findings import Finding
from being.preprocess.inspection.measurements import ClipMeasurements, SampledFrame
from being.preprocess.inspection.spans import Span
from being.preprocess.inspection.steadiness import FACE_STEP

CLIPS_CHECK = "clips"
# Distance of two clips' usual faces, over the size of the face, from which they are framed
# otherwise: a person who only sits another way stays under it.
MOVED = 0.6
# Distance (root mean square over the rigid points) of two usual faces without pose and size, over
# the face's size, from which they are of two people. Stretches of one recording have up to 0.011,
# whatever their framing; pairs of eight people 0.007 to 0.03: a quarter of them can be told.
OTHER_PERSON = 0.022
FACES_COMPARED = 64  # faces of each clip that are compared, at most
FRAMING_FIX = (
    "Clips of one dataset need one camera position: make a dataset of each, or leave one out"
)


@dataclass(frozen=True)
class ClipPart:
    """One clip of a joined video."""

    # name of its file
    file: str
    # of its file
    sha256: str
    # in the joined video
    frames: int


def part_spans(parts: Sequence[ClipPart]) -> list[Span]:
    """[start, stop) of each clip, in frames of the joined video."""
    borders = [0, *itertools.accumulate(part.frames for part in parts)]
    return list(itertools.pairwise(borders))


def cut_at_joins(measured: ClipMeasurements, parts: Sequence[ClipPart]) -> ClipMeasurements:
    """The measurements with a cut at each join, whether or not the picture changes there."""
    joins = {start for start, _ in part_spans(parts)[1:]}
    inside = {at for at in joins if at < len(measured.timestamps)}
    return replace(measured, cuts=sorted({*measured.cuts, *inside}))


def check_parts(
    parts: Sequence[ClipPart],
    usable: Sequence[Span],
    kept: Sequence[Span],
    samples: Sequence[SampledFrame],
) -> list[Finding]:
    """The finding "clips" of a joined video; nothing for a video of one clip.

    usable: the stretches that could be used but for their framing; kept: those of them that are, in
    frames. samples: frames in which the face was searched.
    """
    if len(parts) < 2:
        return []

    # The faces of each clip, float32 [n, 478, 3] px, and how much of it is kept.
    spans = part_spans(parts)
    faces = [_faces(samples, _inside(usable, span)) for span in spans]
    lengths = [sum(stop - start for start, stop in _inside(kept, span)) for span in spans]
    first = int(np.argmax(lengths))
    for i, part in enumerate(parts):
        if not len(faces[i]):
            return [
                _rejection(
                    f"nothing of the clip {part.file} can be used",
                    f"being preprocess {part.file} --check says why; or leave it out",
                )
            ]
        if i == first or not len(faces[first]):
            continue
        other = parts[first].file
        if _is_another_person(faces[i], faces[first]):
            return [
                _rejection(
                    f"the clip {part.file} shows another person than {other}: the lengths in the "
                    "face differ",
                    "Make a dataset of each person",
                )
            ]
        if how := _other_framing(faces[i], faces[first], bool(lengths[i])):
            return [
                _rejection(
                    f"the clip {part.file} is framed otherwise than {other}: {how}", FRAMING_FIX
                )
            ]
    names = ", ".join(f"{part.file} ({part.frames} frames)" for part in parts)
    return [Finding(CLIPS_CHECK, "ok", f"{len(parts)} clips of one framing: {names}")]


def _rejection(what: str, fix: str) -> Finding:
    return Finding(CLIPS_CHECK, "rejection", what, (), fix)


def _inside(spans: Sequence[Span], part: Span) -> list[Span]:
    """The stretches that lie in a clip; none crosses a join, where a cut is."""
    return [span for span in spans if part[0] <= span[0] and span[1] <= part[1]]


def _faces(samples: Sequence[SampledFrame], spans: Sequence[Span]) -> np.ndarray:
    """Landmarks float32 [n, 478, 3] px of the sampled faces in the stretches."""
    found = [
        sample.points
        for sample in samples
        if not np.isnan(sample.points[0, 0])
        and any(start <= sample.number < stop for start, stop in spans)
    ]
    return np.stack(found) if found else np.zeros((0, len(samples[0].points) if samples else 0, 3))


def _other_framing(faces: np.ndarray, usual: np.ndarray, kept: bool) -> str:
    """How the framing of a clip differs from the usual one, in words; "" where it does not.

    faces, usual: landmarks [n, 478, 3] px of both. kept: the inspection keeps some of the clip.
    """
    boxes, usual_boxes = face_boxes(faces), face_boxes(usual)
    size, usual_size = (
        float(np.median((b[:, 2:] - b[:, :2]).max(1))) for b in (boxes, usual_boxes)
    )
    if not kept and abs(np.log(size / usual_size)) >= FACE_STEP:
        return f"its face is {size / usual_size:.2f} times as large"
    centre, usual_centre = (
        np.median((b[:, 2:] + b[:, :2]) / 2, axis=0) for b in (boxes, usual_boxes)
    )
    moved = float(np.linalg.norm(centre - usual_centre)) / usual_size
    if moved > MOVED:
        return f"its face is {moved:.1f} faces away from the place of the other"
    return "" if kept else "the picture behind the person is another one"


def _is_another_person(faces: np.ndarray, usual: np.ndarray) -> bool:
    """Whether the lengths in two faces differ by more than those of one person ever do.

    faces, usual: landmarks [n, 478, 3] px. Many pairs of people are not told apart.
    """
    difference = _usual_shape(faces) - _usual_shape(usual)
    size = float(np.ptp(_reference_shape(), axis=0).max())
    return float(np.sqrt(np.square(difference).sum(1).mean())) / size > OTHER_PERSON


def _usual_shape(faces: np.ndarray) -> np.ndarray:
    """Mean of the rigid points float64 [33, 3], without pose and size, in units of the mesh.

    faces: landmarks [n, 478, 3] px. Each is laid on the mesh (Kabsch 1976, with scale).
    """
    picked = np.linspace(0, len(faces) - 1, min(len(faces), FACES_COMPARED)).round().astype(int)
    points = faces[picked][:, RIGID].astype(np.float64)
    points -= points.mean(1, keepdims=True)
    reference = _reference_shape()
    left, stretch, right = np.linalg.svd(points.transpose(0, 2, 1) @ reference)
    signs = np.ones_like(stretch)
    signs[:, 2] = np.sign(np.linalg.det(left @ right))
    turn = (left * signs[:, None]) @ right
    scale = (stretch * signs).sum(1) / np.square(points).sum((1, 2))
    return np.asarray((scale[:, None, None] * points @ turn).mean(0))


def _reference_shape() -> np.ndarray:
    """The rigid points of the canonical mesh around their centre, float64 [33, 3], y down."""
    points = canonical_mesh()[0][RIGID].astype(np.float64) * [1, -1, -1]
    return np.asarray(points - points.mean(0))
