"""Makes a benchmark short, for the tests of its command."""

from __future__ import annotations

import pytest


def shorten_bench(monkeypatch: pytest.MonkeyPatch, cold_start: bool = False) -> None:
    """Short sessions, one warm-up call, no matrix product, and no process for a cold start."""
    monkeypatch.setattr("being.bench.benchmark.TRIAL_S", 0.1)
    monkeypatch.setattr("being.bench.fps.WARM_UP_CALLS", 1)
    monkeypatch.setattr("being.bench.fps.matmul_ms", lambda: 1.0)
    if not cold_start:
        monkeypatch.setattr("being.bench.benchmark.cold_start", lambda *_: {"process_s": 1.0})
