"""The report page: one HTML file that holds tables, charts, frames and a short video."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from being.conventions import FPS
from being.eval.cross_driven import CROSS_FIGURES, DrivenClip
from being.eval.evaluator import Measurement
from being.eval.report_tables import (
    MOUTH_FIGURE_NAMES,
    cross_rows,
    face_rows,
    mouth_rows,
    region_rows,
)
from being.provenance.mark import SOURCE_TYPE
from being.report.frame_grid import frame_grid
from being.report.line_chart import line_chart
from being.report.style import STYLE

PAGE_STYLE = (
    "table.wide td:nth-child(n),table.wide th{padding:.3rem 1.1rem .3rem 0;white-space:nowrap;"
    "text-align:left;width:auto;border-bottom:1px solid var(--line);vertical-align:top}"
    "table.wide th{color:var(--quiet);font-weight:600;font-size:.85rem}"
    "table.wide td:nth-child(2){font-weight:600}"
    "table.wide td.what:nth-child(n){white-space:normal;color:var(--quiet);font-size:.9rem;"
    "width:99%;min-width:16rem;padding-right:0}"
    "video{width:100%;max-width:800px;border-radius:.35rem}.scroll{overflow-x:auto}"
)
# Title, key of the series, explanation.
FACE_CHARTS = (
    (
        "Lip aperture",
        "aperture",
        "Distance of the inner lips divided by the distance of the outer eye corners.",
    ),
    (
        "Lip width",
        "width",
        "Distance of the mouth corners divided by the distance of the outer eye corners, minus its "
        "mean in the true frames.",
    ),
    ("Closure of the eyelids", "closure", "0 open, 1 closed; from 0.5 on it is a blink."),
    ("Gaze sideways", "gaze_right", "Blendshapes, where the lids are open; to the right is above."),
    ("Gaze up and down", "gaze_up", "Blendshapes, where the lids are open."),
)
MOUTH_CELL = 96  # px: side of a mouth in the sheet of another audio
LINE_NAMES = {"true": "true", "rendered": "rendered", "shuffled": "audio shuffled"}
PSNR_LINES = {
    "whole": "whole frame",
    "head": "head box",
    "face": "face box",
    "mouth": "mouth box",
}
MOUTH_COLUMNS = {
    "rendered": "rendered",
    "true": "true, same frames",
    "footage": "true, whole clip",
}
MISSED = "Ticks below the axis: frames on which no face was found."


@dataclass(frozen=True)
class ReportContent:
    """Everything that the report page shows."""

    title: str
    facts: Sequence[str]  # sentences below the title
    measurement: Measurement
    sheet: np.ndarray  # uint8 [H, W, 3]: frames of best, median and worst PSNR
    worst: np.ndarray  # uint8 [H, W, 3]: the worst frames
    video: bytes  # a short mp4
    cross: dict[str, Any] | None = None  # figures of `cross_driven`
    driven: Sequence[DrivenClip] = field(default=())


def report_page(content: ReportContent) -> str:
    """The report as HTML that loads nothing from elsewhere."""
    figures = content.measurement.figures
    video = base64.b64encode(content.video).decode()
    parts = [
        f"<h1>{escape(content.title)}</h1>",
        *(_note(fact) for fact in content.facts),
        "<h2>Image fidelity</h2>",
        html_table(["region", "PSNR", "SSIM", "LPIPS", "what it is"], region_rows(figures)),
        _note(
            figures["lpips_reason"]
            or "PSNR: peak signal over mean square error. SSIM: structural similarity, window 11; "
            "1 is equal. LPIPS: learned perceptual distance, AlexNet 0.1; 0 is equal. Each per "
            "frame, then the mean."
        ),
        "<h2>Face</h2>",
        html_table(["measure", "figure", "what it is"], face_rows(figures)),
        _note("Direct regressors from audio to lip aperture, for comparison: docs/encoders.md."),
        *_mouth_section(figures.get("speech")),
        *_charts_section(content.measurement),
        *_cross_section(content.cross, content.driven),
        "<h2>Frames of best, median and worst PSNR</h2>",
        _image(content.sheet, "true, rendered, difference"),
        "<h2>Worst frames</h2>",
        _note(
            "Lowest PSNR of the head (of the face without a head mask), then the largest distance "
            "of lip landmarks; below them their mouths."
        ),
        _image(content.worst, "worst frames"),
        "<h2>Side by side</h2>",
        _note("Left the true frame, right the rendered one; AI-generated."),
        f'<video controls playsinline src="data:video/mp4;base64,{video}"></video>',
    ]
    title = escape(content.title)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="digital-source-type" content="{SOURCE_TYPE}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}: evaluation</title><style>{STYLE}{PAGE_STYLE}</style><main>"
        + "".join(parts)
        + "</main></html>\n"
    )


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; its last column is explanation."""
    lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
    for row in rows:
        cells = [f"<td>{escape(value)}</td>" for value in row[:-1]]
        lines.append("".join(cells) + f"<td class=what>{escape(row[-1])}</td>")
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table class="wide">{body}</table></div>'


def _mouth_section(speech: dict[str, Any] | None) -> list[str]:
    """The mouth at phonemes; empty where it was not measured."""
    if not speech:
        return []
    columns = [key for key in MOUTH_COLUMNS if speech.get(key)]
    heads = ["", *(MOUTH_COLUMNS[key] for key in columns), "what it is"]
    return [
        "<h2>Mouth and phonemes</h2>",
        html_table(heads, mouth_rows([speech[key] for key in columns])),
        _note(
            f"{speech['rendered']['source'].capitalize()}. A real mouth does not close in every "
            "pause either: compare with its own figures."
        ),
    ]


def _charts_section(measurement: Measurement) -> list[str]:
    """Charts over the frames: lips, eyelids, PSNR, LMD."""
    series, first = measurement.series, measurement.figures["first_frame"]
    parts = []
    for title, key, meaning in FACE_CHARTS:
        lines = {
            name: series[f"{key}.{kind}"]
            for kind, name in LINE_NAMES.items()
            if f"{key}.{kind}" in series
        }
        if key == "width" and "true" in lines and np.isfinite(lines["true"]).any():
            mean = np.nanmean(lines["true"])
            lines = {name: values - mean for name, values in lines.items()}
        if any(np.isfinite(values).any() for values in lines.values()):
            chart = _chart(line_chart(lines, title, first))
            parts += [f"<h2>{title}</h2>", chart, _note(f"{meaning} {MISSED}")]

    quality = {
        name: series[f"{key}.psnr"] for key, name in PSNR_LINES.items() if f"{key}.psnr" in series
    }
    parts += ["<h2>PSNR</h2>", _chart(line_chart(quality, "PSNR", first, unit="dB"))]
    if "lmd" in series and np.isfinite(series["lmd"]).any():
        chart = _chart(line_chart({"LMD": series["lmd"]}, "LMD", first, unit="px"))
        parts += ["<h2>LMD</h2>", chart, _note(MISSED)]
    return parts


def _cross_section(cross: dict[str, Any] | None, driven: Sequence[DrivenClip]) -> list[str]:
    """The avatar driven by other audio; empty where it was not measured."""
    if not cross:
        return []
    heads = [
        "audio",
        *(MOUTH_FIGURE_NAMES[key][0] for key in CROSS_FIGURES),
        "Jumps",
        "Largest change",
        "p b m / vowels / silences",
    ]
    meanings = [f"{MOUTH_FIGURE_NAMES[k][0]}: {MOUTH_FIGURE_NAMES[k][2]}" for k in CROSS_FIGURES]
    parts = [
        "<h2>Driven by other audio</h2>",
        html_table(heads, cross_rows(cross)),
        _note(
            f"{'; '.join(meanings)}. Goal: {cross['enough']}. No true frames are needed; the range "
            "of the real footage defines closed."
        ),
    ]
    for clip in driven:
        closures = np.asarray(clip.events.closures) * FPS
        inside = closures[closures <= max(len(clip.aperture) - 1, 0)].tolist()
        chart = line_chart({"rendered lip aperture": clip.aperture}, clip.name, marks=inside)
        parts += [
            f"<h3>{escape(clip.name)}</h3>",
            _chart(chart),
            _note(f"Green lines: p, b, m ({clip.events.source})."),
        ]
        if clip.mouths:
            labels = [f"from {start / FPS:.2f} s" for start in clip.mouths]
            sheet = frame_grid(list(clip.mouths.values()), labels, MOUTH_CELL)
            parts += [_image(sheet, f"mouths while it speaks {clip.name}")]
            parts += [_note("Consecutive frames, from left to right.")]
    return parts


def _chart(svg: str) -> str:
    return f'<div class="plot">{svg}</div>'


def _note(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def _image(pixels: np.ndarray, description: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(description)}" src="data:image/jpeg;base64,{data}">'
