"""The facts of an avatar: its rows in live sessions, by the live encoder where it has one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_avatar import write_tiny_avatar
from tiny_home import hum

from being.audio.feature_stream import FeatureStream
from being.bench.avatars import random_voice
from being.conventions import ATTENTION_OFFSETS, CODE_OFFSETS, FEATURE_WINDOW, SAMPLE_RATE
from being.errors import InputRejected, UsageError
from being.inference.engine import Engine
from being.model.voice_to_mouth import LIVE_VOICE_FILE, MouthRowStream
from being.session.avatar_facts import AvatarFacts
from being.session.capacity import front_capacity
from being.session.engine_facts import avatar_facts
from being.session.speech_source import SpeechSource

LIVE = "hama-causal"


pytestmark = pytest.mark.usefixtures("loudness_encoder")


def kept_facts(folder: Path, avatar: Path) -> AvatarFacts:
    """The facts of a bundle, written and read again."""
    avatar_facts(Engine.load(avatar, precision="float32"), "tiny").save(folder / "facts.npz")
    return AvatarFacts.load(folder / "facts.npz")


def test_an_avatar_that_reads_speech_features_is_served_by_its_own_encoder(tmp_path: Path) -> None:
    facts = kept_facts(tmp_path, write_tiny_avatar(tmp_path / "a", "loudness@low", 2))
    assert facts.encoder == "loudness@low" and facts.voice is None
    assert facts.silent_row.shape == (FEATURE_WINDOW, 2) and facts.offsets == ATTENTION_OFFSETS
    assert facts.mark["avatar"]["name"] == "tiny" and len(facts.identity) == 64
    assert facts.mark["ai_generated"] is True and not facts.watermark
    assert isinstance(facts.stream(), FeatureStream)


@pytest.mark.parametrize("live", [False, True])
def test_an_avatar_that_reads_the_mouth_code_gets_it_in_live_sessions(
    tmp_path: Path, live: bool
) -> None:
    """Rows are mouth codes, also those of silence, and by the mapping of the live encoder."""
    own, other = random_voice(2), random_voice(146, seed=1)
    avatar = write_tiny_avatar(
        tmp_path / "a", "loudness", 2, own, live=(LIVE, other) if live else None
    )
    facts = kept_facts(tmp_path, avatar)
    name, voice = (LIVE, other) if live else ("loudness", own)
    assert facts.encoder == name and facts.voice is not None and facts.offsets == CODE_OFFSETS
    assert facts.silent_row.shape == (FEATURE_WINDOW, len(voice.units)) == (FEATURE_WINDOW, 16)

    # What a session gets of one utterance.
    sound = hum(1.0)
    source = SpeechSource(facts.stream(), SAMPLE_RATE, facts.silent_row[0])
    blocks = [*source.push(sound), *source.finish()]
    rows = np.concatenate([block.rows for block in blocks])
    stream, mapping = FeatureStream(name), MouthRowStream(voice)
    features = [stream.push(sound), stream.finish()]
    expected = np.concatenate([mapping.push(np.concatenate(features)), mapping.finish()])
    assert rows.shape == expected.shape == (25, FEATURE_WINDOW, 16)
    assert np.abs(rows - expected).max() < 1e-3
    assert front_capacity(facts, 1) >= 1


def test_the_look_ahead_of_the_live_encoder_is_the_sessions(tmp_path: Path) -> None:
    """The row of frame i comes once i / 25 s + 0.24 s of sound is there: no later row is needed."""
    avatar = write_tiny_avatar(
        tmp_path / "a", "loudness", 2, random_voice(2), live=(LIVE, random_voice(146))
    )
    stream = kept_facts(tmp_path, avatar).stream()
    assert stream.seconds == pytest.approx(0.24)
    rows, sound = 0, hum(1.0)
    for at in range(0, len(sound), 160):
        rows += len(stream.push(sound[at : at + 160]))
        assert rows >= ((at + 160) / SAMPLE_RATE - stream.seconds) * 25 + 1e-6


def test_a_bundle_whose_live_mapping_is_missing_or_altered_is_refused(tmp_path: Path) -> None:
    avatar = write_tiny_avatar(
        tmp_path / "a", "loudness", 2, random_voice(2), live=(LIVE, random_voice(146))
    )
    whole = (avatar / LIVE_VOICE_FILE).read_bytes()
    random_voice(146, seed=2).save(avatar / LIVE_VOICE_FILE)
    with pytest.raises(InputRejected, match="was altered"):
        Engine.load(avatar)
    (avatar / LIVE_VOICE_FILE).unlink()
    with pytest.raises(InputRejected, match=LIVE_VOICE_FILE):
        Engine.load(avatar)
    (avatar / LIVE_VOICE_FILE).write_bytes(whole)
    assert Engine.load(avatar, precision="float32").avatar.live_encoder == LIVE


def test_a_mapping_of_another_width_or_an_unknown_encoder_is_told(tmp_path: Path) -> None:
    for number, (name, width, error) in enumerate(
        ((LIVE, 9, InputRejected), ("hama-casual", 146, UsageError))
    ):
        avatar = write_tiny_avatar(
            tmp_path / str(number), "loudness", 2, random_voice(2), live=(name, random_voice(width))
        )
        with pytest.raises(error, match="wide|hama-causal"):
            Engine.load(avatar, precision="float32").feature_stream()
