"""`Evaluator`: pictures beside the true ones, block after block -> figures. One ruler for runs and for
any two videos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from being.console import warn
from being.errors import EnvironmentFault
from being.eval.faces import FaceReader, jitter, joined
from being.eval.identity import Identity
from being.eval.lips import LAGS, lip_figures
from being.eval.lpips import Lpips
from being.eval.regions import HEAD, REGIONS, WHOLE
from being.eval.upper_face import BLINK_NEAR, upper_face_figures
from being.face.landmarks import Landmarks
from being.metrics.pictures import psnr, ssim_map

KINDS = ("psnr", "ssim", "lpips")
IDENTITY_EVERY = 12  # frames between two that are looked at for identity


@dataclass(frozen=True)
class Measured:
    """Figures of a sequence of pictures against the true one, and the series over its frames behind
    them.
    """

    figures: dict[str, Any]  # JSON types
    series: dict[
        str, np.ndarray
    ]  # float [F] a measure ("whole.psnr", "aperture.true", "lmd"); NaN where there is none
    boxes: dict[
        str, np.ndarray
    ]  # int64 [F, 4] a region: top, bottom, left, right in px; zeros where there is none


class Evaluator:
    """Takes blocks of pictures in order, then says what they are worth. What this machine cannot
    measure is None, with the reason beside it."""

    def __init__(
        self,
        device: torch.device | str = "cpu",
        faces: bool = True,
        download: bool = False,
        no_faces: str = "not asked for",
    ):
        """faces: whether to look at lips, eyes and identity, `no_faces` says why not; download:
        `Identity`.
        """
        self.device = device
        self.lpips, self.lpips_reason = _or_reason(Lpips, device)
        self.reader: FaceReader | None = None
        self.faces_reason = no_faces
        if faces:
            self.reader, self.faces_reason = _or_reason(FaceReader)
        self.identity: Identity | None = None
        self.identity_reason = self.faces_reason
        if self.reader is not None:
            self.identity, self.identity_reason = _or_reason(Identity, download, quiet=not download)
        self.rows: list[dict[str, float]] = []
        self.boxes: dict[str, list[np.ndarray]] = {}
        self.seen: dict[str, list[Landmarks]] = {}
        self.codes: list[tuple[np.ndarray, np.ndarray]] = []

    def pictures(self, made: np.ndarray, true: np.ndarray, boxes: dict[str, np.ndarray]) -> None:
        """Compare one picture with the true one, uint8 [H, W, 3]; boxes: [4] int each, as
        `fidelity` takes them.
        """
        self.rows.append(fidelity(made, true, boxes, self.lpips, self.device))
        for name, box in boxes.items():
            self.boxes.setdefault(name, []).append(np.asarray(box, np.int64))

    def faces(self, true: np.ndarray, made: np.ndarray, shuffled: np.ndarray | None = None) -> None:
        """Follow the faces of a block of pictures uint8 [F, H, W, 3] each; blocks come in order,
        BLOCK frames each.
        """
        assert self.reader is not None
        shown = {"true": true, "made": made} | ({} if shuffled is None else {"shuffled": shuffled})
        found = dict(zip(shown, self.reader.read(*shown.values()), strict=True))
        if self.identity is not None:
            first = -sum(len(part) for part in self.seen.get("true", [])) % IDENTITY_EVERY
            for i in range(first, len(true), IDENTITY_EVERY):
                if found["true"].found[i] and found["made"].found[i]:
                    self.codes.append(
                        (
                            self.identity.code(true[i], found["true"].points[i]),
                            self.identity.code(made[i], found["made"].points[i]),
                        )
                    )
        for key, faces in found.items():
            self.seen.setdefault(key, []).append(faces)

    def landmarks(self, key: str) -> Landmarks:
        """All landmarks of "true", "made" or "shuffled", in px of a picture whose shorter side is
        512.
        """
        return joined(self.seen[key])

    def measured(self, segment: np.ndarray | None = None) -> Measured:
        """Figures of everything taken so far; segment: int [F], which of the clip's segments a
        frame lies in.
        """
        series = {
            key: np.array([row[key] for row in self.rows])
            for key in (self.rows[0] if self.rows else {})
        }
        figures: dict[str, Any] = {}
        for name in dict.fromkeys(key.split(".")[0] for key in series):
            figures[name] = {
                "protocol": {"whole": WHOLE, "head": HEAD}.get(name) or REGIONS[name][0],
                **{kind: mean(series[f"{name}.{kind}"]) for kind in KINDS},
            }
            figures[name]["frames_without_box"] = int(np.isnan(series[f"{name}.psnr"]).sum())
        figures |= {
            "lpips_reason": self.lpips_reason,
            "lips": None,
            "lips_reason": self.faces_reason,
            "upper_face": None,
            "steadiness": None,
            "identity": None,
            "identity_reason": self.identity_reason,
        }
        if self.seen:
            looked, more = self._faces(segment)
            figures, series = {**figures, **looked}, {**series, **more}
        return Measured(
            figures, series, {name: np.stack(boxes) for name, boxes in self.boxes.items()}
        )

    def _faces(self, segment: np.ndarray | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        true, made = self.landmarks("true"), self.landmarks("made")
        shuffled = self.landmarks("shuffled") if "shuffled" in self.seen else None
        lips, series = lip_figures(true, made, segment, shuffled)
        lips |= {
            "measure": "lip aperture, inner-lip over outer-eye distance of 478-point landmarks, found on true and "
            "rendered frames alike; Pearson at lag 0",
            "lag_sign": f"positive: the rendered mouth is late; sought within {LAGS} frames",
            "misses_rule": "a missed rendered frame takes the mean of the found ones",
        }
        upper, closures = upper_face_figures(true, made, segment)
        upper["blink_rule"] = f"deepest frame within {BLINK_NEAR} frames of the true one's"
        own, other = (jitter(faces.points, segment) for faces in (made, true))
        both = np.isfinite(own) & np.isfinite(other)
        beside = np.linalg.norm(made.points[..., :2] - true.points[..., :2], axis=-1).mean(1)
        steady = {
            "rendered": mean(own[both]),
            "true": mean(other[both]),
            "offset": mean(beside),
            "ratio": float(own[both].mean() / other[both].mean())
            if other[both].sum() > 0
            else None,
        }
        return {
            "lips": lips,
            "upper_face": upper,
            "steadiness": steady,
            "identity": self._same_person(),
        }, {**series, **closures, "jitter.true": other, "jitter.rendered": own}

    def _same_person(self) -> dict[str, Any] | None:
        if not self.codes:
            return None
        true, made = (np.stack(codes) for codes in zip(*self.codes, strict=True))
        apart = np.linalg.norm(true[:, None] - true[None], axis=-1)
        beside = np.linalg.norm(true - made, axis=-1)
        return {
            "distance": float(beside.mean()),
            "worst": float(beside.max()),
            "similarity": float(
                np.mean(
                    (true * made).sum(1)
                    / np.linalg.norm(true, axis=1)
                    / np.linalg.norm(made, axis=1)
                )
            ),
            "pictures": len(true),
            "true_apart": float(apart[~np.eye(len(true), dtype=bool)].mean())
            if len(true) > 1
            else None,
        }


@torch.no_grad()
def fidelity(
    picture: np.ndarray,
    true: np.ndarray,
    boxes: dict[str, np.ndarray],
    lpips: Lpips | None,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """PSNR in dB, SSIM and LPIPS of one frame, whole ("whole.psnr") and in each box ("mouth.psnr";
    NaN for an empty one).

    picture, true: uint8 [H, W, 3]; boxes: top, bottom, left, right in px. SSIM (Wang et al. 2004,
    window 11) of a box is the whole frame's map averaged inside; LPIPS of a box is that of the
    cut-out.
    """
    a, b = (
        torch.tensor(x, device=device).permute(2, 0, 1)[None].float() / 255 for x in (picture, true)
    )
    similarity = ssim_map(a, b)
    found: dict[str, float] = {}

    def three(name: str, one: Tensor, other: Tensor, similar: Tensor) -> None:
        values = (
            [float("nan")] * 3
            if not one.numel()
            else [
                psnr(one, other),
                float(similar.mean()),
                float("nan") if lpips is None else float(lpips(one, other)),
            ]
        )
        found.update(zip((f"{name}.{kind}" for kind in KINDS), values, strict=True))

    three("whole", a, b, similarity)
    for name, box in boxes.items():
        top, bottom, left, right = (int(edge) for edge in box)
        inside = (..., slice(top, bottom), slice(left, right))
        three(name, a[inside], b[inside], similarity[inside])
    return found


def mean(values: np.ndarray) -> float | None:
    """Mean over the frames that have the figure; None when none has."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else None


def _or_reason(make: Callable[..., Any], *arguments: Any, quiet: bool = False) -> tuple[Any, str]:
    """What `make` gives, or None and why this machine cannot give it."""
    try:
        return make(*arguments), ""
    except EnvironmentFault as error:
        if not quiet:
            warn(error.message())
        return None, error.message()
