"""The built-in sample clip: its format, its true values, and its generator's motion."""

import av
import numpy as np
import pytest

from being.conventions import FPS
from being.media import probe, read_audio, read_frames
from being.sample import sample_clip, sample_truth

pytest.importorskip("scipy")
from scripts.sample import motion, mouth  # noqa: E402

# "pa ba ma", then silence: IPA, start s, end s.
EVENTS = [
    ("p", 0.5, 0.6),
    ("ˈ", 0.6, 0.61),
    ("ɑ", 0.61, 0.8),
    ("b", 0.8, 0.88),
    ("ɑ", 0.88, 1.1),
    ("m", 1.1, 1.2),
    ("ɑ", 1.2, 1.45),
    (".", 1.45, 2.4),
]
DURATION = 2.4


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    return sample_truth()


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.stack(list(read_frames(sample_clip())))


def unit(truth: dict[str, np.ndarray], name: str) -> np.ndarray:
    return truth["unit_weights"][:, list(truth["unit_names"]).index(name)].astype(float)


def nearest_frames(seconds: np.ndarray) -> np.ndarray:
    return np.round(seconds * FPS).astype(int)


def test_clip_decodes_to_the_stated_size_rate_and_length(
    frames: np.ndarray, truth: dict[str, np.ndarray]
) -> None:
    info = probe(sample_clip())
    assert (info.width, info.height, round(info.fps)) == (512, 512, FPS)
    assert frames.shape == (len(truth["lip_aperture"]), 512, 512, 3)
    assert 20 <= len(frames) / FPS <= 30
    assert sample_clip().stat().st_size <= 3_000_000
    assert (sample_clip().parent / "truth.npz").stat().st_size <= 300_000


def test_metadata_and_licence_say_that_the_clip_is_synthetic() -> None:
    with av.open(str(sample_clip())) as container:
        assert "synthetic" in container.metadata["comment"].lower()
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert audio.codec_context.name == "aac"
    licence = (sample_clip().parent / "speaker.LICENSE.txt").read_text()
    assert "CC0" in licence and "Mika Suominen" in licence and "Apache" in licence


def test_audio_is_unclipped_and_silent_in_the_pauses(truth: dict[str, np.ndarray]) -> None:
    sound = read_audio(sample_clip())
    assert abs(len(sound) / 16_000 - len(truth["lip_aperture"]) / FPS) < 0.1
    assert 0.3 < np.abs(sound).max() < 0.99
    first = int(16_000 * truth["phoneme_spans"][0, 0])
    assert np.abs(sound[: first - 1600]).max() < 0.001 < np.sqrt(np.mean(sound[first:] ** 2))


def test_truth_arrays_have_one_row_a_frame(truth: dict[str, np.ndarray]) -> None:
    count = len(truth["lip_aperture"])
    for key in ("head_to_camera", "yaw_pitch_roll", "unit_weights"):
        assert len(truth[key]) == count, key
    assert truth["unit_weights"].shape[1] == len(truth["unit_names"])
    assert len(truth["phonemes"]) == len(truth["phoneme_spans"])
    assert (
        truth["head_mask"].shape
        == truth["person_mask"].shape
        == (len(truth["mask_frames"]), 256, 256)
    )
    assert truth["mask_frames"].max() < count


def test_true_lips_are_closed_at_p_b_m_and_open_between(truth: dict[str, np.ndarray]) -> None:
    closed = nearest_frames(truth["closures"])
    assert len(closed) >= 20
    assert truth["lip_aperture"][closed].max() == 0
    assert unit(truth, "jawOpen")[closed].max() < 0.01
    assert unit(truth, "jawOpen").max() <= mouth.JAW_LIMIT
    spread = np.percentile(truth["lip_aperture"], [10, 50, 95])
    assert spread[0] < 1 < spread[1] < 8 < spread[2]  # px: closed, mid and open are all there


def levels(low: float, high: float) -> np.ndarray:
    """Level in dB of the sample's audio between two frequencies (Hz), every 5 ms.

    Each value is of a window of 20 ms around its time.
    """
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(read_audio(sample_clip()), 160), 320)[
        ::80
    ]
    power = np.abs(np.fft.rfft(windows * np.hanning(320), axis=1)) ** 2
    frequency = np.fft.rfftfreq(320, 1 / 16_000)
    return 10 * np.log10(power[:, (frequency >= low) & (frequency < high)].mean(1) + 1e-7)


def lag(signal: np.ndarray, reference: np.ndarray) -> float:
    """Seconds by which `signal` is later than `reference`, both with a value every 5 ms.

    It is the shift of the best correlation within 0.2 s.
    """
    lags = np.arange(-40, 41)
    inner = reference[40 : len(signal) - 40]
    agreement = [np.corrcoef(inner, signal[40 + k : len(signal) - 40 + k])[0, 1] for k in lags]
    return float(lags[np.argmax(agreement)]) * 0.005


@pytest.mark.parametrize(
    ("phonemes", "band"), [("szʃʒʧʤ", (5000, 8000)), ("aɑɔæɛʌoeɜiuɪᵻəɐᵊɚʊ", (250, 3000))]
)
def test_phoneme_spans_match_the_audio(
    truth: dict[str, np.ndarray], phonemes: str, band: tuple[int, int]
) -> None:
    """High frequencies are loud in the spans of s and sh, low ones in those of vowels."""
    level = levels(*band)
    times = np.arange(len(level)) * 0.005
    named = [
        np.any([(times >= a) & (times < b)], 0)
        for (a, b), name in zip(truth["phoneme_spans"], truth["phonemes"], strict=True)
        if str(name) in phonemes
    ]
    assert abs(lag(level, np.any(named, 0).astype(float))) <= 0.020


def test_true_lips_open_at_the_burst_of_p_and_b(truth: dict[str, np.ndarray]) -> None:
    """The lips are closed before the burst of p and b and open with it, not after it."""
    level = levels(300, 8000)
    said = truth["phoneme_spans"].mean(1)[np.isin(truth["phonemes"], ["p", "b"])]
    near = np.round(said[:, None] * 200).astype(int) + np.arange(-7, 8)  # 35 ms to either side
    bursts = (near[:, 0] + (level[near[:, 2:]] - level[near[:, :-2]]).argmax(1) + 1) * 0.005
    frames = np.arange(len(truth["lip_aperture"])) / FPS
    around = np.arange(-40, 41) * 0.005  # s
    course = np.median(
        [np.interp(b + around, frames, truth["lip_aperture"]) for b in bursts], axis=0
    )
    opens = around[
        np.flatnonzero((course[1:] > 0.5) & (course[:-1] <= 0.5) & (around[1:] > -0.07))[0] + 1
    ]  # 0.5 px
    assert len(bursts) >= 15 and abs(opens) <= 0.020, opens
    assert course[np.abs(around + 0.04) < 0.01].max() < 0.1  # and 40 ms before it they are shut
    assert np.abs(np.median(bursts - said)) <= 0.010


def test_true_lips_follow_the_level_of_the_audio(truth: dict[str, np.ndarray]) -> None:
    level = np.maximum(levels(250, 3000), -30)
    times = np.arange(len(level)) * 0.005
    aperture = np.interp(times, np.arange(len(truth["lip_aperture"])) / FPS, truth["lip_aperture"])
    slow = np.full(201, 1 / 201)  # 1 s: removes the pauses between sentences
    level, aperture = (
        x - np.convolve(np.pad(x, 100, "reflect"), slow, "valid") for x in (level, aperture)
    )
    assert -0.005 <= lag(level, aperture) <= 0.045  # natural lips lead by 0 to 40 ms


def test_true_head_turns_both_ways_and_blinks(truth: dict[str, np.ndarray]) -> None:
    yaw = truth["yaw_pitch_roll"][:, 0]
    assert yaw.min() < -18 and yaw.max() > 18
    assert np.abs(np.diff(yaw)).max() * FPS < 40  # degrees/s: slow
    blink = unit(truth, "eyeBlinkLeft") > 0.8
    assert 5 <= np.count_nonzero(blink[1:] & ~blink[:-1]) <= 15


def test_true_camera_puts_the_head_where_its_mask_is(truth: dict[str, np.ndarray]) -> None:
    size, focal = int(truth["size"]), float(truth["focal"])
    middle = np.array([0.0, 0.3, -0.1, 1.0])  # of the head with its hair, 10 cm
    for frame, mask in zip(truth["mask_frames"], truth["head_mask"], strict=True):
        pose = truth["head_to_camera"][frame].astype(float)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-6)
        x, y, z = (pose @ middle)[:3]
        u, v = focal * x / z + (size - 1) / 2, focal * y / z + (size - 1) / 2
        rows, columns = np.nonzero(mask)
        assert z > 5
        assert abs(u - 2 * columns.mean()) < 5 and abs(v - 2 * rows.mean()) < 8, (frame, u, v)


def test_frames_agree_with_the_true_masks(frames: np.ndarray, truth: dict[str, np.ndarray]) -> None:
    background = np.median(frames[truth["mask_frames"]][:, :40, :60].reshape(-1, 3), axis=0)
    for frame, person in zip(truth["mask_frames"], truth["person_mask"], strict=True):
        distance = np.abs(frames[frame][::2, ::2].astype(float) - background).sum(-1)
        assert distance[person].mean() > 3 * distance[~person].mean()


def test_mouth_closes_at_p_b_m_opens_between_and_rests_closed() -> None:
    weights, stress = mouth.tracks(EVENTS, DURATION)
    jaw = weights["jawOpen"]
    assert len(jaw) == len(stress) == mouth.frame_count(DURATION) == 60
    np.testing.assert_allclose(mouth.closures(EVENTS), [0.55, 0.84, 1.15])
    assert jaw[nearest_frames(mouth.closures(EVENTS))].max() < 0.02
    vowels = nearest_frames(np.array([0.71, 0.99, 1.32]))
    assert jaw[vowels].min() > 0.08
    assert jaw[-20:].max() < 1e-3 and weights["mouthClose"][-20:].min() > 0.04


def test_the_jaw_stays_within_its_limit() -> None:
    shout = [("ˈ", 0.1, 0.11), ("a", 0.11, 2.0)]
    weights, _ = mouth.tracks(shout, DURATION)
    assert 0.9 * mouth.JAW_LIMIT < weights["jawOpen"].max() <= mouth.JAW_LIMIT
    assert all(0 <= w.min() and w.max() <= 1 for w in weights.values())


def test_diphthongs_are_split_and_stress_goes_to_its_vowel() -> None:
    spoken = mouth.segments([("ˈ", 0.0, 0.25), ("b", 0.25, 0.5), ("I", 0.5, 1.0)])
    assert [(s[0], round(s[1], 9), round(s[2], 9), s[3]) for s in spoken] == [
        ("b", 0.0, 0.5, 0.0),
        ("a", 0.5, 0.8, 1.0),
        ("ɪ", 0.8, 1.0, 0.0),
    ]


def test_motion_is_smooth_and_deterministic() -> None:
    stress = np.clip(np.sin(np.arange(700) / 3), 0, 1)
    one, two = motion.motion(700, stress), motion.motion(700, stress)
    np.testing.assert_array_equal(one.angles, two.angles)
    assert np.degrees(np.abs(np.diff(one.angles, axis=0))).max() < 1.6  # a frame
    np.testing.assert_array_equal(one.angles[0], 0)
    assert all(0 <= w.min() and w.max() <= 1 for w in one.weights.values())
