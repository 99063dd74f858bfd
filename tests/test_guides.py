"""Every command of the guides: run here, run by another test, or named with the reason why not."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from program import being

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# The beginnings of lines that are commands, in blocks without a language. Other lines are drawings.
PROGRAMS = ("being", "make", "pip", "python", "docker", "scp", "scripts/", "export", ". ")
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

# Commands that are run here as they are written, in a folder with the dataset data/me and a run.
RUN = (
    "being data pack data/me",
    "being data unpack me.being",
    'being tts-video --text "Hello"',
    "being train data/me --until-plateau",
)
TINY = {
    "BEING_TRAIN__COARSE__STEPS": "2",
    "BEING_TRAIN__FINE__STEPS": "2",
    "BEING_TRAIN__FINE__BATCH": "2",
    "BEING_TRAIN__LIPS__WARMUP_STEPS": "0",
    "BEING_TRAIN__LIPS__CLOSURE_STEPS": "0",
    "BEING_TRAIN__PREVIEW_SECONDS": "0",
    "BEING_TRAIN__LOSS__FEATURE": "0",
    "BEING_DATA__SIZE": "48",
    "BEING_DATA__INITIAL_GAUSSIANS": "200",
    "BEING_MODEL__PLANE_RESOLUTION": "16",
    "BEING_MODEL__MOUTH": "audio",  # the scene is too short to learn the mouth code
}

# Beginning of a command -> the test that runs this command of the program with these options, or
# the reason why none does. The longest beginning that fits counts.
LONG = "not run: it sets up the environment in which the tests run, or is a run of all tests"
NETWORK = "not run: it installs packages from an index"
CONTAINER = "not run: no container daemon; tests/docker and hadolint read the files"
SHELL = "not run: it changes the shell alone"
MINUTES = "not run: it trains for minutes"
ENDPOINT = "not run: it needs a server with that address"
README = "tests/test_readme.py::test_the_commands_of_the_readme_run_as_they_are_written"
SERVING = "tests/api/test_processes.py::"
COVERED = {
    "make demo": "tests/cli/test_outputs.py::test_a_demo_is_not_made_in_a_folder_of_other_files",
    "make test": LONG,
    "make setup": LONG,
    "make lint": LONG,
    "make format": LONG,
    "make docs": "tests/site/test_site.py::test_all_pages_of_docs_and_all_generated_ones_are_there",
    "make dist": "tests/packaging/test_distributions.py::"
    "test_wheel_and_source_distribution_hold_all_files",
    ". .venv/bin/activate": SHELL,
    "export ": SHELL,
    "pip install": NETWORK,
    "docker ": CONTAINER,
    "scp ": "not run: it needs another machine",
    "scripts/pod.sh ~/me.being --dry-run": "tests/scripts/test_pod.py::"
    "test_a_dry_run_tells_every_step_and_does_none",
    "scripts/pod.sh ~/me.being -- --until-plateau": "tests/scripts/test_pod.py::"
    "test_run_again_it_goes_on_without_installing_or_unpacking_anew",
    "being preprocess me.mp4 --check": "tests/preprocess/test_pipeline.py::"
    "test_check_reports_the_findings_that_the_manifest_records",
    "being preprocess me.mp4 --consent": README,
    "being train data/me --config quick": README,
    "being train --stage fine": "tests/cli/test_commands.py::"
    "test_train_stage_fine_continues_the_most_recent_run",
    "being train data/me -o train.fine.steps=4000": MINUTES,
    "being train data/me -o data.encoder": "not run: it needs a model of the hub",
    "being train": "tests/train/test_resume.py::test_a_killed_training_ends_with_the_same_weights",
    "being data features data/me --encoder": "tests/audio/test_encoders.py::"
    "test_the_command_adds_features_and_refuses_what_is_wrong_before_work",
    "being render --audio speech.wav --expression": "tests/inference/animation/"
    "test_face_controls.py::test_both_commands_take_them",
    "being render --audio speech.wav --curves": "tests/inference/animation/"
    "test_face_controls.py::test_both_commands_take_them",
    'being tts-video --text "Good news" --mood happy': "tests/inference/animation/"
    "test_face_controls.py::test_both_commands_take_them",
    "being verify speech.mp4 --trust roots.pem": "tests/provenance/test_verification.py::"
    "test_the_list_of_roots_decides_whether_a_signer_is_trusted",
    "being view --window": "tests/view/test_view.py::test_no_window_without_open3d_or_a_display",
    "being view data/me": "tests/view/test_view.py::test_a_dataset_shows_mesh_frames_and_path",
    "being view": "tests/view/test_view.py::test_the_newest_run_then_the_newest_dataset",
    "being export RUN --surround --source me.mp4": "tests/interop/test_surround.py::"
    "test_parts_are_added_from_the_given_video",
    "being doctor": "tests/cli/test_machine_commands.py::"
    "test_doctor_ends_with_3_where_a_check_failed",
    "being doctor runs/me/RUN": "tests/doctor/test_doctor.py::test_a_sound_avatar",
    "being refine runs/me/RUN": "tests/refine/test_refine_command.py::"
    "test_an_avatar_is_refined_while_it_is_rendered",
    "being refine speech.mp4": "tests/refine/test_refine_command.py::test_strengths_are_compared",
    "being serve --cert": f"{SERVING}test_https_serves_as_soon_as_start_returns",
    "being serve --host 0.0.0.0 --self-signed": "tests/cli/test_live_commands.py::"
    "test_a_self_signed_pair_is_made_once_and_its_key_is_private",
    "being serve --token": "tests/cli/test_live_commands.py::test_who_may_connect",
    "being serve --llm": "tests/cli/test_talk_options.py::"
    "test_addresses_and_prompts_are_checked_at_the_start",
    "being serve --speech": "tests/cli/test_talk_options.py::"
    "test_a_speech_endpoint_is_told_to_the_voices",
    "being serve --background": "tests/api/test_looks.py::"
    "test_a_background_stands_behind_the_avatar",
    "being serve": f"{SERVING}"
    "test_connections_spread_evenly_over_the_fronts_also_after_some_have_left",
    'being tts-video --text "Hello" --voice speech:alloy': ENDPOINT,
    "being eval --pred other.mp4 --truth clip.mp4 --syncnet": "tests/eval/test_syncnet.py::"
    "test_eval_has_sync_c_and_sync_d_in_its_figures_report_and_gates",
    "being eval --syncnet": "tests/eval/test_syncnet.py::"
    "test_eval_has_sync_c_and_sync_d_in_its_figures_report_and_gates",
    "being farm people.yaml": "tests/deploy/test_farm_on_ray.py::"
    "test_five_avatars_and_one_honest_line",
    "being farm people.yaml --address": "not run: it needs a cluster",
    "being export --web": "tests/interop/test_web_export.py::test_the_command_prints_the_sizes",
    "python -m http.server": "not run: it serves a folder until it is ended",
    "being bench-live": "tests/bench/test_live_load.py::"
    "test_the_untrained_avatar_of_bench_live_can_be_served",
}


def commands(page: Path) -> list[str]:
    """The command lines of a page's blocks, without their comments and outer spaces."""
    lines = [
        line
        for language, block in BLOCK.findall(page.read_text("utf-8"))
        if not language
        for line in block.splitlines()
    ]
    return [without_comment(line) for line in lines if line.strip().startswith(PROGRAMS)]


def without_comment(line: str) -> str:
    """A command line without its comment."""
    return re.sub(r"\s+#.*$", "", line).strip()


def answer_for(command: str) -> str:
    """The test that runs a command, or the reason why none does; "" where neither is known."""
    if command in RUN:
        return f"tests/test_guides.py::{test_the_commands_run_as_they_are_written.__name__}"
    known = [beginning for beginning in COVERED if command.startswith(beginning)]
    return COVERED[max(known, key=len)] if known else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_or_has_a_reason(page: Path) -> None:
    assert not [command for command in commands(page) if not answer_for(command)]


def test_the_tests_that_are_named_are_there_and_each_entry_is_used() -> None:
    shown = {command for page in PAGES for command in commands(page)}
    assert len(shown) > 40
    for answer in {*map(answer_for, shown)}:
        if not answer.startswith("not run: "):
            file, _, name = answer.partition("::")
            assert f"def {name}(" in (ROOT / file).read_text("utf-8"), answer
    assert set(RUN) - shown == {"being data unpack me.being"}, "it is shown inside docker run"
    used = {answer_for(command) for command in shown}
    assert not [beginning for beginning, answer in COVERED.items() if answer not in used]


def test_the_commands_run_as_they_are_written(
    shared_home: Path, speech_encoder: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hibari")
    shutil.copytree(shared_home / "data/scene", tmp_path / "data/me")
    shutil.copytree(shared_home / "runs/scene", tmp_path / "runs/me")
    for name, value in TINY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("BEING_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    for command in RUN:
        result = being(*shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.stderr[-2000:], result.exception)
    assert (tmp_path / "me.being").is_file() and (tmp_path / "data/scene/dataset.json").is_file()
    assert len(list(tmp_path.glob("runs/*/*/avatar/manifest.json"))) == 2
    assert len(list(tmp_path.glob("runs/*/*/**/hello*.mp4"))) == 1, list(tmp_path.rglob("*.mp4"))
