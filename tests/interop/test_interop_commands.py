"""`being data import`, `data export` and `import-checkpoint`: what they print, where they write,
how they refuse.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from family_folder import FRAMES, Landmarker, Truth, truth, write_folder
from needs import had
from program import being, refused
from trained_reference import heard_by_engine, speech, write_trained

from being.config import load
from being.face.canonical_mesh import canonical_mesh
from being.media import probe


@pytest.fixture(scope="module")
def known() -> Truth:
    had(canonical_mesh)
    return truth()


@pytest.fixture()
def home(tmp_path, monkeypatch, known) -> Path:
    """BEING_HOME and current folder, both empty; landmarks and speech features are stand-ins."""
    monkeypatch.setenv("BEING_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("being.interop.family.importer.FaceLandmarker", lambda: Landmarker(known))
    monkeypatch.setattr("being.audio.feature_windows.encode", speech)
    monkeypatch.setattr("being.inference.engine.Engine.encode", heard_by_engine)
    monkeypatch.setattr("being.interop.gaussiantalker.audio_adapter.STEPS", 50)
    return tmp_path / "home"


def test_in_and_out_and_a_checkpoint_that_speaks(home, known, tmp_path):
    """Their directory -> dataset -> theirs again; their trained model -> a run -> timed, and a
    video of it.
    """
    theirs = write_folder(tmp_path / "May", known)
    made = json.loads(being("data", "import", theirs, "--consent", "her own", "--json").stdout)
    assert made["dataset"] == str(home / "data/May") and made["system"] == "GaussianTalker"
    assert made["frames"] == FRAMES and made["found"] and made["rebuilt"]
    out = json.loads(
        being("data", "export", "--for", "talkinggaussian", "--json").stdout
    )  # of the newest dataset
    assert out["directory"] == str(home / "exports/May-talkinggaussian") and out["change"] == ""
    assert Path(out["directory"], "transforms_val.json").is_file()
    write_trained(tmp_path / "trained")
    run = json.loads(
        being(
            "import-checkpoint",
            tmp_path / "trained",
            "--data",
            home / "data/May",
            "--config",
            "64_dim_1_transformer",
            "-o",
            "avatar.seconds=0.2",
            "--json",
        ).stdout
    )
    assert len(list(Path(run["run"], "avatar/plates").iterdir())) == 5
    one = being(
        "import-checkpoint",
        tmp_path / "trained",
        "--data",
        home / "data/May",
        "-o",
        "model.n_head=1",
        "--out",
        tmp_path / "one",
        "--json",
    )
    assert (
        one.exit_code == 0 and load(tmp_path / "one/config.yaml", environment={}).model.n_head == 1
    )
    assert (
        Path(run["run"]).parent == home / "runs/May"
        and run["iteration"] == 10_000
        and run["gaussians"] == 50
    )
    assert json.loads(being("bench-fps", "--frames", "8", "--json").stdout)["ok"]
    video = json.loads(being("render", "--json").stdout)  # of the clip's own sound
    assert video["frames"] == FRAMES and probe(Path(video["video"])).width > 0


def test_people_are_told_what_was_found_and_what_to_do_next(home, known, tmp_path):
    result = being(
        "data",
        "import",
        write_folder(tmp_path / "May", known, widths={"aud_eo.npy": 44}),
        "--out",
        "d",
    )
    assert result.exit_code == 0
    for words in (
        "found    speech features 'eo', 44 wide",
        "rebuilt  face mesh",
        "next: being train",
    ):
        assert words in result.stdout
    result = being("data", "export", "d", "--full-width", "--out", "e")
    assert (
        result.exit_code == 0
        and "one line of their code to change: scene/deformation.py" in result.stdout
    )


def test_refusals(home, known, tmp_path):
    theirs = write_folder(tmp_path / "May", known)
    refused(4, "nowhere is not a directory", "data", "import", "nowhere", watch=(tmp_path,))
    refused(2, "cannot be the name", "data", "import", theirs, "--name", "a/b", watch=(tmp_path,))
    refused(2, "there is no dataset", "data", "export", watch=(tmp_path,))
    refused(4, "is not a dataset", "data", "export", theirs, watch=(tmp_path,))
    refused(4, "nowhere is not a directory", "import-checkpoint", "nowhere", watch=(tmp_path,))
    refused(
        2,
        "seconds.*at least 0.04",
        "import-checkpoint",
        "nowhere",
        "-o",
        "avatar.seconds=0",
        watch=(tmp_path,),
    )
    refused(4, "holds no trained GaussianTalker", "import-checkpoint", theirs, watch=(tmp_path,))
    assert being("data", "import", theirs).exit_code == 0
    refused(1, "exists already", "data", "import", theirs, watch=(tmp_path,))
    refused(
        4,
        "is a dataset of ours already",
        "data",
        "import",
        home / "data/May",
        "--out",
        "x",
        watch=(tmp_path,),
    )
    refused(2, "no export for 'nerf'", "data", "export", "--for", "nerf", watch=(tmp_path,))
    write_trained(tmp_path / "trained", width=31)
    refused(
        4,
        "31-wide",
        "import-checkpoint",
        tmp_path / "trained",
        "--data",
        home / "data/May",
        watch=(tmp_path,),
    )
