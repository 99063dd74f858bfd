"""The evaluator: collects rendered and true frames and computes all figures from them.

Runs and pairs of videos use the same one, so their figures can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from being.console import console
from being.errors import EnvironmentFault
from being.eval.face_lengths import concatenate_landmarks, jitter
from being.eval.image_fidelity import IMAGE_METRICS, image_fidelity
from being.eval.lips import MAX_LAG, lip_figures
from being.eval.lpips import Lpips
from being.eval.regions import HEAD, REGIONS, WHOLE
from being.eval.upper_face import BLINK_NEAR, upper_face_figures
from being.face.face_reader import FaceReader
from being.face.identity import Identity
from being.face.landmarks import Landmarks

IDENTITY_EVERY = 12  # frames from one identity measurement to the next
DESCRIPTIONS = {
    "whole": WHOLE,
    "head": HEAD,
    **{name: region.description for name, region in REGIONS.items()},
}


@dataclass(frozen=True)
class Measurement:
    """Figures of rendered frames compared with the true ones, and the series behind them."""

    figures: dict[str, Any]  # JSON types
    # float [F] each ("whole.psnr", "aperture.true", "lmd"); NaN where there is no value
    series: dict[str, np.ndarray]
    # int64 [F, 4] a region: top, bottom, left, right in px; zeros where there is no box
    boxes: dict[str, np.ndarray]
    # of "true" and "rendered", where faces were measured
    landmarks: dict[str, Landmarks] = field(default_factory=dict)


class Evaluator:
    """Takes blocks of frames in order, then returns their figures.

    What this machine cannot measure is None, with the reason beside it.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        faces: bool = True,
        download: bool = False,
        no_faces: str = "not asked for",
    ):
        """faces: measure lips, eyes and identity; no_faces: the reason when not; download: see
        `Identity`.
        """
        self.device = device
        self.lpips, self.lpips_reason = _load_or_reason(Lpips, device)
        self.reader: FaceReader | None = None
        self.faces_reason = no_faces
        if faces:
            self.reader, self.faces_reason = _load_or_reason(FaceReader)
        self.identity: Identity | None = None
        self.identity_reason = self.faces_reason
        if self.reader is not None:
            self.identity, self.identity_reason = _load_or_reason(
                Identity, download, quiet=not download
            )
        self.rows: list[dict[str, float]] = []  # image fidelity of each frame
        self.boxes: dict[str, list[np.ndarray]] = {}
        self.landmark_blocks: dict[str, list[Landmarks]] = {}
        self.descriptors: list[tuple[np.ndarray, np.ndarray]] = []  # true, rendered

    def add_frame(
        self, rendered: np.ndarray, true: np.ndarray, boxes: dict[str, np.ndarray]
    ) -> None:
        """Measure the fidelity of one rendered frame; arguments as of `image_fidelity`."""
        self.rows.append(image_fidelity(rendered, true, boxes, self.lpips, self.device))
        for name, box in boxes.items():
            self.boxes.setdefault(name, []).append(np.asarray(box, np.int64))

    def add_faces(
        self, true: np.ndarray, rendered: np.ndarray, shuffled: np.ndarray | None = None
    ) -> None:
        """Track the faces of a block of frames uint8 [F, H, W, 3] each.

        Blocks come in order and have BLOCK_FRAMES frames, except the last.
        """
        assert self.reader is not None
        sequences = {"true": true, "rendered": rendered}
        if shuffled is not None:
            sequences["shuffled"] = shuffled
        found = dict(zip(sequences, self.reader.read(*sequences.values()), strict=True))

        # Identity of every IDENTITY_EVERYth frame of all blocks in which both faces were found.
        if self.identity is not None:
            done = sum(len(block) for block in self.landmark_blocks.get("true", []))
            for i in range(-done % IDENTITY_EVERY, len(true), IDENTITY_EVERY):
                if found["true"].found[i] and found["rendered"].found[i]:
                    own = self.identity.descriptor(true[i], found["true"].points[i])
                    other = self.identity.descriptor(rendered[i], found["rendered"].points[i])
                    self.descriptors.append((own, other))
        for key, faces in found.items():
            self.landmark_blocks.setdefault(key, []).append(faces)

    def landmarks(self, key: str) -> Landmarks:
        """All landmarks of "true", "rendered" or "shuffled", in px of an image whose shorter side
        is 512.
        """
        return concatenate_landmarks(self.landmark_blocks[key])

    def mean_psnr(self) -> float:
        """Mean PSNR of the whole frames so far, dB."""
        return float(np.mean([row["whole.psnr"] for row in self.rows]))

    def measurement(self, segment: np.ndarray | None = None) -> Measurement:
        """Figures of all frames so far; segment: int [F], the clip's segment of each frame."""
        keys = list(self.rows[0]) if self.rows else []
        series = {key: np.array([row[key] for row in self.rows]) for key in keys}

        # Image fidelity, a dict for each region.
        figures: dict[str, Any] = {}
        for name in dict.fromkeys(key.split(".")[0] for key in keys):
            figures[name] = {
                "protocol": DESCRIPTIONS[name],
                **{metric: finite_mean(series[f"{name}.{metric}"]) for metric in IMAGE_METRICS},
                "frames_without_box": int(np.isnan(series[f"{name}.psnr"]).sum()),
            }

        # Face figures: the reasons for their absence first, then the figures where there are any.
        figures |= {
            "lpips_reason": self.lpips_reason,
            "lips": None,
            "lips_reason": self.faces_reason,
            "upper_face": None,
            "steadiness": None,
            "identity": None,
            "identity_reason": self.identity_reason,
        }
        if self.landmark_blocks:
            face_figures, face_series = self._face_figures(segment)
            figures |= face_figures
            series |= face_series
        boxes = {name: np.stack(boxes) for name, boxes in self.boxes.items()}
        landmarks = {key: self.landmarks(key) for key in self.landmark_blocks}
        return Measurement(figures, series, boxes, landmarks)

    def _face_figures(
        self, segment: np.ndarray | None
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        true, rendered = self.landmarks("true"), self.landmarks("rendered")
        shuffled = self.landmarks("shuffled") if "shuffled" in self.landmark_blocks else None

        lips, lip_series = lip_figures(true, rendered, segment, shuffled)
        lips |= {
            "measure": "lip aperture: distance of the inner lips divided by the distance of the "
            "outer eye corners, from 478 landmarks found on true and rendered frames; Pearson "
            "correlation at lag 0",
            "lag_sign": "positive: the rendered mouth follows the true one; searched within "
            f"{MAX_LAG} frames",
            "misses_rule": "a missed rendered frame gets the mean of the found ones",
        }
        upper, upper_series = upper_face_figures(true, rendered, segment)
        upper["blink_rule"] = f"most closed frame within {BLINK_NEAR} frames of the true one's"

        # Steadiness: jitter over the frames in which both faces have it.
        rendered_jitter = jitter(rendered.points, segment)
        true_jitter = jitter(true.points, segment)
        both = np.isfinite(rendered_jitter) & np.isfinite(true_jitter)
        offsets = np.linalg.norm(rendered.points[..., :2] - true.points[..., :2], axis=-1).mean(1)
        ratio = None
        if true_jitter[both].sum() > 0:
            ratio = float(rendered_jitter[both].mean() / true_jitter[both].mean())
        steadiness = {
            "rendered": finite_mean(rendered_jitter[both]),
            "true": finite_mean(true_jitter[both]),
            "offset": finite_mean(offsets),
            "ratio": ratio,
        }

        figures = {
            "lips": lips,
            "upper_face": upper,
            "steadiness": steadiness,
            "identity": self._identity_figures(),
        }
        series = {
            **lip_series,
            **upper_series,
            "jitter.true": true_jitter,
            "jitter.rendered": rendered_jitter,
        }
        return figures, series

    def _identity_figures(self) -> dict[str, Any] | None:
        """Distances of the descriptors of rendered and true frames; None without any."""
        if not self.descriptors:
            return None
        true, rendered = (np.stack(parts) for parts in zip(*self.descriptors, strict=True))
        distance = np.linalg.norm(true - rendered, axis=-1)
        norms = np.linalg.norm(true, axis=1), np.linalg.norm(rendered, axis=1)
        cosine = (true * rendered).sum(1) / norms[0] / norms[1]

        # Distances of the true frames among themselves, as a scale for the others.
        among_true = np.linalg.norm(true[:, None] - true[None], axis=-1)
        different = ~np.eye(len(true), dtype=bool)
        return {
            "distance": float(distance.mean()),
            "worst": float(distance.max()),
            "similarity": float(np.mean(cosine)),
            "pictures": len(true),
            "true_apart": float(among_true[different].mean()) if len(true) > 1 else None,
        }


def finite_mean(values: np.ndarray) -> float | None:
    """Mean of the finite values; None when there is none."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else None


def _load_or_reason(
    load: Callable[..., Any], *arguments: Any, quiet: bool = False
) -> tuple[Any, str]:
    """The loaded measure and "", or None and the reason why this machine cannot load it."""
    try:
        return load(*arguments), ""
    except EnvironmentFault as error:
        if not quiet:
            console.warn(error.message())
        return None, error.message()
