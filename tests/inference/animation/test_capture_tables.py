"""Tables of OpenFace and Live Link Face: their own times, and what in them cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from being.errors import InputRejected
from being.face.action_units import write_au_table
from being.inference.animation.capture_tables import code_seconds
from being.inference.animation.curve_files import Curves, read_curves


def openface(rate: float, seconds: float = 2.0, start: float = 0.0) -> str:
    """A table with AU12_r = 2 + sin(2 pi t) at `rate` rows a second, with spaces as in OpenFace."""
    rows = ["frame, face_id, timestamp, confidence, success, x_0, AU12_r, AU45_c"]
    for k in range(round(rate * seconds) + 1):
        value = 2 + np.sin(2 * np.pi * k / rate)
        rows.append(f"{k + 1}, 0, {start + k / rate:.3f}, 0.98, 1, 7, {value:.5f}, 0")
    return "\n".join(rows) + "\n"


def live_link(rate: int, count: int, first: int = 10 * 3600 - 1) -> str:
    """A table with JawOpen = t / 10 from the second `first` of the day on."""
    rows = ["Timecode,BlendShapeCount,EyeBlinkLeft,JawOpen"]
    for k in range(count):
        second = (first + k // rate) % 86_400
        code = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}:{k % rate:02d}.000"
        rows.append(f"{code},61,0.5,{k / rate / 10:.5f}")
    return "\n".join(rows) + "\n"


def curves_of(folder: Path, content: str) -> Curves:
    (folder / "a.csv").write_text(content)
    return read_curves(folder / "a.csv")


@pytest.mark.parametrize(("rate", "start"), [(25, 0.0), (30, 0.0), (59.94, 0.0), (30, 7.5)])
def test_openface_of_any_rate_lies_at_its_timestamps(
    tmp_path: Path, rate: float, start: float
) -> None:
    curves = curves_of(tmp_path, openface(rate, start=start))
    assert set(curves.columns) == {"AU12_r"} and curves.captured
    assert curves.others == ("x_0", "AU45_c")
    values = curves.at_frames(0, 50)["AU12_r"]
    assert np.allclose(values, 2 + np.sin(2 * np.pi * np.arange(50) / 25), atol=0.02)


def test_rows_without_a_face_are_passed_over(tmp_path: Path) -> None:
    lines = openface(25).splitlines()
    for k in range(11, 16):
        lines[k] = f"{k}, 0, {(k - 1) / 25:.3f}, 0.1, 0, 7, 0.0, 0"
    values = curves_of(tmp_path, "\n".join(lines)).at_frames(0, 50)["AU12_r"]
    assert np.allclose(values, 2 + np.sin(2 * np.pi * np.arange(50) / 25), atol=0.3)


def test_the_datasets_own_table_is_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0, 5, (30, 2)).astype(np.float32)
    write_au_table(tmp_path / "a.csv", ["AU01_r", "AU12_r"], values, np.ones(30))
    read = read_curves(tmp_path / "a.csv").at_frames(0, 30)
    assert np.allclose(np.stack([read["AU01_r"], read["AU12_r"]], 1), values, atol=1e-3)


@pytest.mark.parametrize("rate", [60, 30, 24])
@pytest.mark.parametrize("first", [10 * 3600 - 1, 86_400 - 1])
def test_time_codes_give_seconds_at_their_own_rate(tmp_path: Path, rate: int, first: int) -> None:
    curves = curves_of(tmp_path, live_link(rate, 2 * rate + 1, first))
    assert curves.time[-1] == pytest.approx(2)
    values = curves.at_frames(0, 51)["JawOpen"]
    assert np.allclose(values, np.arange(51) / 250, atol=1e-4)


def test_codes_within_a_second_are_sixtieths_and_have_fractions() -> None:
    assert code_seconds(["01:00:00:03.000", "01:00:00:04.500"]) == pytest.approx([0, 0.025])
    assert code_seconds(["01:00:00;58.000", "01:00:01;00.000"]) == pytest.approx([0, 2 / 60])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Timecode,JawOpen\n10:00:00,0.5\n", "row 2 has the time code '10:00:00'"),
        ("Timecode,JawOpen\n10:00:61:00.000,0.5\n", "time code '10:00:61:00.000'"),
        ("Timecode,JawOpen\n10:00:00:60.000,0.5\n", "frames below 60"),
        ("Timecode,JawOpen\nsoon,0.5\n", "time code 'soon'"),
        ("Timecode,JawOpen\n10:00:01:00.0,1\n10:00:00:59.0,1\n", "times go backwards"),
        ("Timecode,JawOpen\n10:00:01:00.0,wide\n", "wide"),
        ("Timecode,JawOpen\n10:00:01:00.0\n", "row 2 has 1 cells"),
        ("Timecode,JawOpen,JawOpen\n", "different names"),
        ("Timecode,BlendShapeCount\n10:00:00:00.0,61\n", "no curve"),
        ("Timecode,JawOpen\n", "no rows"),
        ("Timecode,JawOpen\n10:00:01:00.0,inf\n", "not finite"),
        ("timestamp,AU12_r\n0.2,1\n0.1,1\n", "times go backwards"),
        ("timestamp,AU12_r\nnan,1\n0.1,1\n", "timestamps are not all finite"),
        ("timestamp,success,AU12_r\n0,0,1\n1,0,1\n", "no face in any"),
        ("timestamp,face_id,AU12_r\n0,0,1\n0.1,1,1\n", "several faces"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputRejected) as error:
        curves_of(tmp_path, content)
    assert message in error.value.message()
