"""A few fuzzed inputs of every parser; `python -m tests.support.fuzzing` reads many more."""

from __future__ import annotations

from pathlib import Path

import pytest
from needs import load_or_skip

from tests.support.fuzzing import harness
from tests.support.fuzzing.targets import TARGETS

INPUTS, SEED = 20, 15


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_are_refused_or_read(name: str, tmp_path: Path) -> None:
    if name == "family":
        from being.face.canonical_mesh import canonical_mesh

        load_or_skip(canonical_mesh)
    if name == "parser_network":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    count = harness.Count()
    for report in harness.work(name, SEED, 0, INPUTS, tmp_path.resolve()):
        harness.add_report(count, report)
    assert count.inputs == INPUTS
    assert not count.failures, "\n".join(map(ascii, count.failures))
