"""`report.html` of a dataset: findings, frame grids, charts and worst frames in one HTML file."""

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
from being.data.manifest import PREPROCESS_AGAIN
from being.data.parsing import decode_parsing
from being.errors import InputRejected
from being.face.landmarks import MESH_POINTS
from being.preprocess.frame_views import draw_mesh, mesh_edges, render_views
from being.reading.arrays import load_arrays
from being.reading.structured import read_json
from being.report.line_chart import line_chart
from being.report.style import STYLE

SHOWN = 12  # frames of the frame grids, spread over the clip
CELL = 256  # px, side of their images
WORST = 12
FACE_CELL = 384  # px, side of an enlarged face
FACE_MARGIN = 1.35  # side of its square over the face's
WORST_APART = 8  # frames (fewer in a short clip): nearer frames show the same fault
JPEG_QUALITY = 82
AXIS = 0.8  # head units, length of the drawn axes
# The frame grids: field of FrameViews, title, legend.
GRIDS = (
    (
        "mesh",
        "Landmarks, mesh and pose",
        "Green: the tracked mesh under the head pose; it should lie on the face and stay fixed to "
        "it. Yellow: landmarks of the face oval and the inner lips. Red, green and blue: the "
        "head's axes to the right, up, and out of the face.",
    ),
    (
        "parts",
        "Parts",
        "Blue head with hair, green neck, red torso; the background is paler.",
    ),
    (
        "head",
        "Head alone",
        "On magenta, so that background that was kept, and hair that was lost, is visible.",
    ),
    (
        "plate",
        "Behind the head",
        "Torso and background, with the strip behind the chin painted in. Check for seams, and for "
        "remains of hair or face.",
    ),
    ("mouth", "Mouth", "Enlarged; the line should lie on the inner edge of the lips."),
)
RANGES_SHOWN = 12  # time ranges of a finding that are written out
LEVELS = {"rejection": "rejected", "warning": "warning"}


def write_report(folder: Path) -> None:
    """Write `report.html` into the dataset at `folder`, which has a `times.json`."""
    dataset = Dataset.open(folder)
    times = read_json(folder / "times.json")
    (folder / "report.html").write_text(report_html(dataset, times), encoding="utf-8")


def report_html(dataset: Dataset, times: dict[str, float]) -> str:
    """The report as HTML. times: seconds that each step took, by name."""
    name, frames = escape(dataset.name), FrameFolder(dataset.path / "ori_imgs", dataset.frames)
    residual, confidence = residuals(dataset), landmark_confidence(dataset)
    shown = np.unique(np.linspace(0, dataset.frames - 1, SHOWN).round().astype(int))
    sections = [
        _header(dataset),
        _findings_section(dataset.manifest.get("findings", [])),
        *_frame_grids(dataset, frames, shown.tolist()),
        _charts_section(dataset, residual, confidence),
        _worst_section(dataset, frames, residual, confidence),
        _times_section(times),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}: dataset</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def residuals(dataset: Dataset) -> np.ndarray:
    """Median distance in px of the projected mesh to the landmarks, float32 [F].

    NaN in frames without a face.
    """
    points = dataset.landmarks[:, :MESH_POINTS, :2]
    distance = np.linalg.norm(project(dataset, dataset.mesh[0]) - points, axis=-1)
    return np.median(distance, axis=1)


def landmark_confidence(dataset: Dataset) -> np.ndarray:
    """The landmark network's confidence, float32 [F] in 0..1."""
    file = dataset.path / "landmarks.npz"
    values = load_arrays(file, ("confidence",), PREPROCESS_AGAIN).get("confidence", np.zeros(0))
    if values.shape != (dataset.frames,) or values.dtype.kind != "f":
        raise InputRejected(
            f"{file} holds confidence {values.dtype} {values.shape}",
            f"expected float ({dataset.frames},)",
            PREPROCESS_AGAIN,
        )
    return values


def project(dataset: Dataset, points: np.ndarray) -> np.ndarray:
    """Pixels float32 [F, V, 2] of head-space points [V, 3] or [F, V, 3] in every frame's camera."""
    matrices = dataset.world_to_camera
    placed = points @ np.swapaxes(matrices[:, :3, :3], 1, 2) + matrices[:, None, :3, 3]
    centre = (np.array([dataset.width, dataset.height]) - 1) / 2
    return (placed[..., :2] / placed[..., 2:] * dataset.focal + centre).astype(np.float32)


def worst_frames(residual: np.ndarray, confidence: np.ndarray, count: int = WORST) -> list[int]:
    """The frames [<= count] that are least reliable, the worst first, some frames apart.

    residual: float [F] px, NaN without a face. confidence: float [F] in 0..1. Frames without a face
    come first. The others are ordered by the residual over its median plus the doubt
    (1 - confidence) over its median.
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


def _header(dataset: Dataset) -> str:
    """Title, consent, source and the main figures."""
    # Figures: length, size, segments, missing frames.
    segments = len(dataset.segments)
    segment_text = "segments; nothing is learnt across their breaks"
    figures = [
        (f"{dataset.frames / FPS:.1f} s", f"{dataset.frames} frames at {FPS}/s"),
        (f"{dataset.width}×{dataset.height}", "px"),
        (str(segments), "segment" if segments == 1 else segment_text),
        (str(len(dataset.missing)), "frames without a face"),
    ]
    tiles = "".join(f"<div><b>{value}</b><span>{what}</span></div>" for value, what in figures)

    # Consent.
    consent = dataset.manifest.get("consent")
    known = bool(consent and consent.get("statement"))
    note = escape(consent_note(consent))
    if not known:
        note += ". Every video made from it has this note; record the consent with --consent."
    source = dataset.manifest.get("source") or {}
    file = escape(str(source.get("file", "another dataset")))
    return (
        f"<header><h1>{escape(dataset.name)}</h1>"
        f'<p class="consent {"known" if known else "unknown"}">{note}</p>'
        f'<p class="quiet">Made from {file}</p>'
        f'<div class="facts">{tiles}</div></header>'
    )


def _findings_section(findings: Sequence[dict[str, Any]]) -> str:
    """The findings of the inspection: faults as a list, the rest folded."""
    if not findings:
        return ""
    faults = [finding for finding in findings if finding["level"] != "ok"]
    faults.sort(key=lambda finding: list(LEVELS).index(finding["level"]))
    passed = [finding for finding in findings if finding["level"] == "ok"]

    items = [
        f'<li class="{finding["level"]}"><i>{LEVELS[finding["level"]]}</i>'
        f"<div><b>{escape(finding['check'])}</b> {escape(_sentence(finding['what']))} "
        f"{_ranges(finding)}<p>{escape(_sentence(finding['fix']))}</p></div></li>"
        for finding in faults
    ]
    fault_list = '<p class="quiet">No faults were found.</p>'
    if items:
        fault_list = f'<ul class="findings">{"".join(items)}</ul>'

    rows = []
    for finding in passed:
        text = "; ".join(part for part in (finding["what"], finding["fix"]) if part)
        rows.append(f"<li><b>{escape(finding['check'])}</b> {escape(text)} {_ranges(finding)}</li>")
    return (
        f"<section><h2>Findings of the inspection</h2>{fault_list}"
        f"<details{'' if items else ' open'}>"
        f"<summary>{len(passed)} checks found nothing wrong</summary>"
        f'<ul class="calm">{"".join(rows)}</ul></details></section>'
    )


def _ranges(finding: dict[str, Any]) -> str:
    ranges = [_range(*span) for span in finding["at"]]
    more = f" and {len(ranges) - RANGES_SHOWN} more" if len(ranges) > RANGES_SHOWN else ""
    return f'<span class="at">{", ".join(ranges[:RANGES_SHOWN])}{more}</span>' if ranges else ""


def _frame_grids(dataset: Dataset, frames: FrameFolder, chosen: list[int]) -> Iterator[str]:
    """One section for each grid of views of the `chosen` frames."""
    # Views of the chosen frames.
    folder, mesh, axes = dataset.path, project(dataset, dataset.mesh[0]), _axes(dataset)
    edges, background = mesh_edges(dataset.mesh[1]), read_image(dataset.path / "bc.jpg")
    rendered = []
    for i in chosen:
        mesh_view = _face_view(frames[i], dataset.landmarks[i, :, :2], mesh[i], edges, axes[i])
        labels = decode_parsing(read_image(folder / f"parsing/{i}.png"))
        alpha = ((labels == 1) * 255).astype(np.uint8)  # datasets of other tools have no alpha
        if (folder / f"head_alpha/{i}.png").is_file():
            alpha = read_image(folder / f"head_alpha/{i}.png")
        torso = read_image(folder / f"torso_imgs/{i}.png")
        rendered.append(
            render_views(
                frames[i], mesh_view, dataset.landmarks[i], labels, alpha, torso, background
            )
        )

    for view, title, legend in GRIDS:
        side = FACE_CELL if view == "mesh" else CELL
        cells = "".join(
            _figure(getattr(views, view), f"{title}, frame {i}", _frame_label(i), side)
            for i, views in zip(chosen, rendered, strict=True)
        )
        yield (
            f'<section><h2>{title}</h2><p class="quiet">{legend}</p>'
            f'<div class="sheet">{cells}</div></section>'
        )


def _axes(dataset: Dataset) -> np.ndarray:
    """Pixels [F, 4, 2] of the head's origin and of the ends of its axes."""
    return project(dataset, np.concatenate([np.zeros((1, 3)), np.eye(3) * AXIS]).astype(np.float32))


def _face_view(
    frame: np.ndarray,
    points: np.ndarray,
    mesh: np.ndarray,
    edges: np.ndarray,
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """The face of a frame, enlarged, with mesh and landmarks; arguments as in `draw_mesh`."""
    low, high = mesh.min(0), mesh.max(0)
    side = max(float((high - low).max()) * FACE_MARGIN, 8.0)
    scale, corner = FACE_CELL / side, (low + high) / 2 - side / 2
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]], np.float32)
    image = cv2.warpAffine(
        frame,
        matrix,
        (FACE_CELL, FACE_CELL),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return draw_mesh(
        image,
        (points - corner) * scale,
        (mesh - corner) * scale,
        edges,
        None if axes is None else (axes - corner) * scale,
    )


def _charts_section(dataset: Dataset, residual: np.ndarray, confidence: np.ndarray) -> str:
    """Charts of head pose, blink, confidence and residual over time."""
    breaks = [start for start, _ in dataset.segments[1:]]
    euler = np.degrees(dataset.euler - np.median(dataset.euler, 0))
    trans = (dataset.trans - np.median(dataset.trans, 0)) * 10
    rotation = {"nod": euler[:, 0], "turn": euler[:, 1], "tilt": euler[:, 2]}
    translation = {"right": trans[:, 0], "up": trans[:, 1], "nearer": trans[:, 2]}
    charts = (
        ("Rotation of the head", rotation, "degrees"),
        ("Translation of the head", translation, "cm"),
        ("Blink", {"closed": dataset.blink[:, 0]}, ""),
        ("Confidence of the landmarks", {"confidence": confidence}, ""),
        ("Distance of the mesh to the landmarks", {"median distance": residual}, "px"),
    )
    plots = "".join(
        f'<h3>{title}</h3><div class="plot">{line_chart(series, title, 0, breaks, unit)}</div>'
        for title, series, unit in charts
    )
    legend = (
        "Rotation and translation are measured from their median; the centimetres assume a face of "
        "usual size. A jump that the video does not show, or trembling while the head is still, is "
        "a fault of the tracking."
    )
    if breaks:
        legend += " Dashed lines: breaks between segments."
    return f'<section><h2>Over time</h2><p class="quiet">{legend}</p>{plots}</section>'


def _worst_section(
    dataset: Dataset, frames: FrameFolder, residual: np.ndarray, confidence: np.ndarray
) -> str:
    """The least reliable frames, enlarged."""
    mesh, edges = project(dataset, dataset.mesh[0]), mesh_edges(dataset.mesh[1])
    cells = []
    for i in worst_frames(residual, confidence):
        if np.isfinite(residual[i]):
            text = f"{residual[i]:.1f} px, confidence {confidence[i]:.2f}"
            image = _face_view(frames[i], dataset.landmarks[i, :, :2], mesh[i], edges)
        else:
            text, image = "no face", frames[i]
        cells.append(_figure(image, f"frame {i}", f"{_frame_label(i)}<br>{text}", FACE_CELL))
    usual = f"{np.nanmedian(residual):.2f}" if np.isfinite(residual).any() else "-"
    return (
        f"<section><h2>The {len(cells)} worst frames</h2>"
        '<p class="quiet">By the distance of the mesh to the landmarks '
        f"(usual: {usual} px) and the landmarks' confidence "
        f"(usual: {np.median(confidence):.2f}). Frames without a face take their pose from their "
        "neighbours; training does not use them.</p>"
        f'<div class="sheet worst">{"".join(cells)}</div></section>'
    )


def _times_section(times: dict[str, float]) -> str:
    """A table of the seconds that each step took."""
    longest = max([*times.values(), 1e-9])
    rows = "".join(
        f"<tr><td>{escape(step)}</td><td>{seconds:.1f} s</td>"
        f'<td><span style="width:{100 * seconds / longest:.1f}%"></span></td></tr>'
        for step, seconds in times.items()
    )
    return (
        '<section id="times"><h2>Time of each step</h2>'
        '<p class="quiet">Steps run in parallel where they can, so each takes longer than alone; '
        f"together {clock(sum(times.values()))}.</p><table>{rows}</table></section>"
    )


def _figure(image: np.ndarray, alt: str, caption: str, side: int) -> str:
    """An image uint8 [H, W, 3] RGB inside the page, its longer side at most `side` px."""
    scale = side / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    assert encoded, alt
    height, width = image.shape[:2]
    return (
        f'<figure><img alt="{escape(alt)}" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _frame_label(frame: int) -> str:
    return f"{frame} <span>{frame / FPS:.2f} s</span>"


def _range(start: float, stop: float) -> str:
    return f"{start:.2f} s" if stop - start < 1 / FPS else f"{start:.1f}–{stop:.1f} s"


def _sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("." if text and text[-1] not in ".!?" else "")
