"""Tables of OpenFace: their mapping to the frames of a dataset, and invalid tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from being.errors import InputRejected
from being.face.openface import read_openface, write_openface


def openface(
    path: Path, rows: int = 100, rate: float = 25.0, blanks: bool = True, **columns: np.ndarray
) -> Path:
    """Write a table as OpenFace does and return its path; keyword columns replace or add some."""
    peak = round(rows * 0.4)
    blink = 2 * np.clip(1 - np.abs(np.arange(rows) - peak) / 3, 0, 1)
    table = {
        "frame": np.arange(1, rows + 1),
        "face_id": np.zeros(rows, int),
        "timestamp": np.arange(rows) / rate,
        "confidence": np.full(rows, 0.98),
        "success": np.ones(rows, int),
        "AU25_r": np.zeros(rows),
        "AU45_r": blink,
        "AU45_c": np.ones(rows, int),
        **columns,
    }
    kept = {name: value for name, value in table.items() if value is not None}
    lines = [("," + " " * blanks).join(kept)]
    lines += [", ".join(f"{value[i]:g}" for value in kept.values()) for i in range(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("blanks", [True, False])
def test_a_table_of_openface_is_read_unchanged(blanks: bool, tmp_path: Path) -> None:
    names, values, confidence = read_openface(
        openface(tmp_path / "au.csv", blanks=blanks), 100, 4.0
    )
    assert names == ["AU25_r", "AU45_r", "AU45_c"]
    assert values.shape == (100, 3) and values[40, 1] == 2
    assert confidence == pytest.approx(0.98)
    write_openface(tmp_path / "out.csv", (names, values, confidence))
    assert (tmp_path / "out.csv").read_text().splitlines()[0].endswith(", AU25_r, AU45_r, AU45_c")


def test_openface_of_a_30_frames_source_is_mapped_to_the_frames_by_time(tmp_path: Path) -> None:
    table = read_openface(openface(tmp_path / "au.csv", rows=120, rate=30.0), 100, 4.0)
    assert table[1][:, 1].argmax() == 40 and len(table[1]) == 100  # row 48 at 30/s: 1.6 s
    cut = read_openface(
        openface(tmp_path / "au.csv", rows=120, rate=30.0), 50, 4.0, times=1.0 + np.arange(50) / 25
    )
    assert cut[1][:, 1].argmax() == 15


def test_frames_that_openface_lost_are_interpolated(tmp_path: Path) -> None:
    success, blink = np.ones(100, int), np.full(100, 0.5)
    success[10:15], blink[10:15] = 0, 0
    _, values, confidence = read_openface(
        openface(tmp_path / "au.csv", success=success, AU45_r=blink), 100, 4.0
    )
    assert values[:, 1] == pytest.approx(0.5) and not confidence[10:15].any() and confidence[9] > 0


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("30 rows/s", dict(rows=100, rate=30.0)),  # made from a 25 frames/s clip but stamped as 30
        ("does not belong", dict(rows=60)),
        ("no column AU45_r", dict(AU45_r=None)),
        ("several faces", dict(face_id=np.repeat([0, 1], 50))),
        ("several faces", dict(frame=np.repeat(np.arange(50), 2))),
        ("skips frames", dict(frame=np.arange(100) * 2)),
        ("not finite", dict(AU45_r=np.full(100, np.nan))),
        ("runs from", dict(AU45_r=np.full(100, 7.0))),
        ("found the face", dict(success=np.zeros(100, int))),
        ("no timestamps", dict(rows=90, timestamp=None)),
    ],
)
def test_invalid_openface_tables_are_rejected(message: str, change: dict, tmp_path: Path) -> None:
    path = openface(tmp_path / "au.csv", **change)
    frames = 120 if message in ("30 rows/s", "does not belong", "no timestamps") else 100
    with pytest.raises(InputRejected, match=message):
        read_openface(path, frames, frames / 25)


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ("empty", b""),
        ("no column is named", b"a,b\n1,2\n"),
        ("no rows", b"frame, AU45_r\n"),
        ("row 2 has 1 of 2", b"frame, AU45_r\n1, 0.5\n2\n"),
        ("not a number", b"frame, AU45_r\n1, much\n"),
        ("cannot be read", b"\xff\xfe\x00 not text"),
        ("no column is named", b"\x00\x01\x02\n"),
    ],
)
def test_files_that_are_no_tables_are_rejected(
    message: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "au.csv").write_bytes(content)
    with pytest.raises(InputRejected, match=message):
        read_openface(tmp_path / "au.csv", 100, 4.0)
    with pytest.raises(InputRejected):
        read_openface(tmp_path, 100, 4.0)
    with pytest.raises(InputRejected):
        read_openface(tmp_path / "missing.csv", 100, 4.0)
