"""`report.html`: by what a person judges a dataset before training on it. One file, with nothing
beside it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from being.console import clock
from being.conventions import FPS
from being.data.consent import consent_note
from being.data.dataset import Dataset
from being.data.frames import FrameFolder, read_image
from being.data.parsing import decode_parsing
from being.face.landmarks import MESH_POINTS
from being.files import read_json
from being.preprocess.frame_views import mesh_edges, views, with_mesh
from being.report.curves import curves
from being.report.style import STYLE

SHOWN = 12  # frames of the contact sheets, spread over the clip
CELL = 256  # px, side of their pictures
WORST = 12
FACE_CELL = 384  # px, side of an enlarged face
ROOM = 1.35  # side of its square over the face's
WORST_APART = 8  # frames (fewer in a short clip): nearer ones show the same trouble
JPEG_QUALITY = 82
AXIS = 0.8  # head units, length of the drawn axes
SHEETS = (
    (
        "mesh",
        "Landmarks, mesh and pose",
        "Green: the tracked mesh under the pose; it should lie on the face and keep still on it. Yellow: face oval "
        "and inner lips as the landmarks have them. Red, green and blue: the head's axes to the right, up, and out of the "
        "face.",
    ),
    ("parts", "Parts", "Blue head with hair, green neck, red torso; the background is washed out."),
    ("head", "Head alone", "On magenta, so that any background kept, and any hair lost, shows."),
    (
        "plate",
        "Behind the head",
        "Torso and background with the strip behind the chin painted in. Look for seams, and "
        "for remains of hair or face.",
    ),
    ("mouth", "Mouth", "Enlarged; the line should lie on the inner edge of the lips."),
)
SPANS = 12  # times of a finding that are written out
LEVELS = {"rejection": "will not do", "warning": "warning"}


def write_report(folder: Path) -> None:
    """Write the report of the dataset at `folder`, whose `times.json` says how long each step took,
    into it.
    """
    dataset = Dataset.open(folder)
    times = read_json(folder / "times.json")
    (folder / "report.html").write_text(page(dataset, times), encoding="utf-8")


def page(dataset: Dataset, times: dict[str, float]) -> str:
    """The report as HTML."""
    name, frames = escape(dataset.name), FrameFolder(dataset.path / "ori_imgs", dataset.frames)
    residual, confidence = residuals(dataset), landmark_confidence(dataset)
    shown = np.unique(np.linspace(0, dataset.frames - 1, SHOWN).round().astype(int))
    parts = [
        _head(dataset),
        _findings(dataset.manifest.get("findings", [])),
        *_sheets(dataset, frames, shown.tolist()),
        _curves(dataset, residual, confidence),
        _worst(dataset, frames, residual, confidence),
        _times(times),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}: dataset</title><style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body>"
        "</html>\n"
    )


def residuals(dataset: Dataset) -> np.ndarray:
    """Median distance in px of the projected mesh to the landmarks, float32 [F]; NaN without a
    face.
    """
    points = dataset.landmarks[:, :MESH_POINTS, :2]
    distance = np.linalg.norm(project(dataset, dataset.mesh[0]) - points, axis=-1)
    return np.median(distance, axis=1)


def landmark_confidence(dataset: Dataset) -> np.ndarray:
    """The landmark network's confidence, float32 [F] in 0..1."""
    return np.load(dataset.path / "landmarks.npz", allow_pickle=False)["confidence"]


def project(dataset: Dataset, points: np.ndarray) -> np.ndarray:
    """Pixels float32 [F, V, 2] of head-space points [V, 3] or [F, V, 3] in every frame's camera."""
    matrices = dataset.world_to_camera
    placed = points @ np.swapaxes(matrices[:, :3, :3], 1, 2) + matrices[:, None, :3, 3]
    centre = (np.array([dataset.width, dataset.height]) - 1) / 2
    return (placed[..., :2] / placed[..., 2:] * dataset.focal + centre).astype(np.float32)


def worst_frames(residual: np.ndarray, confidence: np.ndarray, count: int = WORST) -> list[int]:
    """Frames [<= count] by how little they are to be believed, the worst first, and not all from
    one spot.

    residual: float [F] px, NaN without a face; confidence: float [F] in 0..1. Frames without a face
    come first, then the sum of residual over its median and of doubt over its median decides.
    """
    usual = max(float(np.nanmedian(residual)), 1e-6) if np.isfinite(residual).any() else 1.0
    doubt = 1 - confidence
    score = residual / usual + doubt / max(float(np.median(doubt)), 0.01)
    score = np.where(np.isfinite(score), score, np.inf)
    apart = max(1, min(WORST_APART, len(score) // (3 * count)))
    chosen: list[int] = []
    for i in np.argsort(-score, kind="stable").tolist():
        if len(chosen) < count and all(abs(i - other) >= apart for other in chosen):
            chosen.append(i)
    return chosen


def _head(dataset: Dataset) -> str:
    manifest, consent = dataset.manifest, dataset.manifest.get("consent")
    known = bool(consent and consent.get("statement"))
    lost, segments = len(dataset.missing), len(dataset.segments)
    facts = [
        (f"{dataset.frames / FPS:.1f} s", f"{dataset.frames} frames at {FPS}/s"),
        (f"{dataset.width}×{dataset.height}", "px"),
        (
            str(segments),
            "segment" if segments == 1 else "segments; nothing is learnt across their breaks",
        ),
        (str(lost), "frames without a face"),
    ]
    tiles = "".join(f"<div><b>{value}</b><span>{what}</span></div>" for value, what in facts)
    note = escape(consent_note(consent))
    said = note if known else f"{note}. Every video made from it says so; record it with --consent."
    source = manifest.get("source") or {}
    return (
        f'<header><h1>{escape(dataset.name)}</h1><p class="consent {"known" if known else "unknown"}">{said}</p>'
        f'<p class="quiet">Made from {escape(str(source.get("file", "another dataset")))}</p>'
        f'<div class="facts">{tiles}</div></header>'
    )


def _findings(findings: Sequence[dict[str, Any]]) -> str:
    if not findings:
        return ""
    loud = sorted(
        (f for f in findings if f["level"] != "ok"), key=lambda f: list(LEVELS).index(f["level"])
    )
    calm = [f for f in findings if f["level"] == "ok"]
    items = [
        f'<li class="{f["level"]}"><i>{LEVELS[f["level"]]}</i><div><b>{escape(f["check"])}</b> '
        f"{escape(_sentence(f['what']))} {_times_of(f)}<p>{escape(_sentence(f['fix']))}</p></div></li>"
        for f in loud
    ]
    rows = [
        f"<li><b>{escape(f['check'])}</b> {escape('; '.join(t for t in (f['what'], f['fix']) if t))} "
        f"{_times_of(f)}</li>"
        for f in calm
    ]
    worth = (
        f'<ul class="findings">{"".join(items)}</ul>'
        if items
        else '<p class="quiet">Nothing to worry about.</p>'
    )
    return (
        f"<section><h2>What the look at the clip found</h2>{worth}<details{'' if items else ' open'}><summary>"
        f'{len(calm)} checks found nothing wrong</summary><ul class="calm">{"".join(rows)}</ul></details>'
        "</section>"
    )


def _times_of(finding: dict[str, Any]) -> str:
    at = [_span(*span) for span in finding["at"]]
    more = f" and {len(at) - SPANS} more" if len(at) > SPANS else ""
    return f'<span class="at">{", ".join(at[:SPANS])}{more}</span>' if at else ""


def _sheets(dataset: Dataset, frames: FrameFolder, chosen: list[int]) -> Iterator[str]:
    folder, mesh, axes = dataset.path, project(dataset, dataset.mesh[0]), _axes(dataset)
    edges, background = mesh_edges(dataset.mesh[1]), read_image(dataset.path / "bc.jpg")
    seen = []
    for i in chosen:
        meshed = _on_the_face(frames[i], dataset.landmarks[i, :, :2], mesh[i], edges, axes[i])
        alpha = folder / f"head_alpha/{i}.png"
        labels = decode_parsing(read_image(folder / f"parsing/{i}.png"))
        seen.append(
            views(
                frames[i],
                meshed,
                dataset.landmarks[i],
                labels,
                read_image(alpha) if alpha.is_file() else ((labels == 1) * 255).astype(np.uint8),
                read_image(folder / f"torso_imgs/{i}.png"),
                background,
            )
        )
    for kind, title, legend in SHEETS:
        side = FACE_CELL if kind == "mesh" else CELL
        cells = "".join(
            _picture(getattr(view, kind), f"{title}, frame {i}", _when(i), side)
            for i, view in zip(chosen, seen, strict=True)
        )
        yield f'<section><h2>{title}</h2><p class="quiet">{legend}</p><div class="sheet">{cells}</div></section>'


def _axes(dataset: Dataset) -> np.ndarray:
    """Pixels [F, 4, 2] of the head's origin and of the ends of its axes."""
    return project(dataset, np.concatenate([np.zeros((1, 3)), np.eye(3) * AXIS]).astype(np.float32))


def _on_the_face(
    frame: np.ndarray,
    points: np.ndarray,
    mesh: np.ndarray,
    edges: np.ndarray,
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """The face of a frame, enlarged, with the mesh and the landmarks on it; arguments as
    `with_mesh`.
    """
    low, high = mesh.min(0), mesh.max(0)
    side = max(float((high - low).max()) * ROOM, 8.0)
    scale, corner = FACE_CELL / side, (low + high) / 2 - side / 2
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]], np.float32)
    picture = cv2.warpAffine(
        frame,
        matrix,
        (FACE_CELL, FACE_CELL),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return with_mesh(
        picture,
        (points - corner) * scale,
        (mesh - corner) * scale,
        edges,
        None if axes is None else (axes - corner) * scale,
    )


def _curves(dataset: Dataset, residual: np.ndarray, confidence: np.ndarray) -> str:
    breaks = [start for start, _ in dataset.segments[1:]]
    euler = np.degrees(dataset.euler - np.median(dataset.euler, 0))
    trans = (dataset.trans - np.median(dataset.trans, 0)) * 10
    blink = dataset.blink[:, 0]
    drawn = (
        (
            "Turns of the head",
            {"nod": euler[:, 0], "turn": euler[:, 1], "tilt": euler[:, 2]},
            "degrees",
        ),
        (
            "Shifts of the head",
            {"right": trans[:, 0], "up": trans[:, 1], "nearer": trans[:, 2]},
            "cm",
        ),
        ("Blink", {"closed": blink}, ""),
        ("Confidence of the landmarks", {"confidence": confidence}, ""),
        ("Mesh against landmarks", {"median distance": residual}, "px"),
    )
    plots = "".join(
        f'<h3>{title}</h3><div class="plot">{curves(series, title, 0, breaks, unit)}</div>'
        for title, series, unit in drawn
    )
    said = (
        "Turns and shifts are measured from their median; a centimetre supposes a face of usual size. A step that "
        "the video does not show, or trembling while the head is still, is a fault of the tracking."
    )
    cuts = " Dashed lines: breaks between segments." if breaks else ""
    return f'<section><h2>Over time</h2><p class="quiet">{said}{cuts}</p>{plots}</section>'


def _worst(
    dataset: Dataset, frames: FrameFolder, residual: np.ndarray, confidence: np.ndarray
) -> str:
    mesh, edges = project(dataset, dataset.mesh[0]), mesh_edges(dataset.mesh[1])
    cells = []
    for i in worst_frames(residual, confidence):
        lost = not np.isfinite(residual[i])
        said = "no face" if lost else f"{residual[i]:.1f} px, confidence {confidence[i]:.2f}"
        picture = (
            frames[i]
            if lost
            else _on_the_face(frames[i], dataset.landmarks[i, :, :2], mesh[i], edges)
        )
        cells.append(_picture(picture, f"frame {i}", f"{_when(i)}<br>{said}", FACE_CELL))
    usual = f"{np.nanmedian(residual):.2f}" if np.isfinite(residual).any() else "-"
    return (
        f'<section><h2>The {len(cells)} worst frames</h2><p class="quiet">By the distance of the mesh to the '
        f"landmarks (usual: {usual} px) and the landmarks' confidence (usual: {np.median(confidence):.2f}). Frames "
        "without a face take their pose from their neighbours and are not learnt from.</p>"
        f'<div class="sheet worst">{"".join(cells)}</div></section>'
    )


def _times(times: dict[str, float]) -> str:
    longest = max([*times.values(), 1e-9])
    rows = "".join(
        f'<tr><td>{escape(step)}</td><td>{seconds:.1f} s</td><td><span style="width:'
        f'{100 * seconds / longest:.1f}%"></span></td></tr>'
        for step, seconds in times.items()
    )
    return (
        '<section id="times"><h2>Time of each step</h2><p class="quiet">Steps run side by side where they can, so '
        f"each takes longer than alone; together {clock(sum(times.values()))}.</p>"
        f"<table>{rows}</table></section>"
    )


def _picture(picture: np.ndarray, alt: str, caption: str, side: int) -> str:
    scale = side / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    assert done, alt
    height, width = picture.shape[:2]
    return (
        f'<figure><img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/jpeg;base64,'
        f'{base64.b64encode(data.tobytes()).decode()}"><figcaption>{caption}</figcaption></figure>'
    )


def _when(frame: int) -> str:
    return f"{frame} <span>{frame / FPS:.2f} s</span>"


def _span(start: float, stop: float) -> str:
    return f"{start:.2f} s" if stop - start < 1 / FPS else f"{start:.1f}–{stop:.1f} s"


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("." if text and text[-1] not in ".!?" else "")
