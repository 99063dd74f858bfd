"""Import of family directories: exact cameras, the right files for each frame, faults refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from family_folder import (
    FRAMES,
    SIZE,
    Landmarker,
    Truth,
    save,
    truth,
    write_folder,
    write_transforms,
)
from needs import load_or_skip

from being.data.cameras import camera_to_world_json, world_to_camera
from being.data.dataset import Dataset
from being.data.frames import read_image
from being.errors import BeingError, InputRejected
from being.face.canonical_mesh import canonical_mesh
from being.face.topology import IBUG_68
from being.interop.family import import_family
from being.interop.family.layout import read_landmarks
from being.media import write_wav


@pytest.fixture(scope="module")
def known() -> Truth:
    load_or_skip(canonical_mesh)
    return truth()


@pytest.fixture(scope="module")
def plain(tmp_path_factory, known) -> Path:
    """A GaussianTalker directory, written once; tests that change files do so in a copy."""
    return write_folder(tmp_path_factory.mktemp("family") / "plain", known)


@pytest.fixture()
def folder(plain, tmp_path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "source"))


@pytest.fixture(autouse=True)
def quick_speech(monkeypatch):
    """Fake speech features: the encoder has its own tests."""
    monkeypatch.setattr(
        "being.audio.clip_features.encode_frames",
        lambda samples, frames, encoder="hama": np.zeros((frames, 16, 4), np.float32),
    )


def run_import(folder: Path, known: Truth, **settings) -> tuple[Dataset, object]:
    report = import_family(
        folder, folder.parent / "imported", landmarker=Landmarker(known), **settings
    )
    return Dataset.open(report.path), report


def test_cameras_features_action_units_and_images_are_kept(folder, known):
    dataset, report = run_import(folder, known, consent="my own face")
    assert dataset.frames == FRAMES and dataset.width == dataset.height == SIZE
    assert np.array_equal(dataset.world_to_camera, world_to_camera(known.euler, known.trans))
    assert dataset.focal == 300
    assert np.array_equal(dataset.features("ds"), np.load(folder / "aud_ds.npy"))
    assert np.allclose(dataset.blink[:, 0], np.arange(FRAMES) % 3 / 2)
    for i in (0, 7, FRAMES - 1):
        for name in (f"ori_imgs/{i}.jpg", f"parsing/{i}.png", f"torso_imgs/{i}.png"):
            assert (dataset.path / name).samefile(folder / name)
        assert np.allclose(
            read_landmarks(dataset.path / f"ori_imgs/{i}.lms"),
            read_landmarks(folder / f"ori_imgs/{i}.lms"),
        )
    track = torch.load(dataset.path / "track_params.pt", weights_only=True)
    assert track["vertices"].shape == (1, 468, 3) and track["exp"].shape == (FRAMES, 79)
    assert np.allclose(track["vertices"][0], known.vertices.mean(0), atol=1e-5)
    assert report.system == "GaussianTalker"
    assert dataset.manifest["consent"]["statement"] == "my own face"
    assert dataset.manifest["source"]["found"] == report.found


def test_mesh_projects_onto_the_landmarks(folder, known):
    dataset, _ = run_import(folder, known)
    vertices = dataset.mesh[0]
    distance = np.linalg.norm(vertices - known.vertices, axis=-1)
    assert np.median(distance) < 0.01 and distance.max() < 0.1
    camera = (
        np.einsum("fij,fvj->fvi", dataset.world_to_camera[:, :3, :3], vertices)
        + dataset.world_to_camera[:, None, :3, 3]
    )
    pixels = camera[..., :2] / camera[..., 2:] * dataset.focal + (SIZE - 1) / 2
    assert np.abs(pixels - known.points[:, :468, :2]).max() < 0.5


@pytest.mark.shared
def test_real_transforms_repeat_the_tracker_s_cameras(shared_dir):
    track = torch.load(shared_dir / "family_sample/track_params.pt", weights_only=True)
    part = json.loads((shared_dir / "family_sample/transforms_val.json").read_text())
    matrices = camera_to_world_json(track["euler"].numpy(), track["trans"].numpy())
    expected = np.array([frame["transform_matrix"] for frame in part["frames"]])
    assert np.abs(matrices[[frame["img_id"] for frame in part["frames"]]] - expected).max() < 1e-6
    assert (
        (part["focal_len"], 2 * part["cx"], 2 * part["cy"])
        == (1200, 450, 450)
        == (float(track["focal"]), 450, 450)
    )


@pytest.mark.shared
def test_real_tracker_s_cameras_are_kept(shared_dir, tmp_path, known):
    """The tracker's last 60 frames with painted images: cameras exactly as in its file, focal
    1200 at 450 px.
    """
    from being.interop.family.alignment import align
    from being.interop.family.layout import read_folder

    sample, folder = shared_dir / "family_sample", tmp_path / "sample"
    (folder / "ori_imgs").mkdir(parents=True)
    for name in ("bc.jpg", "transforms_val.json", "track_params.pt"):
        shutil.copy(sample / name, folder / name)
    for i in range(7272, 8000):
        save(folder / f"ori_imgs/{i}.jpg", np.zeros((450, 450, 3), np.uint8))
    (folder / "aud.wav").write_bytes(b"")
    alignment = align(read_folder(folder))
    track = torch.load(sample / "track_params.pt", weights_only=True)
    assert alignment.focal == 1200
    assert alignment.has_camera.all()
    assert len(alignment.image_numbers) == 728
    assert np.array_equal(alignment.euler, track["euler"].numpy()[7272:])
    assert np.array_equal(alignment.trans, track["trans"].numpy()[7272:])
    assert alignment.audio_rows[0] == 7272


# --- differences between the systems


@pytest.mark.parametrize(
    "widths", [{"aud.npy": 29}, {"aud_eo.npy": 44}, {"aud.npy": 44}, {"aud_ds.npy": 12}]
)
def test_speech_features_of_any_width_are_kept_under_their_name(tmp_path, known, widths):
    folder = write_folder(tmp_path / "source", known, widths=widths, vertices=False)
    dataset, _ = run_import(folder, known)
    ((file, width),) = widths.items()
    name = {"aud.npy": {29: "ds", 44: "eo"}.get(width), "aud_eo.npy": "eo", "aud_ds.npy": "ds"}[
        file
    ]
    assert np.array_equal(dataset.features(name), np.load(folder / file))
    assert dataset.manifest["features"]["hama"]["width"] == 4


def test_hubert_windows_are_kept_and_reported_as_not_trained_on(folder, known):
    np.save(folder / "aud_hu.npy", np.zeros((FRAMES, 2, 1024), np.float32))
    dataset, report = run_import(folder, known)
    assert np.load(dataset.path / "aud_hu.npy").shape == (FRAMES, 2, 1024)
    assert "hu" not in dataset.manifest["features"]
    assert any("aud_hu.npy" in line for line in report.missing)


def test_column_names_without_blanks(tmp_path, known):
    dataset, _ = run_import(write_folder(tmp_path / "source", known, blank=""), known)
    assert np.allclose(dataset.blink[:, 0], np.arange(FRAMES) % 3 / 2)


def test_talking_gaussian_s_masks_are_converted_and_kept(tmp_path, known):
    folder = write_folder(tmp_path / "source", known, rich=True)
    (folder / "teeth_mask").mkdir()
    for i in range(FRAMES):
        np.save(folder / f"teeth_mask/{i}.npy", np.zeros((SIZE, SIZE), bool))
    dataset, report = run_import(folder, known)
    source = read_image(folder / "parsing/3.png")
    converted = read_image(dataset.path / "parsing/3.png")
    head = [(source == colour).all(-1) for colour in ((0, 0, 255), (0, 0, 0), (100, 100, 100))]
    assert all(part.any() for part in head)
    assert np.array_equal((converted == (0, 0, 255)).all(-1), head[0] | head[1] | head[2])
    assert (dataset.path / "parsing_hair/3.png").samefile(folder / "parsing/3.png")
    assert not read_image(dataset.path / "teeth_mask/3.png").any()
    assert report.system == "TalkingGaussian"


def test_missing_files_are_computed_from_the_images(folder, known, monkeypatch):
    shutil.rmtree(folder / "torso_imgs")
    for name in ("bc.jpg", "au.csv", "aud_ds.npy"):
        (folder / name).unlink()
    for file in (folder / "ori_imgs").glob("*.lms"):
        file.unlink()
    track = torch.load(folder / "track_params.pt", weights_only=True)
    del track["vertices"]
    torch.save(track, folder / "track_params.pt")
    dataset, report = run_import(folder, known)
    assert read_image(dataset.path / "torso_imgs/0.png").shape == (SIZE, SIZE, 4)
    assert read_image(dataset.path / "bc.jpg").shape == (SIZE, SIZE, 3)
    assert read_landmarks(dataset.path / "ori_imgs/5.lms").shape == (68, 2)
    assert dataset.blink.shape == (FRAMES, 1)
    rebuilt = " ".join(report.rebuilt)
    for word in ("torso", "background", "68 landmarks", "blink", "vertices", "face mesh", "hama"):
        assert word in rebuilt
    assert np.load(dataset.path / "mesh.npz")["vertices"].shape == (FRAMES, 468, 3)


def test_png_images_and_zero_padded_names(tmp_path, known):
    folder = write_folder(tmp_path / "source", known, suffix=".png")
    for file in sorted((folder / "ori_imgs").iterdir()):
        file.rename(file.with_name(f"{int(file.stem):06d}{file.suffix}"))
    dataset, report = run_import(folder, known)
    assert "images written as JPEG" in report.rebuilt
    difference = read_image(dataset.path / "ori_imgs/9.jpg").astype(int) - read_image(
        folder / "ori_imgs/000009.png"
    )
    assert np.abs(difference).mean() < 3


def test_tracker_file_in_the_old_torch_format(folder, known):
    track = torch.load(folder / "track_params.pt", weights_only=True)
    torch.save(track, folder / "track_params.pt", _use_new_zipfile_serialization=False)
    dataset, _ = run_import(folder, known)
    assert np.array_equal(dataset.world_to_camera, world_to_camera(known.euler, known.trans))


def test_cameras_from_the_transforms_alone(folder, known):
    (folder / "track_params.pt").unlink()
    dataset, _ = run_import(folder, known)
    assert np.abs(dataset.world_to_camera - world_to_camera(known.euler, known.trans)).max() < 1e-5


def test_sync_talk_s_adjusted_cameras_are_in_tenths(folder, known):
    adjusted = known.trans + np.float32(0.2)
    torch.save(
        {
            "euler": torch.from_numpy(known.euler),
            "trans": torch.from_numpy(adjusted / 10),
            "focal": torch.tensor([300.0]),
        },
        folder / "bundle_adjustment.pt",
    )
    write_transforms(folder, known, trans=adjusted)
    dataset, report = run_import(folder, known)
    assert np.abs(dataset.world_to_camera - world_to_camera(known.euler, adjusted)).max() < 1e-5
    assert report.system == "SyncTalk" and (dataset.path / "bundle_adjustment.pt").is_file()


def test_transforms_that_contradict_the_tracker_are_used_and_reported(folder, known):
    write_transforms(folder, known, trans=known.trans + np.float32(0.2))
    dataset, report = run_import(folder, known)
    assert (
        np.abs(dataset.world_to_camera - world_to_camera(known.euler, known.trans + 0.2)).max()
        < 1e-5
    )
    assert any("not those of track_params.pt" in line for line in report.found)


# --- shifted numbers


def expect_truth(dataset: Dataset, known: Truth, first: int = 0) -> None:
    """Every image has its own camera, landmarks, features and label."""
    for i in range(dataset.frames):
        number = round(float(read_image(dataset.path / f"ori_imgs/{i}.jpg")[:4, :4].mean()) / 5)
        assert number == i + first
    chosen = slice(first, first + dataset.frames)
    assert (
        np.abs(dataset.world_to_camera - world_to_camera(known.euler, known.trans)[chosen]).max()
        < 1e-5
    )
    assert np.allclose(dataset.blink[:, 0], np.arange(FRAMES)[chosen] % 3 / 2)


def test_images_that_count_from_one(tmp_path, known):
    folder = write_folder(tmp_path / "source", known, first=1)
    dataset, report = run_import(folder, known)
    expect_truth(dataset, known)
    assert dataset.frames == FRAMES
    assert np.array_equal(dataset.features("ds"), np.load(folder / "aud_ds.npy"))
    assert any("count from 1" in line for line in report.found)


def test_img_id_that_counts_from_one(folder, known):
    write_transforms(folder, known, ids=1)
    dataset, report = run_import(folder, known)
    expect_truth(dataset, known)
    assert dataset.frames == FRAMES and any("img_id" in line for line in report.found)
    assert np.array_equal(dataset.features("ds"), np.load(folder / "aud_ds.npy"))


def test_aud_id_with_a_lag_is_kept(folder, known):
    write_transforms(folder, known, audio=2)
    dataset, report = run_import(folder, known)
    source = np.load(folder / "aud_ds.npy")
    assert np.array_equal(dataset.features("ds")[:-2], source[2:])
    assert any("aud_id" in line for line in report.found)


def test_tracker_rows_skip_the_frames_without_landmarks(folder, known):
    lost = (10, 11, 25)
    kept = [i for i in range(FRAMES) if i not in lost]
    track = torch.load(folder / "track_params.pt", weights_only=True)
    torch.save(
        {name: value[kept] if len(value) == FRAMES else value for name, value in track.items()},
        folder / "track_params.pt",
    )
    for i in lost:
        (folder / f"ori_imgs/{i}.lms").unlink()
    for part in ("train", "val"):
        (folder / f"transforms_{part}.json").unlink()
    dataset, report = run_import(folder, known)
    assert dataset.missing == list(lost)
    assert any("leaves out the 3 frames" in line for line in report.found)
    expected = world_to_camera(known.euler, known.trans)
    assert np.array_equal(dataset.world_to_camera[kept], expected[kept])
    listed = json.loads((dataset.path / "transforms_train.json").read_text())["frames"]
    assert not set(lost) & {frame["img_id"] for frame in listed}


@pytest.mark.parametrize("shift", [-2, 3])
def test_shifted_tracker_rows_are_found_from_the_motion_of_the_face(folder, known, shift):
    track = torch.load(folder / "track_params.pt", weights_only=True)
    rolled = {
        name: torch.roll(value, shift, 0) if len(value) == FRAMES else value
        for name, value in track.items()
    }
    torch.save(rolled, folder / "track_params.pt")
    for part in ("train", "val"):
        (folder / f"transforms_{part}.json").unlink()
    dataset, report = run_import(folder, known)
    assert dataset.frames == FRAMES - abs(shift)
    expect_truth(dataset, known, first=max(0, -shift))
    assert any(f"{shift:+d} frames against the images" in line for line in report.found)


def test_shifted_landmark_files_are_corrected(folder, known):
    for i in range(FRAMES - 1, -1, -1):
        (folder / f"ori_imgs/{i}.lms").rename(folder / f"ori_imgs/{i + 2}.lms")
    dataset, report = run_import(folder, known)
    assert any(".lms are +2 frames" in line for line in report.found)
    assert np.allclose(
        read_landmarks(dataset.path / "ori_imgs/9.lms"), read_landmarks(folder / "ori_imgs/11.lms")
    )


def test_missing_image_splits_the_clip_and_is_reported(folder, known):
    (folder / "ori_imgs/5.jpg").unlink()
    dataset, report = run_import(folder, known)
    expect_truth(dataset, known, first=6)
    assert np.array_equal(dataset.features("ds"), np.load(folder / "aud_ds.npy")[6:])
    assert any("first after 4" in line for line in report.found)


def test_wide_images_are_cropped_to_the_square_round_the_principal_point(folder, known):
    for name in ("ori_imgs", "parsing", "torso_imgs", "."):
        for file in [*(folder / name).glob("*.jpg"), *(folder / name).glob("*.png")]:
            image = read_image(file)
            save(file, np.pad(image, ((0, 0), (20, 20), (0, 0)), mode="edge"))
    for i in range(FRAMES):
        np.savetxt(
            folder / f"ori_imgs/{i}.lms",
            read_landmarks(folder / f"ori_imgs/{i}.lms") + [20, 0],
            "%f",
        )
    for part in ("train", "val"):
        value = json.loads((folder / f"transforms_{part}.json").read_text())
        (folder / f"transforms_{part}.json").write_text(json.dumps({**value, "cx": SIZE / 2 + 20}))
    dataset, report = run_import(folder, known)
    expect_truth(dataset, known)
    assert dataset.width == SIZE and any("middle 128 px square" in line for line in report.rebuilt)
    assert np.allclose(
        read_landmarks(dataset.path / "ori_imgs/2.lms"), known.points[2, IBUG_68, :2], atol=1e-3
    )


# --- faults


class Malice:
    """A pickle that would run code."""

    def __reduce__(self):
        return print, ("code was run",)


def edit_track(folder: Path, **changes) -> None:
    track = torch.load(folder / "track_params.pt", weights_only=True)
    torch.save({**track, **changes}, folder / "track_params.pt")


def edit_part(folder: Path, change) -> None:
    value = json.loads((folder / "transforms_train.json").read_text())
    change(value)
    (folder / "transforms_train.json").write_text(json.dumps(value))


def no_cameras(folder):
    for name in ("track_params.pt", "transforms_train.json", "transforms_val.json"):
        (folder / name).unlink()


def short_clip(folder):
    edit_track(folder, euler=torch.zeros(10, 3), trans=torch.full((10, 3), -7.0))
    for part in ("train", "val"):
        (folder / f"transforms_{part}.json").unlink()


def behind(folder):
    edit_track(folder, trans=torch.full((FRAMES, 3), 7.0))


def lagging(value):
    for k, frame in enumerate(value["frames"]):
        frame["aud_id"] += k


def far_landmarks(folder):
    for i in range(FRAMES):
        np.savetxt(folder / f"ori_imgs/{i}.lms", np.full((68, 2), 3.0), "%f")


FAULTS = {
    "no images": (lambda f: shutil.rmtree(f / "ori_imgs"), "has no images"),
    "no cameras": (no_cameras, "has no cameras"),
    "code in the pickle": (
        lambda f: (f / "track_params.pt").write_bytes(pickle.dumps(Malice())),
        "track_params.pt cannot be read as plain tensors",
    ),
    "a list in the pickle": (lambda f: torch.save([1, 2], f / "track_params.pt"), "holds a list"),
    "no euler": (
        lambda f: torch.save({"trans": torch.zeros(3, 3)}, f / "track_params.pt"),
        "no tensor 'euler'",
    ),
    "euler of another shape": (
        lambda f: edit_track(f, euler=torch.zeros(FRAMES, 4)),
        "euler is (44, 4)",
    ),
    "trans of another length": (
        lambda f: edit_track(f, trans=torch.zeros(9, 3)),
        "trans is (9, 3)",
    ),
    "a camera that is not finite": (
        lambda f: edit_track(f, euler=torch.full((FRAMES, 3), torch.nan)),
        "all finite",
    ),
    "a focal length of zero": (lambda f: edit_track(f, focal=torch.zeros(1)), "focal is 0.0"),
    "a head behind the camera": (behind, "behind the camera"),
    "a euler of no axis": (lambda f: edit_track(f, euler=torch.tensor(3.0)), "euler is ()"),
    "a focal length of nothing": (
        lambda f: edit_track(f, focal=torch.zeros(0)),
        "no tensor 'focal'",
    ),
    "a sparse euler": (
        lambda f: edit_track(f, euler=torch.zeros(FRAMES, 3).to_sparse()),
        "holds a sparse",
    ),
    "vertices of another shape": (
        lambda f: edit_track(f, vertices=torch.zeros(4, 5)),
        "vertices is (4, 5)",
    ),
    "too few cameras": (short_clip, "track_params.pt has 10 frames"),
    "transforms that are no JSON": (
        lambda f: (f / "transforms_val.json").write_text("{"),
        "transforms_val.json",
    ),
    "transforms without a focal length": (
        lambda f: edit_part(f, lambda v: v.pop("focal_len")),
        "focal_len",
    ),
    "transforms with a skewed matrix": (
        lambda f: edit_part(
            f, lambda v: v["frames"][0].update(transform_matrix=(2 * np.eye(4)).tolist())
        ),
        "is no camera",
    ),
    "transforms for another size": (
        lambda f: [
            edit_part(f, lambda v: v.update(cx=300.0)),
            (f / "transforms_val.json").unlink(),
        ],
        "600 x 128",
    ),
    "split files that disagree": (
        lambda f: edit_part(f, lambda v: v.update(focal_len=900.0)),
        "disagree",
    ),
    "a frame number beyond all": (
        lambda f: edit_part(f, lambda v: v["frames"][0].update(img_id=10**30)),
        "img_id 1000000",
    ),
    "transforms without end": (
        lambda f: (f / "transforms_val.json").write_text("[" * 100_000),
        "transforms_val.json",
    ),
    "a frame twice": (
        lambda f: edit_part(f, lambda v: v["frames"].append(v["frames"][0])),
        "names a frame twice",
    ),
    "frames without images": (
        lambda f: [(f / f"ori_imgs/{i}.jpg").unlink() for i in range(20, 30)],
        "without an image",
    ),
    "audio rows without a rule": (lambda f: edit_part(f, lagging), "aud_id does not follow"),
    "images of two sizes": (
        lambda f: save(f / "ori_imgs/7.jpg", np.zeros((64, 64, 3), np.uint8)),
        "7.jpg is 64 x 64",
    ),
    "a broken image": (
        lambda f: (f / "ori_imgs/7.jpg").write_bytes(b"no image"),
        "7.jpg cannot be read",
    ),
    "two images with one number": (
        lambda f: shutil.copy(f / "ori_imgs/7.jpg", f / "ori_imgs/07.jpg"),
        "the same number",
    ),
    "a background of another size": (
        lambda f: save(f / "bc.jpg", np.zeros((9, 9, 3), np.uint8)),
        "bc.jpg is 9 x 9",
    ),
    "a mask missing": (
        lambda f: (f / "parsing/30.png").unlink(),
        "lacks 1 files, the first is 30.png",
    ),
    "masks without a head": (
        lambda f: [
            save(f / f"parsing/{i}.png", np.full((SIZE, SIZE, 3), 255, np.uint8))
            for i in range(FRAMES)
        ],
        "shows no head",
    ),
    "torso without alpha": (
        lambda f: [
            save(f / f"torso_imgs/{i}.png", np.zeros((SIZE, SIZE, 3), np.uint8))
            for i in range(FRAMES)
        ],
        "no alpha channel",
    ),
    "landmarks of five points": (
        lambda f: (f / "ori_imgs/3.lms").write_text("1 2\n" * 5),
        "3.lms holds an array",
    ),
    "landmarks that are text": (
        lambda f: (f / "ori_imgs/3.lms").write_text("hello\n"),
        "3.lms cannot be read",
    ),
    "landmarks of another face": (far_landmarks, "from the face that the images show"),
    "pickled features": (
        lambda f: np.save(f / "aud_ds.npy", np.array([{}], object), allow_pickle=True),
        "aud_ds.npy cannot be read",
    ),
    "features with a broken header": (
        lambda f: (f / "aud_ds.npy").write_bytes(
            (f / "aud_ds.npy").read_bytes().replace(b"(44, 16", b"(44, (#")
        ),
        "aud_ds.npy cannot be read",
    ),
    "an archive of features": (
        lambda f: [np.savez(f / "a.npz", x=np.zeros(3)), (f / "a.npz").rename(f / "aud_ds.npy")],
        "aud_ds.npy cannot be read",
    ),
    "features of two axes": (
        lambda f: np.save(f / "aud_ds.npy", np.zeros((FRAMES, 29), np.float32)),
        "aud_ds.npy is float32 (44, 29)",
    ),
    "features of a shorter clip": (
        lambda f: np.save(f / "aud_ds.npy", np.zeros((20, 16, 29), np.float32)),
        "aud_ds.npy has 20 rows",
    ),
    "features that are not finite": (
        lambda f: np.save(f / "aud_ds.npy", np.full((FRAMES, 16, 29), np.nan, np.float32)),
        "not finite",
    ),
    "no blink": (lambda f: (f / "au.csv").write_text("frame, AU01_r\n1, 2\n"), "no column AU45_r"),
    "few blinks": (
        lambda f: (f / "au.csv").write_text("frame, AU45_r\n1, 2\n"),
        "au.csv has 1 rows",
    ),
    "a blink that is text": (
        lambda f: (f / "au.csv").write_text("frame, AU45_r\n" + "1, open\n" * FRAMES),
        "not numbers",
    ),
    "teeth of another size": (
        lambda f: [
            (f / "teeth_mask").mkdir(),
            *(np.save(f / f"teeth_mask/{i}.npy", np.zeros((9, 9), bool)) for i in range(FRAMES)),
        ],
        "teeth_mask/0.npy does not fit",
    ),
    "no audio": (lambda f: (f / "aud.wav").unlink(), "has no audio"),
    "broken audio": (lambda f: (f / "aud.wav").write_bytes(b"RIFF"), "aud.wav"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_one_error_and_nothing_is_written(folder, known, fault, capsys):
    spoil, words = FAULTS[fault]
    spoil(folder)
    before = sorted(path.relative_to(folder.parent) for path in folder.parent.rglob("*"))
    with pytest.raises(InputRejected) as caught:
        run_import(folder, known)
    assert words in str(caught.value), caught.value
    assert caught.value.fix or "aud.wav" in words, caught.value
    assert sorted(path.relative_to(folder.parent) for path in folder.parent.rglob("*")) == before
    assert "code was run" not in capsys.readouterr().out


def test_existing_dataset_is_replaced_only_with_force(folder, known):
    run_import(folder, known)
    with pytest.raises(BeingError, match="exists already"):
        run_import(folder, known)
    run_import(folder, known, force=True)
    with pytest.raises(BeingError, match="cannot be both the source and the dataset"):
        import_family(folder, folder, landmarker=Landmarker(known))


@pytest.mark.parametrize(
    "seconds, end", [(3.0, "audio after 1.76 s is left out"), (1.0, "frames after 1.00 s")]
)
def test_audio_of_another_length_is_warned_of_with_both_durations(
    folder, known, capsys, seconds, end
):
    write_wav(folder / "aud.wav", np.full(round(16_000 * seconds), 0.1, np.float32))
    dataset, report = run_import(folder, known)
    warned = [line for line in capsys.readouterr().err.splitlines() if "lasts" in line]
    assert len(warned) == 1 and warned[0].startswith("warning: aud.wav lasts")
    assert f"{seconds:.2f} s, the {FRAMES} images" in warned[0] and "1.76 s" in warned[0]
    assert end in warned[0] and len([line for line in report.found if "lasts" in line]) == 1
    assert len(dataset.audio()) == 640 * FRAMES


def test_audio_of_the_images_length_gives_no_warning(folder, known, capsys):
    write_wav(folder / "aud.wav", np.full(640 * (FRAMES + 3), 0.1, np.float32))
    _, report = run_import(folder, known)
    assert "lasts" not in capsys.readouterr().err + " ".join(report.found)
