"""The report as one HTML file: tables, curves, frames and a short video are all inside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from being.conventions import FPS
from being.eval.cross_driven import KEYS, Driven
from being.eval.evaluator import Measured
from being.eval.tables import SPEECH_NAMES, cross_rows, face_rows, region_rows, speech_rows
from being.report.curves import curves
from being.report.style import STYLE

OWN_STYLE = (
    "table.wide td:nth-child(n),table.wide th{padding:.3rem 1.1rem .3rem 0;white-space:nowrap;text-align:"
    "left;width:auto;border-bottom:1px solid var(--line);vertical-align:top}table.wide th{color:var(--quiet);"
    "font-weight:600;font-size:.85rem}table.wide td:nth-child(2){font-weight:600}table.wide "
    "td.what:nth-child(n){white-space:normal;color:var(--quiet);font-size:.9rem;width:99%;min-width:16rem;padding-right:0}"
    "video{width:100%;max-width:800px;border-radius:.35rem}.scroll{overflow-x:auto}"
)
SERIES = (
    ("Lip aperture", "aperture", "Distance of the inner lips over that of the outer eyes."),
    (
        "Lip width",
        "width",
        "Distance of the mouth's corners over that of the outer eyes, less its mean in the truth.",
    ),
    ("Closure of the lids", "closure", "0 open, 1 shut; from a half on it is a blink."),
)
NAMES = {"true": "true", "rendered": "rendered", "shuffled": "sound shuffled"}
MISSED = "Ticks under the axis: frames in which no face was found."


def page(
    title: str,
    facts: Sequence[str],
    measured: Measured,
    sheet: np.ndarray,
    worst: np.ndarray,
    video: bytes,
    cross: dict[str, Any] | None = None,
    driven: Sequence[Driven] = (),
) -> str:
    """The report.

    facts: sentences under the title; sheet, worst: pictures uint8 [H, W, 3]; video: an mp4; cross,
    driven: of `cross_driven`.
    """
    figures = measured.figures
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="quiet">{escape(fact)}</p>' for fact in facts),
        "<h2>Pictures</h2>",
        table(["region", "PSNR", "SSIM", "LPIPS", "what"], region_rows(figures)),
        _quiet(
            figures["lpips_reason"]
            or "PSNR: peak signal over mean square error. SSIM: structural similarity, "
            "window 11; 1 is equal. LPIPS: learned perceptual distance, AlexNet 0.1; 0 is equal. Each per "
            "frame, then the mean."
        ),
        "<h2>Face</h2>",
        table(["measure", "figure", "what it is"], [list(row) for row in face_rows(figures)]),
        _quiet("Direct regressors from sound to lip aperture, for comparison: docs/encoders.md."),
    ]
    if figures.get("speech"):
        parts += _speech(figures["speech"])
    parts += _plots(measured)
    if cross:
        parts += _cross(cross, driven)
    parts += [
        "<h2>Frames of best, median and worst PSNR</h2>",
        _picture(sheet, "true, rendered, difference"),
        "<h2>Worst frames</h2>",
        _quiet(
            "Lowest PSNR of the head (of the face without a head mask), then the largest distance of lip "
            "landmarks; below them their mouths."
        ),
        _picture(worst, "worst frames"),
        "<h2>Side by side</h2>",
        _quiet("Left the true frame, right the rendered one; AI-generated."),
        f'<video controls playsinline src="data:video/mp4;base64,{base64.b64encode(video).decode()}"></video>',
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}: evaluation</title><style>{STYLE}{OWN_STYLE}</style><main>"
        + "".join(parts)
        + "</main></html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; the last column is explanation."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=what' * (k == len(row) - 1)}>{escape(value)}</td>"
            for k, value in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="wide"><tr>{top}</tr>{body}</table></div>'


def _speech(speech: dict[str, Any]) -> list[str]:
    columns = [key for key in ("rendered", "true", "footage") if speech.get(key)]
    heads = {"rendered": "rendered", "true": "true, same frames", "footage": "true, whole clip"}
    return [
        "<h2>Mouth and phonemes</h2>",
        table(
            ["", *(heads[key] for key in columns), "what it is"],
            speech_rows([speech[key] for key in columns]),
        ),
        _quiet(
            f"{speech['rendered']['source'].capitalize()}. A real mouth does not close in every pause either: "
            "its own figures are what counts."
        ),
    ]


def _plots(measured: Measured) -> list[str]:
    first, parts = measured.figures["first_frame"], []
    for title, key, what in SERIES:
        shown = {
            name: measured.series[f"{key}.{kind}"]
            for kind, name in NAMES.items()
            if f"{key}.{kind}" in measured.series
        }
        if key == "width" and np.isfinite(shown.get("true", np.array(np.nan))).any():
            shown = {name: values - np.nanmean(shown["true"]) for name, values in shown.items()}
        if shown and any(np.isfinite(values).any() for values in shown.values()):
            parts += [
                f"<h2>{title}</h2>",
                _plot(curves(shown, title, first)),
                _quiet(f"{what} {MISSED}"),
            ]
    quality = {
        name: measured.series[f"{key}.psnr"]
        for key, name in (
            ("whole", "whole frame"),
            ("head", "head box"),
            ("face", "face box"),
            ("mouth", "mouth box"),
        )
        if f"{key}.psnr" in measured.series
    }
    parts += ["<h2>PSNR</h2>", _plot(curves(quality, "PSNR", first, unit="dB"))]
    if "lmd" in measured.series and np.isfinite(measured.series["lmd"]).any():
        plot = curves({"LMD": measured.series["lmd"]}, "LMD", first, unit="px")
        parts += ["<h2>LMD</h2>", _plot(plot), _quiet(MISSED)]
    return parts


def _cross(cross: dict[str, Any], driven: Sequence[Driven]) -> list[str]:
    heads = [
        "sound",
        *(SPEECH_NAMES[key][0] for key in KEYS),
        "Jumps",
        "Largest change",
        "p b m / vowels / silences",
    ]
    parts = [
        "<h2>Driven by other sound</h2>",
        table(heads, cross_rows(cross)),
        _quiet(
            "; ".join(f"{SPEECH_NAMES[key][0]}: {SPEECH_NAMES[key][2]}" for key in KEYS)
            + f". To be reached: {cross['enough']}. No true picture is needed; what is closed is told by the "
            "range of the real footage."
        ),
    ]
    for one in driven:
        shown = np.concatenate([one.said.closures, []]) * FPS
        parts += [
            f"<h3>{escape(one.name)}</h3>",
            _plot(
                curves(
                    {"rendered lip aperture": one.aperture},
                    one.name,
                    marks=shown[shown <= max(len(one.aperture) - 1, 0)].tolist(),
                )
            ),
            _quiet(f"Green lines: p, b, m ({one.said.source})."),
        ]
    return parts


def _plot(svg: str) -> str:
    return f'<div class="plot">{svg}</div>'


def _quiet(said: str) -> str:
    return f'<p class="quiet">{escape(said)}</p>'


def _picture(pixels: np.ndarray, what: str) -> str:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=88)
    return f'<img alt="{escape(what)}" src="data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}">'
