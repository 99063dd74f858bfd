"""Columns of curves as channels of an avatar: units, mouth code, names that are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from being.data.expression_channels import BLINK_ONLY, CHANNEL_SOURCES, ExpressionChannels
from being.data.mouth import CODE_GAIN
from being.errors import InputRejected, UsageError
from being.face.action_units import ACTION_UNITS
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.face.topology import BLENDSHAPE_NAMES
from being.inference.animation.curve_channels import (
    INTENSITIES,
    MOUTH_WEIGHTS,
    MouthOverride,
    driven_channels,
    mouth_values,
)
from being.inference.animation.curve_files import Curves
from being.inference.animation.face_controls import FaceControls, animate_face

NAMES = ("blink", *(source.name for source in CHANNEL_SOURCES))
CHANNELS = ExpressionChannels(
    NAMES,
    (0.0, *np.linspace(0.1, 0.4, 18)),
    (2.0, *np.linspace(0.5, 3, 18)),
    (-5.0,) * 19,
    (9.0,) * 19,
)


def curves(captured: bool = True, **columns: list[float]) -> Curves:
    arrays = {name: np.array(column, float) for name, column in columns.items()}
    return Curves(np.arange(len(next(iter(arrays.values())))) / 25, arrays, captured)


def value_of(channel: str, intensity: float) -> float:
    k = NAMES.index(channel)
    return (intensity - CHANNELS.centre[k]) / CHANNELS.scale[k]


def test_intensities_come_in_the_units_of_the_avatars_clip() -> None:
    driven = driven_channels(curves(AU12_r=[0, 2.5], AU45_r=[0, 2], AU28_r=[1, 1]), CHANNELS, False)
    values = driven.curves.columns
    assert values["smile"] == pytest.approx([value_of("smile", 0), value_of("smile", 2.5)])
    assert values["blink"] == pytest.approx([0, 1])
    assert driven.report() == "curves: used AU12_r, AU45_r; left out: AU28_r"


def test_blendshapes_are_measured_as_in_preprocessing() -> None:
    """Both sides' mean, with the same full values as the action units of a clip."""
    full = {unit.blendshapes: unit.blendshape_full for unit in ACTION_UNITS if unit.blendshapes}
    for channel, (shape, value) in INTENSITIES.items():
        for shapes in ((shape,), (f"{shape}Left", f"{shape}Right")):
            if shapes in full:
                assert full[shapes] == value, channel
    driven = driven_channels(
        curves(EyeBlinkLeft=[1, 1], eyeBlinkRight=[0, 1], BrowInnerUp=[0, 0.45], HeadYaw=[1, 1]),
        CHANNELS,
        False,
    )
    values = driven.curves.columns
    assert values["blink"] == pytest.approx([0.5, 1])
    assert values["brow_inner_up"][1] == pytest.approx(value_of("brow_inner_up", 2.5))
    assert driven.left_out == ("HeadYaw",) and driven.mouth is None


def test_the_gaze_goes_both_ways() -> None:
    looks = curves(eyeLookOutLeft=[0.4, 0], eyeLookInRight=[0.4, 0], eyeLookInLeft=[0, 0.6])
    values = driven_channels(looks, CHANNELS, False).curves.columns
    assert values["gaze_right"] == pytest.approx(
        [value_of("gaze_right", 0.8), value_of("gaze_right", -0.6)]
    )


def test_the_mouth_drives_the_code_of_avatars_that_have_one() -> None:
    columns = curves(
        jawOpen=[0, 0.5], mouthSmileLeft=[0, 0.4], mouthSmileRight=[0, 0.2], eyeWideLeft=[0, 0]
    )
    plain = driven_channels(columns, CHANNELS, False)
    assert {"jaw_open", "smile"} <= set(plain.curves.columns) and plain.mouth is None
    coded = driven_channels(columns, CHANNELS, True)
    assert set(coded.curves.columns) == {"lid_up"} and coded.mouth is not None
    assert coded.mouth.columns["jaw_open"] == pytest.approx([0, 0.7])
    assert coded.mouth.columns["corner_height"] == pytest.approx([0, 0.3])
    assert coded.mouth.columns["corner_skew"] == pytest.approx([0, 0.2])
    assert not coded.left_out


def test_the_table_of_the_mouth_names_what_exists() -> None:
    for shape, weights in MOUTH_WEIGHTS.items():
        sides = {shape, f"{shape}Left", f"{shape}Right"}
        assert sides & {*BLENDSHAPE_NAMES, "tongueOut"}, shape
        assert set(weights) <= set(MOUTH_CHANNELS)


def test_a_closed_mouth_over_an_open_jaw_is_shut() -> None:
    values = mouth_values({"jawOpen": np.array([0.5]), "mouthClose": np.array([0.5])})
    assert values["lip_opening"] == pytest.approx([0]) and values["jaw_open"][0] > 0.5
    values = mouth_values({"mouthClose": np.array([1.0]), "mouthPucker": np.array([1.0])})
    assert values["lip_opening"] == [0] and values["lip_width"] == [-1]
    assert values["upper_protrusion"] == [1]


def test_codes_stay_in_the_range_of_the_person_and_go_on_over_blocks() -> None:
    least, most = np.full(16, -0.5, np.float32), np.full(16, 1.0, np.float32)
    units = MouthUnits(
        MOUTH_CHANNELS, np.zeros(16, np.float32), np.ones(16, np.float32), least, most
    )
    course = Curves(np.arange(4) / 25, {"lip_width": np.array([-9.0, 0.0, 0.5, 9.0])})
    override, rows = MouthOverride(course, units), np.ones((3, 16, 16), np.float32)
    both = np.concatenate([override.apply(rows), override.apply(rows)])
    k = MOUTH_CHANNELS.index("lip_width")
    expected = CODE_GAIN * np.array([-0.725, 0, 0.5, 1.225, 1.225, 1.225])
    assert np.allclose(both[:, :, k], expected[:, None])
    assert (np.delete(both, k, 2) == 1).all() and (rows == 1).all()


def test_curves_without_a_usable_column_are_refused() -> None:
    with pytest.raises(InputRejected, match="no column.*HeadYaw.*blink"):
        driven_channels(curves(HeadYaw=[1.0]), CHANNELS, False)
    with pytest.raises(InputRejected, match="no column.*AU12_r"):
        driven_channels(curves(AU12_r=[1.0]), BLINK_ONLY, False)
    with pytest.raises(UsageError, match="no expression 'grin'"):
        driven_channels(curves(False, grin=[1.0]), CHANNELS, True)


def test_a_table_drives_the_frames_of_a_video_and_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{k},{k / 50},1,1,{k / 20}\n" for k in range(41))
    (tmp_path / "a.csv").write_text(f"frame,timestamp,confidence,success,AU45_r\n{rows}")
    controls = FaceControls(curves=tmp_path / "a.csv")
    values = animate_face(np.zeros(0, np.float32), 25, CHANNELS, controls)
    assert np.allclose(values[:21, 0], np.arange(21) / 20, atol=1e-6)
    assert capsys.readouterr().out.count("curves: used AU45_r") == 1
