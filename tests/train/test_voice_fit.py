"""The fit from voice to mouth on a synthetic voice with a known mouth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from being.audio.feature_windows import strips
from being.conventions import FEATURE_WINDOW, STEPS_PER_FRAME
from being.data.mouth import CODE_GAIN, MouthCode, code_rows
from being.errors import InputRejected
from being.face.mouth_code import MOUTH_CHANNELS, MouthUnits
from being.model.voice_to_mouth import (
    ANTICIPATION,
    ANY_SPEED,
    CLOSING_CHANNELS,
    MAX_CLOSURE,
    CodeState,
    MouthRowStream,
    VoiceToMouth,
    match_quantiles,
    pause_closure,
    predicted_rows,
)
from being.train.voice_fit import FACE_RESPONSE, VoiceFit, fit_voice_to_mouth

FRAMES, WIDTH, LATE = 400, 20, 3
K = len(MOUTH_CHANNELS)


def smooth_noise(count: int, width: int, seed: int) -> np.ndarray:
    """Noise [count, width] that changes about as slowly as speech."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(count + 6, width))
    return np.stack([np.convolve(column, np.ones(7) / 7**0.5, "valid") for column in raw.T], 1)


def synthetic(seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, MouthCode]:
    """Features [F, 16, C], bounds [F, 2] and a mouth that follows them LATE steps later."""
    steps = smooth_noise(2 * FRAMES + 64, WIDTH, seed)
    mix = np.random.default_rng(7).normal(size=(WIDTH, K)) / WIDTH**0.5
    middle = 32 + 2 * np.arange(FRAMES)
    mouth = np.tanh(steps[middle + LATE] @ mix)
    mouth += noise * np.random.default_rng(seed + 1).normal(size=mouth.shape)
    features = np.stack([steps[m - 8 : m + 8] for m in middle]).astype(np.float32)
    found = np.ones(FRAMES, bool)
    units = MouthUnits.of(mouth, found)
    bounds = np.tile([0, FRAMES - 1], (FRAMES, 1))
    return features, bounds, MouthCode(units.code(mouth), found, units)


@pytest.fixture(scope="module")
def fitted() -> tuple[VoiceFit, np.ndarray, np.ndarray, MouthCode]:
    features, bounds, code = synthetic(noise=0.2)
    fit = fit_voice_to_mouth(features, bounds, code, np.arange(320), "deepspeech")
    assert fit is not None
    return fit, features, bounds, code


def test_frames_that_were_not_seen_are_predicted(fitted) -> None:
    fit, features, bounds, code = fitted
    predicted = fit.mapping.codes(strips(features, bounds))[328:]
    true = code.values[328:]
    for k in range(K):
        assert np.corrcoef(predicted[:, k], true[:, k])[0, 1] > 0.6, MOUTH_CHANNELS[k]
    # The middle of the window is where the mouth's audio lies.
    assert abs(fit.middle - LATE) <= 2


def test_calibration_gives_the_deviation_of_the_person(fitted) -> None:
    fit, features, bounds, code = fitted
    predicted = fit.mapping.codes(strips(features, bounds))
    response = np.array([FACE_RESPONSE.get(name, 1.0) for name in MOUTH_CHANNELS])
    ratio = response * predicted[328:].std(0) / code.values[:320].std(0)
    assert 0.9 < ratio.mean() < 1.1, ratio
    assert (ratio > 0.75).all() and (ratio < 1.35).all(), ratio  # 72 frames of each channel
    plain = fit.mapping.predict(fit.mapping.reduce(strips(features, bounds)))
    assert plain[328:].std(0).mean() < predicted[328:].std(0).mean()


def test_what_cannot_be_predicted_is_not_blown_up() -> None:
    features, bounds, code = synthetic()
    rng = np.random.default_rng(3)
    noise = MouthCode(rng.normal(size=code.values.shape).astype(np.float32), code.found, code.units)
    fit = fit_voice_to_mouth(features, bounds, noise, np.arange(320), "deepspeech")
    assert fit is not None
    assert (fit.motion < 0.6).all(), fit.motion


def test_a_stream_gives_the_rows_of_the_whole_clip(fitted) -> None:
    fit, features, bounds, _ = fitted
    whole = predicted_rows(fit.mapping, features, bounds)
    stream = MouthRowStream(fit.mapping)
    parts = [stream.push(part) for part in np.split(features, [1, 2, 9, 60, 61, 200])]
    rows = np.concatenate([*parts, stream.finish()])
    assert rows.shape == (FRAMES, FEATURE_WINDOW, K)
    np.testing.assert_allclose(rows, whole, atol=1e-4)


def test_short_streams() -> None:
    features, bounds, code = synthetic()
    fit = fit_voice_to_mouth(features, bounds, code, np.arange(320), "deepspeech")
    assert fit is not None
    for count in (0, 1, 2, 3, 5):
        stream = MouthRowStream(fit.mapping)
        rows = np.concatenate([stream.push(features[:count]), stream.finish()])
        assert len(rows) == count


def test_closures_close_the_lips_in_any_voice() -> None:
    features, bounds, code = synthetic()
    width = 146
    wide = np.zeros((FRAMES, FEATURE_WINDOW, width), np.float32)
    wide[..., :WIDTH] = features
    fit = fit_voice_to_mouth(wide, bounds, code, np.arange(320), "hama")
    assert fit is not None and fit.mapping.closure_step == FEATURE_WINDOW
    without = fit.mapping.codes(strips(wide, bounds))
    wide[200:210, :, -2] = 8.0
    closed = fit.mapping.codes(strips(wide, bounds))
    lips = list(CLOSING_CHANNELS)
    distance = np.abs(closed[205, lips] - fit.mapping.closed[lips])
    assert (distance < 0.15).all(), distance
    np.testing.assert_allclose(closed[100], without[100], atol=1e-5)

    # A frame before the closure the lips are on their way.
    strip = strips(wide, bounds)[100:101].copy()
    soon = fit.mapping.closure_step + STEPS_PER_FRAME
    strip[:, soon - 1 : soon + 1, -2] = 8.0
    way = (fit.mapping.codes(strip)[0] - without[100])[lips]
    whole = fit.mapping.closed[lips] - without[100, lips]
    np.testing.assert_allclose(way, ANTICIPATION * MAX_CLOSURE * whole, atol=1e-4)


def test_files_are_written_and_checked(fitted, tmp_path: Path) -> None:
    fit, features, bounds, _ = fitted
    path = tmp_path / "voice.safetensors"
    fit.mapping.save(path)
    again = VoiceToMouth.load(path)
    some = strips(features, bounds)[:20]
    np.testing.assert_array_equal(again.codes(some), fit.mapping.codes(some))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputRejected):
        VoiceToMouth.load(path)


def test_parts_that_do_not_fit_are_refused(fitted) -> None:
    mapping = fitted[0].mapping
    tensors, facts = mapping.tensors(), mapping.facts()
    for broken, why in (
        ({**tensors, "weights": tensors["weights"][:-1]}, facts),
        ({name: value for name, value in tensors.items() if name != "closed"}, facts),
        (tensors, {**facts, "gamma": -1}),
        (tensors, {**facts, "closure_step": "x"}),
        (tensors, {}),
        ({**tensors, "centres": np.zeros((2, 3, 4), np.float32)}, facts),
    ):
        with pytest.raises(ValueError):
            VoiceToMouth.from_parts(broken, why)


def test_too_few_frames_are_not_fitted() -> None:
    features, bounds, code = synthetic()
    assert fit_voice_to_mouth(features, bounds, code, np.arange(20), "deepspeech") is None


def test_quantiles_are_matched_and_continued() -> None:
    before, after = np.array([0.0, 1.0, 2.0]), np.array([0.0, 3.0, 4.0])
    values = match_quantiles(np.array([-1.0, 0.5, 1.5, 3.0]), before, after)
    np.testing.assert_allclose(values, [-1.0, 1.5, 3.5, 5.0])


def test_rows_hold_the_code_of_their_frame() -> None:
    rows = code_rows(np.arange(6.0).reshape(2, 3))
    assert rows.shape == (2, FEATURE_WINDOW, 3)
    np.testing.assert_allclose(rows[1], np.tile([12.0, 16.0, 20.0], (FEATURE_WINDOW, 1)))
    assert CODE_GAIN == 4.0


def test_other_audio_is_in_step_with_the_mouth_of_a_clip_whose_audio_is_late() -> None:
    features, bounds, code = synthetic()
    on_time = fit_voice_to_mouth(features, bounds, code, np.arange(320), "deepspeech")
    late = np.concatenate([np.repeat(features[:1], 5, 0), features[:-5]])  # by 0.2 s
    fit = fit_voice_to_mouth(late, bounds, code, np.arange(320), "deepspeech")
    assert on_time is not None and fit is not None
    assert (on_time.mapping.audio_delay, fit.mapping.audio_delay) == (0, 5)

    # The clip's own late audio gives its mouth, and audio in step gives it as well.
    own = predicted_rows(fit.mapping, late, bounds)[:, 0]
    stream = MouthRowStream(fit.mapping)
    parts = [stream.push(part) for part in np.split(features, [1, 2, 9, 60, 61, 200])]
    other = np.concatenate([*parts, stream.finish()])[:, 0]
    true = code.values
    for rows in (own, other):
        assert len(rows) == FRAMES
        scores = [np.corrcoef(rows[328:-5, k], true[328:-5, k])[0, 1] for k in range(K)]
        assert min(scores) > 0.6, scores

    facts = fit.mapping.facts()
    older = {key: value for key, value in facts.items() if key != "audio_delay"}
    assert VoiceToMouth.from_parts(fit.mapping.tensors(), older).audio_delay == 0
    with pytest.raises(ValueError):
        VoiceToMouth.from_parts(fit.mapping.tensors(), {**facts, "audio_delay": -1})


def test_a_pause_closes_the_mouth_and_a_word_opens_it() -> None:
    so_far = np.array([0, 50, 50, 0, 8, 50], np.float32)
    # In speech, in silence, as a word begins, after a word, a little later, before a word
    ahead = np.array([0, 14, 0, 14, 14, 5], np.float32)
    amount = pause_closure(so_far, ahead, 6)
    np.testing.assert_allclose(amount, [0, 1, 0, 0, 1 / 3, 1 / 2], atol=1e-6)


def test_no_channel_is_faster_than_the_person(fitted) -> None:
    fit, features, bounds, code = fitted
    rows = predicted_rows(fit.mapping, features, bounds)[:, 0] / CODE_GAIN
    true = np.abs(np.diff(code.values[:320], axis=0)).max(0)
    steps = np.abs(np.diff(rows, axis=0)).max(0) * fit.mapping.face_share
    assert (steps <= true).all(), steps / true
    # Without a limit the codes are as they are.
    free = replace(fit.mapping, speed=np.full(K, ANY_SPEED, np.float32))
    codes = free.codes(strips(features, bounds))
    np.testing.assert_array_equal(predicted_rows(free, features, bounds), code_rows(codes))


def test_files_of_before_have_no_pauses_and_no_limits(fitted) -> None:
    mapping = fitted[0].mapping
    later = ("closing", "face_share", "pause_readout", "speed")
    tensors = {name: value for name, value in mapping.tensors().items() if name not in later}
    facts = {name: value for name, value in mapping.facts().items() if name != "pause_wait"}
    old = VoiceToMouth.from_parts(tensors, facts)
    assert (
        (old.face_share == 1).all()
        and (old.closing[list(CLOSING_CHANNELS)] == np.float32(MAX_CLOSURE)).all()
        and np.count_nonzero(old.closing) == len(CLOSING_CHANNELS)
        and (old.speed == ANY_SPEED).all()
        and not len(old.pause_readout)
    )
    for broken in (
        {"face_share": np.zeros(K, np.float32)},
        {"speed": -mapping.speed},
        {"closing": np.full(K, 1.1, np.float32)},
    ):
        with pytest.raises(ValueError):
            VoiceToMouth.from_parts({**mapping.tensors(), **broken}, mapping.facts())
    with pytest.raises(ValueError):
        VoiceToMouth.from_parts(mapping.tensors(), {**mapping.facts(), "pause_wait": 9999})


def test_silence_closes_the_mouth_after_its_wait(fitted) -> None:
    mapping = replace(
        fitted[0].mapping,
        closure_step=FEATURE_WINDOW,
        pause_readout=np.zeros(WIDTH + 1, np.float32),
        pause_wait=10,
        speed=np.full(K, ANY_SPEED, np.float32),
    )
    codes = np.tile(mapping.closed + 1, (20, 1)).astype(np.float32)
    silence = np.tile(np.float32([1, 1, 14]), (20, 1))  # both steps of a frame, and 14 to come
    made, state = mapping.follow(codes, silence, CodeState(quiet=0.0))
    assert state.quiet == 40
    lips = list(CLOSING_CHANNELS)
    np.testing.assert_array_equal(made[:5], codes[:5])
    np.testing.assert_allclose(made[8:, lips], codes[8:, lips] - MAX_CLOSURE, atol=1e-6)
    # The rest of the mouth stays, and so does all of it where something is said.
    free = [k for k in range(K) if k not in lips]
    np.testing.assert_array_equal(made[:, free], codes[:, free])
    np.testing.assert_array_equal(mapping.follow(codes, 0 * silence, CodeState())[0], codes)


def test_a_face_that_goes_half_as_far_gets_codes_twice_as_far(fitted) -> None:
    fit, features, bounds, _ = fitted
    some = strips(features, bounds)[100:140]
    whole = replace(fit.mapping, face_share=np.full(K, 4, np.float32))
    half = replace(fit.mapping, face_share=np.full(K, 2, np.float32))
    mean = fit.mapping.code_mean
    np.testing.assert_allclose(half.codes(some) - mean, 2 * (whole.codes(some) - mean), atol=1e-5)
