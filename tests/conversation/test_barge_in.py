"""Fifty turns of speech in noise at 15 dB: when the page's gate and the server's ear notice them.

Times are those of the sound. What the page, the network and the sound card add is measured in
`tests/api/test_page_conversation.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from needs import load_or_skip
from spoken_turns import RATE, turns_in_noise

from being.conversation.ear import Ear
from being.conversation.voice_activity import SileroActivity

ROOT = Path(__file__).parents[2]
PAGE, GATE = ROOT / "being/api/page", ROOT / "tests/support/gate_times.mjs"
TURNS = 50
# From the gate to silence at the ear: p95 of the interrupt of the page (docs/page.md), ms.
REACTION_MS, BAR_MS = 49, 120


@pytest.mark.slow
def test_fifty_turns_in_noise_are_noticed_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    load_or_skip(SileroActivity)
    sound, begins, ends = turns_in_noise(TURNS, 5.0, 6.0)
    pairs = list(zip(begins, ends, strict=True))

    ear = Ear(SileroActivity(), RATE)
    heard = [
        event.at
        for at in range(0, sound.size, RATE // 50)
        for event in ear.push(sound[at : at + RATE // 50])
        if event.kind == "began"
    ]
    confirmed = [next((at - b for at in heard if b < at < e), None) for b, e in pairs]
    false = [at for at in heard if not any(b < at < e + 0.7 for b, e in pairs)]
    assert None not in confirmed, "a turn was missed"
    assert not false, "noise was taken for speech"
    late = sorted(1000 * value for value in confirmed if value is not None)
    print("server, ms:", figures(late))

    if shutil.which("node") is None:
        pytest.skip("no Node")
    # The module needs another one beside it; a folder of modules says that they are modules.
    for name in ("conversation.js", "resampler.js"):
        shutil.copy(PAGE / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    pcm = tmp_path / "sound.pcm"
    pcm.write_bytes((sound[::2].clip(-1, 1) * 32767).astype("<i2").tobytes())
    command = ["node", str(GATE), str(tmp_path / "conversation.js"), str(pcm)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    opened = json.loads(done.stdout)
    first = [next((at - b for at in opened if b < at < e), None) for b, e in pairs]
    false_ducks = [at for at in opened if not any(b < at < e + 0.1 for b, e in pairs)]
    assert None not in first
    gate = sorted(1000 * value for value in first if value is not None)
    print("page, ms:", figures(gate), "false:", len(false_ducks))
    assert np.percentile(gate, 95) + REACTION_MS <= BAR_MS
    assert len(false_ducks) <= 1


def figures(values: list[float]) -> dict[str, float]:
    return {
        "p50": round(float(np.percentile(values, 50)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "max": round(max(values), 1),
    }
