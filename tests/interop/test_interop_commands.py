"""`being data import`, `data export`, `import-checkpoint`: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from family_folder import FRAMES, Landmarker, Truth, truth, write_folder
from needs import load_or_skip
from program import being, refused
from trained_gaussiantalker import fake_encode_frames, fake_engine_encode, write_trained

from being.config import load
from being.face.canonical_mesh import canonical_mesh
from being.media import probe


@pytest.fixture(scope="module")
def known() -> Truth:
    load_or_skip(canonical_mesh)
    return truth()


@pytest.fixture()
def home(tmp_path, monkeypatch, known) -> Path:
    """BEING_HOME and current folder, both empty; landmarks and speech features are fakes."""
    monkeypatch.setenv("BEING_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("being.interop.family.importer.FaceLandmarker", lambda: Landmarker(known))
    monkeypatch.setattr("being.audio.clip_features.encode_frames", fake_encode_frames)
    monkeypatch.setattr("being.inference.engine.Engine.encode", fake_engine_encode)
    monkeypatch.setattr("being.interop.gaussiantalker.audio_adapter.STEPS", 50)
    return tmp_path / "home"


def test_import_export_and_an_imported_checkpoint_that_renders(home, known, tmp_path, monkeypatch):
    """Family directory -> dataset -> export; trained GaussianTalker -> run -> video."""
    source = write_folder(tmp_path / "May", known)
    imported = json.loads(being("data", "import", source, "--consent", "her own", "--json").stdout)
    assert imported["dataset"] == str(home / "data/May") and imported["system"] == "GaussianTalker"
    assert imported["frames"] == FRAMES and imported["found"] and imported["rebuilt"]
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
    assert one.exit_code == 0
    assert load(tmp_path / "one/config.yaml", environment={}).model.n_head == 1
    assert Path(run["run"]).parent == home / "runs/May"
    assert run["iteration"] == 10_000
    assert run["gaussians"] == 50

    # The newest run is the imported one. Short trials, no matrix product, no process.
    monkeypatch.setattr("being.bench.benchmark.TRIAL_S", 0.1)
    monkeypatch.setattr("being.bench.fps.matmul_ms", lambda: 1.0)
    monkeypatch.setattr("being.bench.benchmark.cold_start", lambda *_: {"process_s": 1.0})
    assert json.loads(being("bench-fps", "--frames", "8", "--json").stdout)["ok"]
    video = json.loads(being("render", "--json").stdout)  # of the clip's own audio
    assert video["frames"] == FRAMES and probe(Path(video["video"])).width > 0


def test_import_prints_what_was_found_and_the_next_command(home, known, tmp_path):
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
    assert result.exit_code == 0
    assert "one line of the system's code must change: scene/deformation.py" in result.stdout


def test_refusals(home, known, tmp_path):
    source = write_folder(tmp_path / "May", known)
    refused(4, "nowhere does not exist", "data", "import", "nowhere", watch=(tmp_path,))
    refused(2, "cannot be the name", "data", "import", source, "--name", "a/b", watch=(tmp_path,))
    refused(2, "there is no dataset", "data", "export", watch=(tmp_path,))
    refused(4, "is not a dataset", "data", "export", source, watch=(tmp_path,))
    refused(4, "nowhere does not exist", "import-checkpoint", "nowhere", watch=(tmp_path,))
    refused(
        2,
        "seconds.*at least 0.04",
        "import-checkpoint",
        "nowhere",
        "-o",
        "avatar.seconds=0",
        watch=(tmp_path,),
    )
    refused(4, "holds no trained GaussianTalker", "import-checkpoint", source, watch=(tmp_path,))
    assert being("data", "import", source).exit_code == 0
    refused(1, "exists already", "data", "import", source, watch=(tmp_path,))
    refused(
        4,
        "is already a dataset of being",
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
