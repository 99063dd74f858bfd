"""The page of a view: `view.html`, one file that loads nothing, with a WebGL viewer of its own.

The Gaussians are in it as base64 of quantised arrays, 17 bytes each: centre 3 x uint16, colour and
opacity 4 x uint8, logarithms of the scales 3 x uint8, rotation 4 x int8. `page/viewer.js` draws
them.
"""

from __future__ import annotations

import base64
import io
import json
import re
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from being.interop.export_files import MARK
from being.provenance.mark import SOURCE_TYPE
from being.report.style import STYLE
from being.view.content import CameraPath, Cloud, Content, Mesh, Picture

FRUSTA = 12  # cameras that are drawn as pyramids, spread over the path
FRUSTUM_DEPTH = 1.2  # of a pyramid, in radii of the head
JPEG_QUALITY = 85


def page(
    content: Content,
    notes: list[str],
    still: Picture,
    rows: dict[str, list[Picture]],
) -> str:
    """The page as HTML.

    notes: sentences below the title, the last of which is on origin and consent. still: shown where
    there is no WebGL. rows: pictures below the viewer, by their heading.
    """
    folder = files("being.view") / "page"
    texts = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("index.html", "viewer.css", "viewer.js")
    }
    known = "known" if "unconfirmed" not in content.consent_note else "unknown"
    paragraphs = [f'<p class="quiet">{escape(note)}</p>' for note in notes[:-1]]
    paragraphs.append(f'<p class="consent {known}">{escape(notes[-1])}</p>')
    source = f'<meta name="digital-source-type" content="{SOURCE_TYPE}" />'
    parts = {
        "MARK": MARK,
        "META": source if content.generated else "",
        "TITLE": escape(f"{content.name}: view"),
        "STYLE": STYLE + texts["viewer.css"],
        "NAME": escape(content.name),
        "NOTES": "".join(paragraphs),
        "STILL_TEXT": escape(f"{content.name}, {still.label}"),
        "STILL": _data_url(still, smooth=True),
        "CONTROLS": _controls(content),
        "PICTURES": "".join(_row(heading, pictures) for heading, pictures in rows.items()),
        # No text can end the script element.
        "SCENE": json.dumps(scene(content)).replace("<", "\\u003c"),
        "SCRIPT": texts["viewer.js"],
    }
    return re.sub("@([A-Z_]+)@", lambda match: parts[match[1]], texts["index.html"])


def scene(content: Content) -> dict[str, Any]:
    """The data of the viewer, of JSON types."""
    cameras, centre = content.cameras, content.centre
    offset = cameras.centres[cameras.middle] - centre
    distances = np.linalg.norm(cameras.centres - centre, axis=-1)
    return {
        "clouds": [_cloud(cloud) for cloud in content.clouds],
        "mesh": None if content.mesh is None else _mesh(content.mesh),
        "path": {
            "centres": _text(cameras.centres.astype("<f4")),
            "breaks": list(cameras.breaks),
            "frusta": _frusta(cameras, FRUSTUM_DEPTH * content.radius),
            "middle": cameras.centres.mean(0).tolist(),
            "reach": float(distances.max()),
        },
        "centre": centre.tolist(),
        "radius": content.radius,
        "pitch": float(np.arctan2(offset[1], np.hypot(offset[0], offset[2]))),
    }


def _cloud(cloud: Cloud) -> dict[str, Any]:
    logs = np.log(np.maximum(cloud.scales, 1e-9))
    low, high = float(logs.min()), float(logs.max())
    colours = np.concatenate([cloud.colours, cloud.opacities[:, None]], 1)
    return {
        "count": len(cloud),
        **_positions(cloud.means),
        "colours": _text((colours * 255).round().astype("u1")),
        "scales": _text(((logs - low) / max(high - low, 1e-9) * 255).round().astype("u1")),
        "log_scales": [low, high],
        "rotations": _text((cloud.quaternions * 127).round().astype("i1")),
    }


def _mesh(mesh: Mesh) -> dict[str, Any]:
    return {**_positions(mesh.vertices), "edges": _text(mesh.edges.astype("<u4"))}


def _frusta(cameras: CameraPath, depth: float) -> list[list[list[float]]]:
    count = len(cameras.world_to_camera)
    chosen = np.unique(np.linspace(0, count - 1, FRUSTA).round().astype(int))
    return [cameras.frustum(int(k), depth).round(4).tolist() for k in chosen]


def _positions(points: np.ndarray) -> dict[str, Any]:
    """Points [n, 3] as uint16 between the corners `low` and `high` of their box."""
    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    share = (points - low) / np.maximum(high - low, 1e-9)
    return {
        "positions": _text((share * 65535).round().astype("<u2")),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _controls(content: Content) -> str:
    """The switches of all layers."""
    parts = []
    if content.clouds:
        names = [(str(k), cloud.name) for k, cloud in enumerate(content.clouds)]
        parts.append(_choice("cloud", "Head", [*names, ("-1", "none")]))
        modes = [("gaussians", "Gaussians"), ("ellipsoids", "ellipsoids"), ("points", "points")]
        parts.append(_choice("mode", "Drawn as", modes))
    layers = [("cameras", "camera path", False)]
    if content.mesh is not None:
        layers.insert(0, ("mesh", "face mesh", not content.clouds))
    boxes = "".join(
        f'<label><input type="checkbox" name="{name}"{" checked" * on} />{text}</label>'
        for name, text, on in layers
    )
    parts.append(f"<fieldset><legend>Also</legend>{boxes}</fieldset>")
    return "".join(parts)


def _choice(name: str, legend: str, options: list[tuple[str, str]]) -> str:
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{value}"{" checked" * (k == 0)} />'
        f"{escape(text)}</label>"
        for k, (value, text) in enumerate(options)
    )
    return f"<fieldset><legend>{legend}</legend>{buttons}</fieldset>"


def _row(heading: str, pictures: list[Picture]) -> str:
    wide = pictures[0].pixels.shape[1] > 2 * pictures[0].pixels.shape[0]
    smooth = not heading.startswith("Tri-planes")
    figures = "".join(
        f'<figure><img alt="{escape(picture.label)}" src="{_data_url(picture, smooth)}" />'
        f"<figcaption>{escape(picture.label)}</figcaption></figure>"
        for picture in pictures
    )
    style = f"row{' wide' * wide}{' cells' * (not smooth)}"
    return f'<h2>{escape(heading)}</h2><div class="{style}">{figures}</div>'


def _data_url(picture: Picture, smooth: bool) -> str:
    """The picture as a data URL: JPEG, or PNG where each pixel counts."""
    file, kind = io.BytesIO(), "JPEG" if smooth else "PNG"
    Image.fromarray(picture.pixels).save(file, kind, quality=JPEG_QUALITY)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
