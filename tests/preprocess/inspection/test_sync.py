"""The offset of the sound from the mouth is found to 20 ms, or it is said that it cannot be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_samples import SPEAKER, melody
from looks import look_at, made_up
from needs import had

from being import media
from being.audio import encoders
from being.audio.phonemes import listen
from being.conventions import SAMPLE_RATE
from being.preprocess.inspection.face_samples import Look
from being.preprocess.inspection.sync import (
    IN_STEP,
    NOT_KNOWN,
    check_other_voices,
    check_sync,
    sync_offset,
)

MOVED = (-0.2, -0.1, -0.04, 0.04, 0.1, 0.2)  # s


def moved(sound: np.ndarray, seconds: float) -> np.ndarray:
    samples = round(seconds * SAMPLE_RATE)
    return np.pad(sound, (samples, 0)) if samples > 0 else sound[-samples:]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    had(lambda: encoders.encoder("hama"))
    return media.read_audio(SPEAKER)


@pytest.fixture(scope="module")
def mouth() -> Look:
    """The lips of the built-in sample by its own truth."""
    aperture = np.load(SPEAKER.parent / "truth.npz")["lip_aperture"]
    return made_up(np.arange(len(aperture)) / 25, aperture)


def part(look: Look, start: int, stop: int) -> Look:
    return Look(look.times[start:stop], look.points[start:stop], None, look.faces[start:stop])


@pytest.mark.parametrize("by", MOVED)
def test_moved_sound_is_told_from_fifteen_seconds(
    sound: np.ndarray, mouth: Look, by: float
) -> None:
    zero = sync_offset(listen(sound), mouth)
    found = sync_offset(listen(moved(sound, by)), part(mouth, 50, 425))
    assert zero.sure and found.sure and found.seconds - zero.seconds == pytest.approx(by, abs=0.012)


def test_it_does_not_depend_on_when_frames_were_taken(sound: np.ndarray, mouth: Look) -> None:
    """Copies left out of a 30 fps clip, 60 fps, jittered times, sparse samples besides, frames
    without a face.
    """
    heard, rng = listen(sound), np.random.default_rng(0)
    zero = sync_offset(heard, mouth).seconds
    aperture = np.load(SPEAKER.parent / "truth.npz")["lip_aperture"]
    thirty = np.arange(0, 20, 1 / 30)
    for times in (
        thirty[np.arange(len(thirty)) % 6 != 5],
        np.arange(0, 18, 1 / 60),
        np.sort(np.arange(0, 20, 0.04) + rng.uniform(-0.015, 0.015, 500)),
        np.concatenate([np.arange(0, 4, 0.7), np.arange(5, 22, 0.04), np.arange(22, 29, 0.7)]),
    ):
        look = made_up(times, np.interp(times, mouth.times, aperture))
        look.points[7:10] = np.nan
        found = sync_offset(heard, look)
        assert found.sure and found.seconds == pytest.approx(zero, abs=0.015)


def test_nothing_is_claimed_where_mouth_and_sound_are_strangers(
    sound: np.ndarray, mouth: Look
) -> None:
    own, aperture = listen(sound), np.load(SPEAKER.parent / "truth.npz")["lip_aperture"]
    hiss = 0.1 * np.random.default_rng(0).normal(size=15 * SAMPLE_RATE).astype(np.float32)
    strangers = {
        "silence": (listen(np.zeros_like(hiss)), mouth),
        "melody": (listen(melody(15)), mouth),
        "noise": (listen(hiss), mouth),
        "short sound": (listen(sound[: 2 * SAMPLE_RATE]), mouth),
        "backwards": (own, made_up(mouth.times, aperture[::-1])),
        "still": (own, made_up(mouth.times, np.full(len(mouth), 0.05))),
        "few frames": (own, part(mouth, 100, 180)),
        "one frame": (own, part(mouth, 5, 6)),
        "no face": (own, Look(mouth.times, np.full_like(mouth.points, np.nan), None, mouth.faces)),
        "no frames": (own, part(mouth, 0, 0)),
        "sparse": (own, made_up(np.arange(0, 28, 0.7), np.full(40, 0.05))),
    }
    for name, (heard, look) in strangers.items():
        found = sync_offset(heard, look)
        assert not found.sure and found.shift == 0, name
        assert check_sync(found).level == "warning" and "cannot be told" in check_sync(found).what
        assert check_other_voices(heard, look).level == "ok" or name == "still"


def test_what_is_said_and_moved(sound: np.ndarray, mouth: Look) -> None:
    far = sync_offset(listen(moved(sound, 0.3)), mouth)
    assert (
        far.shift == far.seconds > 0.15
        and check_sync(far).level == "warning"
        and "after" in check_sync(far).what
    )
    mended = sync_offset(listen(moved(moved(sound, 0.3), -far.shift)), mouth)
    assert abs(mended.seconds) < 0.02 and mended.shift == 0 and check_sync(mended).level == "ok"
    assert NOT_KNOWN.shift == 0 and 0.04 < IN_STEP < 0.06


def test_another_voice_is_found_by_lips_that_keep_still(sound: np.ndarray, mouth: Look) -> None:
    heard = listen(sound)
    assert check_other_voices(heard, mouth).level == "ok"
    aperture = np.load(SPEAKER.parent / "truth.npz")["lip_aperture"].copy()
    aperture[238:369] = 0.002  # 9.5 to 14.8 s, where there is speech
    found = check_other_voices(heard, made_up(mouth.times, aperture))
    assert found.level == "warning" and all(a >= 9.3 and b <= 14.7 for a, b in found.at)
    assert (
        sum(b - a for a, b in found.at) > 3.5
    )  # of 5.2 s, a pause and half a second at both ends besides


@pytest.mark.shared
@pytest.mark.parametrize(
    "clip", ["address_fr_50s.mp4", "newsdesk_en_21s.mp4", "raw/address_fr_30fps_dup.mp4"]
)
def test_moved_sound_of_real_clips_is_told(clip: str, sound: np.ndarray, shared_dir: Path) -> None:
    own = media.read_audio(shared_dir / "clips" / clip)
    look = look_at(shared_dir / "clips" / clip, 15)
    zero = sync_offset(listen(own), look)
    assert zero.sure and abs(zero.seconds) < 0.03, zero  # by eye these clips are in step
    for by in MOVED:
        found = sync_offset(listen(moved(own, by)), look)
        assert found.sure and found.seconds - zero.seconds == pytest.approx(by, abs=0.01), (
            by,
            found,
        )
    strange = sync_offset(
        listen(media.read_audio(shared_dir / "audio" / "speech_en_60s.wav")[3 * SAMPLE_RATE :]),
        look,
    )
    assert not strange.sure


@pytest.mark.shared
def test_the_raw_clip_and_its_clean_copy_have_the_same_offset(
    sound: np.ndarray, shared_dir: Path
) -> None:
    offsets = []
    for clip in ("address_fr_50s.mp4", "raw/address_fr_30fps_dup.mp4"):
        offsets.append(
            sync_offset(
                listen(media.read_audio(shared_dir / "clips" / clip)),
                look_at(shared_dir / "clips" / clip, 12),
            ).seconds
        )
    assert offsets[0] == pytest.approx(offsets[1], abs=0.01)
