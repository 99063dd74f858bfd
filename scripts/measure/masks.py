"""Measure the quality of the masks and plates of a dataset.

    python -m scripts.measure.masks DATA... [--sample]

Prints a table and, on the last line, JSON.

Reference-free figures for any dataset, and the errors against the truth for the built-in sample
  (`--sample`):
  outside_db    plate of the torso over the background against the frame where the head's alpha is
    0, PSNR
  seam_db       the same within 8 px of the head (at 512): where a seam would be seen
  strip         frame-to-frame change of the plate behind the chin, grey levels (RMS)
  visible       the same of the torso that is seen, which holds the camera's noise and the torso's
    own motion
  flicker       strip / visible: at most 1 is steadier than the source
  jitter_px     change of the head's edge from frame to frame after both are laid on one head by its
    rigid points, px
  lost          share of pixels just outside the head that are unlike the background plate: hair,
    ears not covered
  kept          share of pixels just inside the head's edge that look like the background plate
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from being.data.frames import read_image
from being.face.topology import RIGID
from being.preprocess.segmentation.jawline import FaceAxes

PAIRS = 100  # neighbouring frames looked at, spread over the clip
# At a picture height of 512.
SEAM_PX = 8.0
RING_PX = 5.0
UNLIKE = 40.0  # grey levels, largest channel: surely not background
LIKE = 0.3  # of the way from the background's colour to the head's: surely not head
CONTRAST = 60.0  # grey levels between head and background from which `kept` can be judged

Add = Callable[..., None]  # (name, values) or (name, sum, weight)


@dataclass
class Frame:
    """One frame of a dataset."""

    picture: np.ndarray  # uint8 [H, W, 3] RGB
    alpha: np.ndarray  # uint8 [H, W], the head's
    torso: np.ndarray  # uint8 [H, W, 4] RGBA

    @classmethod
    def read(cls, folder: Path, i: int) -> Frame:
        """Frame `i` of a dataset folder."""
        return cls(
            read_image(folder / f"ori_imgs/{i}.jpg"),
            read_image(folder / f"head_alpha/{i}.png"),
            read_image(folder / f"torso_imgs/{i}.png"),
        )


def figures(folder: Path, pairs: int = PAIRS) -> dict[str, float]:
    """The reference-free figures of a dataset folder, by the names at the top of this file."""
    background = read_image(folder / "bc.jpg")
    points = np.load(folder / "landmarks.npz")["points"][:, :, :2]
    scale = background.shape[0] / 512
    sums: dict[str, list[float]] = {}

    def add(name: str, values: np.ndarray | float, weight: float | None = None) -> None:
        total = sums.setdefault(name, [0.0, 0.0])
        total[0] += float(np.sum(values))
        total[1] += float(np.size(values)) if weight is None else weight

    chosen = np.unique(np.linspace(0, len(points) - 2, pairs).round().astype(int))
    for i in map(int, chosen):
        if not np.isfinite(points[i : i + 2]).all():
            continue
        one, two = Frame.read(folder, i), Frame.read(folder, i + 1)
        head = one.alpha > 127
        away = cv2.distanceTransform((~head).astype(np.uint8), cv2.DIST_L2, 5) / scale
        depth = cv2.distanceTransform(head.astype(np.uint8), cv2.DIST_L2, 5) / scale
        plate = np.where(one.torso[..., 3:] > 0, one.torso[..., :3], background)
        error = (plate.astype(np.float32) - one.picture) ** 2
        clear = one.alpha == 0
        add("outside", error[clear])
        add("seam", error[clear & (away < SEAM_PX)])
        _flicker(add, one, two, depth, away, scale)
        jitter, contour = edge_change(one.alpha, two.alpha, points[i], points[i + 1])
        add("jitter", jitter, contour)
        wall = (cv2.dilate(one.torso[..., 3], np.ones((9, 9), np.uint8)) == 0) & (
            FaceAxes.from_landmarks(points[i]).coordinates(*head.shape)[1] < 0
        )
        _edges(add, one, background.astype(np.float32), wall, depth, away)
    mean = {name: total / max(weight, 1e-9) for name, (total, weight) in sums.items()}
    decibel = {
        f"{name}_db": 10 * float(np.log10(255**2 / max(mean[name], 1e-9)))
        for name in ("outside", "seam")
    }
    strip, visible = float(np.sqrt(mean.get("strip", 0.0))), float(np.sqrt(mean["visible"]))
    return {
        **decibel,
        "strip": strip,
        "visible": visible,
        "flicker": strip / max(visible, 1e-9),
        "jitter_px": mean["jitter"],
        "lost": mean["lost"],
        "kept": mean.get("kept", 0.0),
    }


def _flicker(
    add: Add, one: Frame, two: Frame, depth: np.ndarray, away: np.ndarray, scale: float
) -> None:
    both = (one.torso[..., 3] > 0) & (two.torso[..., 3] > 0)
    hidden = both & (one.alpha == 255) & (two.alpha == 255)
    inner = cv2.erode(both.astype(np.uint8), np.ones((2 * round(3 * scale) + 1,) * 2, np.uint8)) > 0
    seen = inner & (away > SEAM_PX) & (two.alpha == 0)
    add("strip", (one.torso[hidden].astype(np.float32) - two.torso[hidden])[..., :3] ** 2)
    add("visible", (one.picture[seen].astype(np.float32) - two.picture[seen]) ** 2)


def edge_change(
    one: np.ndarray, two: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[float, float]:
    """(area that changes, contour length), px: of alphas uint8 [H, W] laid on the first's landmarks
    [478, 2] px.
    """
    matrix, _ = cv2.estimateAffinePartial2D(
        second[RIGID].astype(np.float32), first[RIGID].astype(np.float32)
    )
    moved = cv2.warpAffine(two, matrix, one.shape[::-1], flags=cv2.INTER_LINEAR)
    contours, _ = cv2.findContours(
        (one > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return float(np.abs(one.astype(np.float32) - moved).sum() / 255), sum(
        cv2.arcLength(c, True) for c in contours
    )


def _edges(
    add: Add,
    one: Frame,
    background: np.ndarray,
    wall: np.ndarray,
    depth: np.ndarray,
    away: np.ndarray,
) -> None:
    """`lost` and `kept`, above the face's centre, where only the background is behind the head."""
    picture = one.picture.astype(np.float32)
    differs = np.abs(picture - background)
    outside = wall & (one.alpha < 26) & (away < RING_PX)
    add("lost", (differs[outside].max(-1) > UNLIKE).astype(np.float32))
    core = ((depth > RING_PX) & (depth < 3 * RING_PX)).astype(np.float32)
    size = (31, 31)
    colour = (
        cv2.blur(picture * core[..., None], size)
        / np.maximum(cv2.blur(core, size), 1e-3)[..., None]
    )
    contrast = colour - background
    strength = (contrast**2).sum(-1)
    share = ((picture - background) * contrast).sum(-1) / np.maximum(strength, 1)
    inside = (
        wall
        & (one.alpha > 229)
        & (depth < RING_PX)
        & (strength > CONTRAST**2)
        & (differs.max(-1) < 2 * UNLIKE)
    )
    judged = wall & (one.alpha > 229) & (depth < RING_PX) & (strength > CONTRAST**2)
    add("kept", (share[inside] < LIKE).astype(np.float32), max(float(judged.sum()), 1e-9))


def against_truth(
    alphas: list[np.ndarray], heads: np.ndarray, people: np.ndarray
) -> dict[str, float]:
    """Errors of head alphas uint8 [512, 512] against true masks bool [K, 256, 256] of head and
    whole person.

    iou; mae: mean |alpha - truth| over the box of the true head grown by a tenth; lost: share of
    the true head's upper half (hair and brow) not covered; kept: share of the covered pixels that
    are background.
    """
    iou, mae, lost, kept = [], [], [], []
    for alpha, head, person in zip(alphas, heads, people, strict=True):
        soft = alpha[::2, ::2] / 255.0
        found = soft > 0.5
        rows, columns = np.flatnonzero(head.any(1)), np.flatnonzero(head.any(0))
        grow = (rows[-1] - rows[0]) // 10
        box = (
            slice(max(rows[0] - grow, 0), rows[-1] + grow),
            slice(max(columns[0] - grow, 0), columns[-1] + grow),
        )
        upper = head.copy()
        upper[(rows[0] + rows[-1]) // 2 :] = False
        iou.append((found & head).sum() / (found | head).sum())
        mae.append(np.abs(soft - head)[box].mean())
        lost.append((upper & ~found).sum() / upper.sum())
        kept.append((found & ~person).sum() / found.sum())
    return {
        "iou": float(np.mean(iou)),
        "mae": float(np.mean(mae)),
        "lost_truth": float(np.mean(lost)),
        "kept_truth": float(np.mean(kept)),
    }


def main() -> None:
    """Print the figures of the datasets named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path, help="dataset folders")
    parser.add_argument(
        "--sample", action="store_true", help="of the built-in sample: add errors to its truth"
    )
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    results = {}
    for folder in options.data:
        found = figures(folder, options.pairs)
        if options.sample:
            from being.sample import sample_truth

            truth = sample_truth()
            alphas = [read_image(folder / f"head_alpha/{i}.png") for i in truth["mask_frames"]]
            found |= against_truth(alphas, truth["head_mask"], truth["person_mask"])
        results[str(folder)] = {name: round(value, 4) for name, value in found.items()}
        print(folder, *(f"{name} {value:.4g}" for name, value in found.items()), sep="\n  ")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
