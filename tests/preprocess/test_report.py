"""The report of a dataset: one small self-contained HTML file with all its sections."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from being.data.dataset import Dataset
from being.preprocess.report import report_html, residuals, worst_frames, write_report
from being.report.line_chart import COLUMNS, line_chart

VOID = {"meta", "img", "br", "line", "rect", "polyline"}


class Reader(HTMLParser):
    """The open tags, the addresses and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [
            value or "" for name, value in attributes if name in ("src", "href", "srcset", "data")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


FINDINGS = [
    {"check": "frame rate", "level": "ok", "what": "25 frames/s", "at": [], "fix": ""},
    {
        "check": "<cuts>",
        "level": "warning",
        "what": "2 cuts & more",
        "at": [[1.0, 1.0], [2.0, 3.5]],
        "fix": "they became breaks",
    },
]


@pytest.fixture(scope="module")
def report(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reader]:
    """The report of the synthetic scene with two findings, a lost frame and no consent."""
    folder = shutil.copytree(scene, tmp_path_factory.mktemp("report") / "scene")
    manifest = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(
        json.dumps({**manifest, "findings": FINDINGS, "missing": [7]})
    )
    data = dict(np.load(folder / "landmarks.npz"))
    data["points"][7], data["confidence"][7] = np.nan, 0
    np.savez(folder / "landmarks.npz", **data)
    (folder / "times.json").write_text(json.dumps({"frames": 2.5, "masks": 30.0}))
    write_report(folder)
    reader = Reader()
    reader.feed((folder / "report.html").read_text())
    return folder, reader


def test_the_report_is_one_file_and_well_formed(report: tuple[Path, Reader]) -> None:
    folder, reader = report
    text = (folder / "report.html").read_text()
    assert not reader.open and len(text) < 8e6
    assert len(reader.addresses) == 5 * 12 + 12
    assert all(address.startswith("data:image/jpeg;base64,") for address in reader.addresses)
    assert not re.search(r"https?://|url\(|@import|<script|<link", text)
    assert "viewport" in text and "prefers-color-scheme:dark" in text


def test_the_report_shows_consent_findings_and_times(report: tuple[Path, Reader]) -> None:
    text = report[1].text
    assert "Consent of the person: unconfirmed" in text and "--consent" in text
    assert text.index("2 cuts & more.") < text.index("25 frames/s"), "faults come first"
    assert "<cuts>" in text and "1.00 s, 2.0–3.5 s" in text and "They became breaks." in text
    assert "30.0 s" in text and "masks" in text
    assert "1frames without a face" in text and "no face" in text


def test_the_report_shows_the_consent_statement(scene: Path) -> None:
    dataset = Dataset.open(scene)
    dataset.manifest["consent"] = {"confirmed": True, "statement": "her own <face>"}
    html = report_html(dataset, {})
    assert "Consent: her own &lt;face&gt;" in html and "unconfirmed" not in html


def test_the_mesh_lies_on_the_landmarks_of_the_scene(scene: Path) -> None:
    assert np.nanmax(residuals(Dataset.open(scene))) < 1e-3


def test_worst_frames_have_no_face_then_a_high_residual_then_low_confidence() -> None:
    residual, confidence = np.full(400, 1.0), np.full(400, 0.98)
    residual[50], residual[53], residual[90], confidence[10] = np.nan, 9.0, 5.0, 0.9
    assert worst_frames(residual, confidence, 3) == [50, 90, 10]
    assert worst_frames(np.full(5, np.nan), np.zeros(5)) == [0, 1, 2, 3, 4]


def test_curves_stop_at_breaks_and_long_ones_keep_their_extremes() -> None:
    values = np.sin(np.arange(20.0))
    assert line_chart({"a": values}, "x").count("<polyline") == 1
    assert line_chart({"a": values}, "x", breaks=(8,)).count("<polyline") == 2
    long = np.zeros(50 * COLUMNS)
    long[12345], long[33333] = 7.0, -3.0
    drawn = line_chart({"a": long}, "x")
    heights = [
        float(pair.split(",")[1]) for pair in re.search(r'points="([^"]*)"', drawn)[1].split()
    ]
    assert len(heights) <= 2 * COLUMNS + 2 and len(set(heights)) == 3, "zero and both extremes"
