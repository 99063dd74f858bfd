"""Each step's version is raised with its code: the code is compared with a saved hash of it."""

from __future__ import annotations

import ast
import json

import pytest

from being.preprocess.steps import STEPS
from tests.support.code_hash import tree_hash
from tests.support.step_code import FILE, definitions, step_hashes

RUN = {step.name: step.run.__name__ for step in STEPS}


@pytest.fixture(scope="module")
def hashes() -> dict[str, dict[str, int | str]]:
    return step_hashes()


@pytest.mark.parametrize("step", RUN)
def test_the_code_of_a_step_is_that_of_its_version(
    step: str, hashes: dict[str, dict[str, int | str]]
) -> None:
    saved = json.loads(FILE.read_text()).get(step)
    assert hashes[step] == saved, (
        f"the code of step '{step}' changed: raise its version in being/preprocess/steps.py, "
        "or leave it when its outputs are the same; "
        "then confirm with: python -m tests.support.step_code"
    )


@pytest.mark.parametrize(
    "step, symbol",
    [
        ("frames", ("being.data.frames", "write_frames")),
        ("frames", ("being.data.source_video", "dataset_frames")),
        ("head pose", ("being.data.cameras", "camera_to_world_json")),
        ("head pose", ("being.preprocess.tracking.head_pose", "track_head")),
        ("masks", ("being.preprocess.segmentation.clip_parsing", "parse_clip")),
        ("landmarks", ("being.preprocess.steps", "FACES_MIN")),
        ("plates", ("being.preprocess.steps", "StepContext.labels")),
    ],
)
def test_the_code_of_a_step_includes_what_it_calls(step: str, symbol: tuple[str, str]) -> None:
    assert symbol in definitions(RUN[step])


def test_media_is_part_of_the_steps_that_decode() -> None:
    for step in ("inspection", "frames", "audio", "speech"):
        modules = {module for module, _ in definitions(RUN[step])}
        assert any(module.startswith("being.media.") for module in modules), step


@pytest.mark.parametrize("step", RUN)
def test_the_code_of_a_step_has_nothing_that_only_shows(step: str) -> None:
    modules = {module for module, _ in definitions(RUN[step])}
    others = ("being.console", "being.cli", "being.demo", "being.train", "being.preprocess.report")
    assert not any(module.startswith(others) for module in modules)
    if step not in ("inspection", "frames", "audio"):
        assert "being.preprocess.inspection.picture" not in modules, "only the record is read"


def test_docstrings_and_comments_do_not_change_the_hash() -> None:
    code = 'def f(x):\n    """Two."""\n    return 2 * x  # twice\n'
    same = "def f(x):\n\n    return (2 * x)\n"
    other = "def f(x):\n    return 3 * x\n"
    first, second, third = (tree_hash(ast.parse(text)) for text in (code, same, other))
    assert first == second != third
