"""The figures of bench-live: lateness of pictures against the sound that was pushed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from being.api.packets import Flag, Kind, Packet
from being.bench.live import _write_untrained
from being.bench.live_load import Lateness, audible_from
from being.inference.engine import Engine
from being.session.engine_facts import avatar_facts
from being.session.timeline import FRAME, RATE


def packet(kind: Kind, at: int, speech: bool = True) -> Packet:
    return Packet(kind, Flag.SPEECH if speech else Flag.NONE, RATE, 0, at, FRAME)


def test_a_picture_is_late_from_when_its_look_ahead_was_pushed() -> None:
    """Pushed in 20 ms chunks, look-ahead 0.2 s: the picture of sample p is due p / RATE + 0.2."""
    lateness = Lateness(0.2)
    for k in range(200):
        lateness.pushed((k + 1) * 480, (k + 1) * 0.02)
    # The utterance begins at 5 s of the timeline, and pauses for two frames after ten.
    for k in range(10):
        lateness.sound(packet(Kind.PCM, 120_000 + k * FRAME))
        lateness.picture(packet(Kind.H264, 120_000 + k * FRAME), k * 0.04 + 0.2 + 0.015)
    lateness.picture(packet(Kind.H264, 120_000 + 10 * FRAME, speech=False), 9.0)
    for k in range(10, 20):
        lateness.sound(packet(Kind.PCM, 120_000 + (k + 2) * FRAME))
        lateness.picture(packet(Kind.H264, 120_000 + (k + 2) * FRAME), k * 0.04 + 0.2 + 0.03)
    values = [value for _, value in lateness.late]
    assert np.allclose(values, [0.015] * 10 + [0.03] * 10)


def test_the_first_audible_sample_is_over_minus_40_dbfs() -> None:
    samples = np.zeros(FRAME, np.int16)
    samples[100], samples[700] = 300, 400
    assert audible_from(packet(Kind.PCM, 9_600), samples.tobytes()) == 9_600 + 700
    assert audible_from(packet(Kind.PCM, 9_600), samples[:500].tobytes()) is None


def test_the_untrained_avatar_of_bench_live_can_be_served(tmp_path: Path) -> None:
    """It reads the mouth code, as trained ones do, by the encoder of live sessions."""
    bundle = _write_untrained(tmp_path / "untrained", 40)
    facts = avatar_facts(Engine.load(bundle, precision="float32"), "bench")
    assert facts.encoder == "hama-causal" and facts.width == 16
    stream = facts.stream()
    assert stream.push(np.zeros(16_000, np.float32)).shape[1:] == (16, 16)
