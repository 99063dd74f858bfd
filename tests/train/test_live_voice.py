"""Training fits a second mapping from the voice to the mouth, for the encoder of live sessions."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from being.config import load
from being.data.mouth import MouthCode
from being.errors import UsageError
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.train.training import _fit_live_voice

FRAMES = 300
LIVE = "hama-causal"


def talking_clip() -> tuple[SimpleNamespace, MouthCode]:
    """A stand-in for a dataset of two segments: noise as loud as the mouth is open."""
    rng = np.random.default_rng(0)
    opening = np.convolve(rng.normal(size=FRAMES + 8), np.ones(9) / 3, "valid")
    level = 0.1 * np.exp(0.8 * opening)
    sound = rng.normal(size=640 * FRAMES) * np.interp(
        np.arange(640 * FRAMES) / 640, np.arange(FRAMES), level
    )
    mouth = opening[:, None] * rng.uniform(0.5, 1, len(MOUTH_CHANNELS))
    found = np.ones(FRAMES, bool)
    units = MouthUnits.of(mouth, found)
    segments = [[0, 120], [120, FRAMES]]
    bounds = [np.tile([first, stop - 1], (stop - first, 1)) for first, stop in segments]
    dataset = SimpleNamespace(
        audio=lambda: sound.astype(np.float32).clip(-1, 1),
        segments=segments,
        bounds=np.concatenate(bounds),
        frames=FRAMES,
    )
    return dataset, MouthCode(units.code(mouth), found, units)


def test_the_mapping_of_live_sessions_reads_the_features_of_their_encoder() -> None:
    dataset, mouth = talking_clip()
    config = load("quick", ["model.mouth=code"], environment={})
    assert config.avatar.live_encoder == LIVE, "the default"
    fit = _fit_live_voice(config, dataset, mouth, np.arange(FRAMES), 0)  # type: ignore[arg-type]
    assert fit is not None and fit.mapping.width == 146
    assert fit.mapping.closure_step >= 0, "its features have the articulation channels"
    assert fit.correlation[0] > 0.8


@pytest.mark.parametrize("setting", ["none", "hama"])
def test_no_second_mapping_is_fitted_where_none_is_needed(setting: str) -> None:
    dataset, mouth = talking_clip()
    config = load("quick", [f"avatar.live_encoder={setting}"], environment={})
    assert _fit_live_voice(config, dataset, mouth, np.arange(FRAMES), 0) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name, message", [("hama-casual", "hama-causal"), ("deepspeech", "stream")]
)
def test_an_encoder_that_cannot_stream_is_refused(name: str, message: str) -> None:
    dataset, mouth = talking_clip()
    config = load("quick", [f"avatar.live_encoder={name}"], environment={})
    with pytest.raises(UsageError, match=message):
        _fit_live_voice(config, dataset, mouth, np.arange(FRAMES), 0)  # type: ignore[arg-type]
