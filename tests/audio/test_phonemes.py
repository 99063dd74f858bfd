"""Speech analysis: phoneme classes at their times, speech apart from noise, closures on lips."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from audio_samples import RATE, SPEAKER, other_sounds
from needs import load_or_skip

from being import media
from being.audio import encoders
from being.audio.phonemes import (
    CLASS_OF_SYMBOL,
    CLOSURE,
    PHONEME_CLASSES,
    SpeechAnalysis,
    analyse_speech,
    audio_levels,
)


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    load_or_skip(lambda: encoders.load_encoder("hama"))
    return media.read_audio(SPEAKER)


@pytest.fixture(scope="module")
def analysis(sound: np.ndarray) -> SpeechAnalysis:
    return analyse_speech(sound)


@pytest.mark.parametrize("name", list(other_sounds()))
def test_no_speech_is_found_in_other_audio(sound: np.ndarray, name: str) -> None:
    analysis = analyse_speech(other_sounds()[name])
    assert not analysis.speech and len(analysis.times) == 0 and not analysis.counts().any()


def test_speech_is_found_where_it_is(analysis: SpeechAnalysis) -> None:
    truth = np.load(SPEAKER.parent / "truth.npz")
    said = np.zeros(len(analysis.levels), bool)
    for start, stop in truth["phoneme_spans"]:
        said[round(start * 100) : round(stop * 100)] = True
    found = analysis.speaking((np.arange(len(analysis.levels)) + 0.5) / 100)
    assert (found & said).sum() > 0.88 * said.sum() and (found & ~said).sum() < 0.3 * said.sum()
    pauses = analysis.levels[~found]
    assert analysis.speech_level > -30 and np.median(pauses) < analysis.speech_level - 40


def test_closures_are_found_and_nothing_else_is_taken_for_them(analysis: SpeechAnalysis) -> None:
    truth = np.load(SPEAKER.parent / "truth.npz")
    at = analysis.times[analysis.classes == CLOSURE]
    near = np.abs(at[:, None] - truth["closures"]).min(1)
    caught = np.abs(at[:, None] - truth["closures"]).min(0)
    assert (caught < 0.1).mean() > 0.9 and (near < 0.1).mean() > 0.9, (caught, near)
    assert (
        analysis.closure.max() > 0.9
        and analysis.closure.min() >= 0
        and len(analysis.closure) == -(-len(analysis.mel) // 2)
    )


def test_classes_come_in_their_true_order(analysis: SpeechAnalysis) -> None:
    """Nearly every phoneme of the voice is found as one of its class, within a tenth of a
    second.
    """
    truth = np.load(SPEAKER.parent / "truth.npz")
    letters = {"f v": "fv", "s z": "sz", "k g h": "kgɡh", "p b m": "pbm"}
    for name, wanted in letters.items():
        said = truth["phoneme_spans"].mean(1)[[str(p) in wanted for p in truth["phonemes"]]]
        found = analysis.times[analysis.classes == PHONEME_CLASSES.index(name)]
        assert (np.abs(said[:, None] - found).min(1) < 0.1).mean() > 0.8, name


def test_long_audio_gives_the_phonemes_of_its_parts_and_quiet_audio_those_of_loud(
    sound: np.ndarray, analysis: SpeechAnalysis
) -> None:
    long = analyse_speech(np.tile(sound, 3))
    assert len(long.times) == pytest.approx(3 * len(analysis.times), rel=0.05)
    assert len(long.mel) == 1 + len(long.samples) // 160 and len(long.levels) == -(
        -len(long.samples) // 160
    )
    quiet = analyse_speech(sound * np.float32(0.01))
    assert np.abs(quiet.counts() - analysis.counts()).sum() < 0.1 * len(analysis.times)
    assert quiet.speech_level == pytest.approx(analysis.speech_level - 40, abs=0.5)


def test_speed(sound: np.ndarray) -> None:
    started = time.process_time()
    analyse_speech(np.tile(sound, 2)[: 50 * RATE])
    assert time.process_time() - started < 3  # 0.5 s on a quiet core


@pytest.mark.parametrize("samples", [0, 1, 200, 9_999])
def test_short_and_damaged_audio(sound: np.ndarray, samples: int) -> None:
    part = sound[RATE : RATE + samples].copy()
    part[::7] = np.nan
    analysis = analyse_speech(part)
    assert (
        analysis.invalid_samples == len(part[::7])
        and np.isfinite(analysis.samples).all()
        and len(analysis.samples) == samples
    )


def test_the_classes_are_a_partition_of_the_phonemes() -> None:
    assert (
        set(CLASS_OF_SYMBOL.values()) == set(range(len(PHONEME_CLASSES)))
        and len(PHONEME_CLASSES) == 12
    )
    assert not {189, 190, 4, 139} & set(CLASS_OF_SYMBOL)  # word border, blank, space, length mark
    assert audio_levels(np.zeros(0, np.float32)).shape == (1,)


@pytest.mark.shared
@pytest.mark.parametrize("clip", ["address_fr_50s.mp4", "newsdesk_en_21s.mp4"])
def test_lips_are_closed_where_closures_are_found(
    clip: str, sound: np.ndarray, shared_dir: Path
) -> None:
    """In French too: before at least nine of ten p, b, m the lips touch, several times as
    often as elsewhere.
    """
    from sampled_faces import clip_face_samples

    from being.face.landmarks import lip_aperture

    look = clip_face_samples(shared_dir / "clips" / clip, 15)
    analysis = analyse_speech(media.read_audio(shared_dir / "clips" / clip))
    aperture = lip_aperture(look.points)

    def least(times: np.ndarray) -> np.ndarray:
        return np.array(
            [aperture[(look.times >= t - 0.12) & (look.times <= t + 0.02)].min() for t in times]
        )

    at = analysis.times[
        (analysis.classes == CLOSURE) & (analysis.times > 0.2) & (analysis.times < 14.9)
    ]
    anywhere = np.arange(0.2, 14.8, 0.04)
    anywhere = least(anywhere[analysis.speaking(anywhere)])
    assert len(at) >= 8 and (least(at) < 0.015).mean() >= 0.9
    assert np.median(least(at)) < 0.6 * np.median(anywhere)


@pytest.mark.shared
@pytest.mark.parametrize("clip", ["address_fr_50s.mp4", "newsdesk_en_21s.mp4"])
def test_the_mouth_has_the_shape_of_the_phoneme_class(
    clip: str, sound: np.ndarray, shared_dir: Path
) -> None:
    """Nearly closed for f and v, open for a, narrow for o and u, wide for s: in French as in
    English.
    """
    from sampled_faces import clip_face_samples

    from being.face.landmarks import lip_aperture
    from being.face.topology import EYE_OUTER_LEFT, EYE_OUTER_RIGHT, OUTER_LIPS

    look = clip_face_samples(shared_dir / "clips" / clip, 20)
    analysis = analyse_speech(media.read_audio(shared_dir / "clips" / clip))
    mouth, eyes = (
        look.points[:, a, :2] - look.points[:, b, :2]
        for a, b in ((OUTER_LIPS[0], OUTER_LIPS[10]), (EYE_OUTER_RIGHT, EYE_OUTER_LEFT))
    )
    width = np.linalg.norm(mouth, axis=1) / np.linalg.norm(eyes, axis=1)
    aperture, spoken = lip_aperture(look.points), analysis.speaking(look.times)

    def at(values: np.ndarray, *names: str) -> float:
        kinds = [PHONEME_CLASSES.index(name) for name in names]
        times = (
            analysis.times[
                np.isin(analysis.classes, kinds) & (analysis.times > 0.1) & (analysis.times < 20)
            ]
            - 0.06
        )
        usual = values[spoken]
        return float((np.interp(times, look.times, values).mean() - usual.mean()) / usual.std())

    assert at(aperture, "p b m", "f v") < -0.4 and at(aperture, "a") > 0.3
    assert at(width, "o", "w u") < -0.5 and at(width, "s z") > 0.2
