"""Export of datasets: the files are as GaussianTalker, TalkingGaussian and InsTaG read them.

Each test opens the directory the way their readers do: GaussianTalker's talking_dataset_readers.py
(KU-CVLAB/GaussianTalker), scene/dataset_readers.py and utils/audio_utils.py of TalkingGaussian
(Fictionarry/TalkingGaussian) and of InsTaG (Fictionarry/InsTaG), nerf_triplane/provider.py of
ER-NeRF: the same file names, keys, axes, index arithmetic. The tests describe
this behaviour and use none of their code.
"""

from __future__ import annotations

import csv
import json
import shutil
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from family_folder import FOCAL, FRAMES, SIZE, Landmarker, Truth, truth, write_folder
from needs import load_or_skip
from PIL import Image

from being.data.cameras import camera_vector, world_to_camera
from being.data.dataset import Dataset
from being.errors import BeingError, InputRejected, UsageError
from being.face.canonical_mesh import canonical_mesh
from being.interop.family import export_family, import_family

WIDTH = 40  # of the fake speech features
SYSTEMS = ("gaussiantalker", "talkinggaussian", "instag")


@pytest.fixture(scope="module")
def known() -> Truth:
    load_or_skip(canonical_mesh)
    return truth()


def fake_encode_frames(samples: np.ndarray, frames: int, encoder: str = "hama") -> np.ndarray:
    """Fake speech features with most of their variance in six directions."""
    rng = np.random.default_rng(3)
    steps = rng.normal(size=(2 * frames + 16, 6)) @ rng.normal(size=(6, WIDTH)) + 0.05 * rng.normal(
        size=(2 * frames + 16, WIDTH)
    )
    return np.stack([steps[2 * i : 2 * i + 16] for i in range(frames)]).astype(np.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, known) -> Dataset:
    """A dataset with our features only."""
    folder = write_folder(tmp_path_factory.mktemp("export") / "source", known, vertices=False)
    (folder / "aud_ds.npy").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("being.audio.clip_features.encode_frames", fake_encode_frames)
        report = import_family(folder, folder.parent / "imported", landmarker=Landmarker(known))
    return Dataset.open(report.path)


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    return {system: export_family(dataset.path, system, folder / system).path for system in SYSTEMS}


def parts(folder: Path) -> dict[str, dict]:
    return {
        part: json.loads((folder / f"transforms_{part}.json").read_text())
        for part in ("train", "val")
    }


def header(folder: Path) -> tuple[list[str], np.ndarray]:
    """au.csv as pandas takes it: names with whatever blanks they have."""
    with open(folder / "au.csv", newline="") as file:
        rows = list(csv.reader(file))
    return rows[0], np.array([[float(value) for value in row] for row in rows[1:]])


def attention_window(features: torch.Tensor, index: int) -> torch.Tensor:
    """Entries index-4 to index+3, zeros before the start and, as far as the slice itself is long,
    after the end.
    """
    left, right = index - 4, index + 4
    window = features[max(left, 0) : min(right, len(features))]
    before, after = max(0, -left), max(0, right - len(features))
    window = torch.cat([torch.zeros_like(window[:before]), window])
    return torch.cat([window, torch.zeros_like(window[:after])])


# --- all systems


@pytest.mark.parametrize("system", SYSTEMS)
def test_split_files_are_the_only_json_and_name_every_frame_once(exported, system):
    folder, split = exported[system], parts(exported[system])
    assert {file.name for file in folder.glob("*.json")} == {
        "transforms_train.json",
        "transforms_val.json",
    }
    assert not (folder / "fused.ply").exists()  # GaussianTalker stops at one
    numbers = [[frame["img_id"] for frame in split[part]["frames"]] for part in ("train", "val")]
    assert numbers[0] + numbers[1] == list(range(FRAMES)) and len(numbers[0]) == FRAMES * 10 // 11
    for value in split.values():
        assert all(frame["aud_id"] == frame["img_id"] for frame in value["frames"])
        assert (value["focal_len"], value["cx"], value["cy"]) == (FOCAL, SIZE / 2, SIZE / 2)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_listed_frame_has_its_images_and_68_landmarks(exported, known, system):
    folder = exported[system]
    assert cv2.imread(str(folder / "bc.jpg"), cv2.IMREAD_UNCHANGED).shape == (SIZE, SIZE, 3)
    for i in range(FRAMES):
        for name in (f"ori_imgs/{i}.jpg", f"gt_imgs/{i}.jpg", f"parsing/{i}.png"):
            assert cv2.imread(str(folder / name)).shape == (SIZE, SIZE, 3)
        torso = cv2.imread(str(folder / f"torso_imgs/{i}.png"), cv2.IMREAD_UNCHANGED)
        assert torso.shape == (SIZE, SIZE, 4) and set(np.unique(torso[..., 3])) <= {0, 255}
        landmarks = np.loadtxt(folder / f"ori_imgs/{i}.lms")
        assert landmarks.shape == (68, 2)
        for chosen in (slice(48, 60), slice(36, 48), slice(0, 68)):
            low, high = landmarks[chosen].min(0).astype(int), landmarks[chosen].max(0).astype(int)
            assert (high > low).all() and (low >= 0).all() and (high < SIZE).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_speech_features_have_the_width_of_the_systems_networks(exported, dataset, system):
    folder = exported[system]
    features = np.load(folder / {"instag": "aud.npy"}.get(system, "aud_ds.npy"))
    assert features.shape == (FRAMES, 16, 29) and features.dtype == np.float32
    turned = torch.from_numpy(features).float().permute(0, 2, 1)
    for i in range(FRAMES):
        assert attention_window(turned, i).shape == (8, 29, 16)
    with np.load(folder / "aud_projection.npz") as projection:
        assert np.allclose(dataset.features("hama") @ projection["matrix"], features, atol=1e-5)
    assert 0.8 < np.sqrt((features**2).mean()) < 1.2


@pytest.mark.parametrize("system", SYSTEMS)
def test_audio_is_complete_and_in_gaussian_talker_s_halves(exported, system):
    lengths = {}
    for name in ("aud", "aud_train", "aud_novel"):
        with wave.open(str(exported[system] / f"{name}.wav")) as file:
            assert file.getframerate() == 16_000
            lengths[name] = file.getnframes()
    border = FRAMES * 10 // 11
    assert lengths == {
        "aud": 640 * FRAMES,
        "aud_train": 640 * border,
        "aud_novel": 640 * (FRAMES - border),
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_action_units_are_named_with_and_without_the_blank(exported, dataset, system):
    names, table = header(exported[system])
    assert len(table) == FRAMES
    for unit in ("AU01", "AU04", "AU05", "AU06", "AU07", "AU25", "AU45"):
        for name in (f" {unit}_r", f"{unit}_r"):
            column = table[:, names.index(name)]
            assert np.isfinite(column).all() and column.min() >= 0 and column.max() <= 5
    blink = np.clip(table[:, names.index(" AU45_r")], 0, 2) / 2
    assert np.allclose(blink, dataset.blink[:, 0])


# --- GaussianTalker


def test_gaussian_talker_s_cameras_and_initial_points(exported, dataset, known):
    """Its cameras are euler and trans by img_id (no matrices), its points the mean vertices."""
    folder = exported["gaussiantalker"]
    track = torch.load(folder / "track_params.pt", weights_only=True)
    rotations, shifts = [], []
    for frame in parts(folder)["train"]["frames"]:
        theta, phi, psi = track["euler"][frame["img_id"]].double().numpy()
        about_x = np.array(
            [[1, 0, 0], [0, np.cos(theta), -np.sin(theta)], [0, np.sin(theta), np.cos(theta)]]
        )
        about_y = np.array(
            [[np.cos(phi), 0, np.sin(phi)], [0, 1, 0], [-np.sin(phi), 0, np.cos(phi)]]
        )
        about_z = np.array(
            [[np.cos(psi), np.sin(psi), 0], [-np.sin(psi), np.cos(psi), 0], [0, 0, 1]]
        )
        turned = np.diag([-1, 1, 1]) @ about_x @ about_y @ about_z
        x, y, z = track["trans"][frame["img_id"]].double().numpy()
        rotations.append(-turned.T)  # stored transposed
        shifts.append([x, -y, -z])
    stored = np.concatenate([np.reshape(rotations, (-1, 9)), shifts], 1)
    assert np.abs(stored - camera_vector(dataset.world_to_camera)[: len(stored)]).max() < 1e-6
    assert np.all((np.array(shifts)[:, 2] > 6) & (np.array(shifts)[:, 2] < 8))
    centres = -np.einsum("fij,fj->fi", rotations, np.array(shifts))
    extent = 1.1 * np.linalg.norm(centres - centres.mean(0), axis=1).max()
    assert 0.01 < extent < 5
    cloud = track["vertices"].mean(0)
    assert cloud.shape[0] > 20_000 and cloud.shape[1] == 3
    reach = (cloud.max(0).values - cloud.min(0).values) / 2
    assert 0.6 < reach[0] < 1.0 and 0.6 < reach[1] < 1.2


def test_gaussian_talker_s_target_and_background(exported, dataset):
    """Torso over background, the target outside the head mask, is nearly the frame."""
    folder = exported["gaussiantalker"]
    background = cv2.imread(str(folder / "bc.jpg")).astype(np.float32)
    for i in (0, 20, FRAMES - 1):
        frame, mask = (
            cv2.imread(str(folder / f"ori_imgs/{i}.jpg")),
            cv2.imread(str(folder / f"parsing/{i}.png")),
        )
        torso = cv2.imread(str(folder / f"torso_imgs/{i}.png"), cv2.IMREAD_UNCHANGED).astype(
            np.float32
        )
        head = (mask == (255, 0, 0)).all(-1)
        assert 0.05 < head.mean() < 0.9
        alpha = torso[..., 3:] / 255
        behind = torso[..., :3] * alpha + background * (1 - alpha)
        assert np.isfinite(behind).all() and behind.min() >= 0 and behind.max() <= 255
        away = np.abs(behind - frame)[(mask == 255).all(-1)]
        assert np.median(away) < 6


# --- TalkingGaussian and InsTaG


@pytest.mark.parametrize("system", ["talkinggaussian", "instag"])
def test_masks_of_face_hair_and_mouth_partition_the_head(exported, system):
    """face = blue xor teeth, hair = black, mouth = grey or teeth: disjoint, together the head."""
    folder, seen = exported[system], np.zeros(3)
    for i in range(FRAMES):
        teeth = np.load(folder / f"teeth_mask/{i}.npy")
        assert teeth.dtype == bool and teeth.shape == (SIZE, SIZE)
        mask = np.array(Image.open(folder / f"parsing/{i}.png").convert("RGB"))
        face = ((mask[..., 2] > 254) & (mask[..., 0] == 0) & (mask[..., 1] == 0)) ^ teeth
        hair, mouth = (mask < 1).all(-1), (mask == 100).all(-1) | teeth
        assert not (face & hair).any() and not (face & mouth).any() and not (hair & mouth).any()
        head = np.array(Image.open(exported["gaussiantalker"] / f"parsing/{i}.png").convert("RGB"))
        assert np.array_equal(face | hair | mouth, (head == (0, 0, 255)).all(-1))
        seen += [face.mean(), hair.mean(), mouth.mean()]
    assert (seen > 0).all()


@pytest.mark.parametrize("system", ["talkinggaussian", "instag"])
def test_cameras_from_the_matrices_have_their_shift_in_tenths(exported, known, system):
    """Inverted, with y and z flipped: the tracker's camera with its translation in tenths."""
    folder = exported[system]
    expected = world_to_camera(known.euler, known.trans).astype(np.float64)
    expected[:, :3, 3] /= 10
    for value in parts(folder).values():
        for frame in value["frames"]:
            matrix = np.array(frame["transform_matrix"])
            matrix[:3, 1:3] *= -1
            assert np.abs(np.linalg.inv(matrix) - expected[frame["img_id"]]).max() < 1e-6
    vertices = torch.load(folder / "track_params.pt", weights_only=True)["vertices"] / 10
    assert vertices.abs().max() < 0.15  # the bound of their scene


def test_gt_imgs_are_the_frames_over_the_clean_background(exported):
    folder = exported["talkinggaussian"]
    background = cv2.imread(str(folder / "bc.jpg")).astype(int)
    for i in (0, 30):
        frame, target = (
            cv2.imread(str(folder / f"{name}/{i}.jpg")).astype(int)
            for name in ("ori_imgs", "gt_imgs")
        )
        mask = cv2.imread(str(folder / f"parsing/{i}.png"))
        outside = cv2.erode((mask == 255).all(-1).astype(np.uint8), np.ones((9, 9))) > 0
        inside = cv2.erode((mask != 255).any(-1).astype(np.uint8), np.ones((9, 9))) > 0
        assert np.abs(target - background)[outside].mean() < 2
        assert np.abs(target - frame)[inside].mean() < 2


def test_instag_s_depth_and_normals_of_the_first_frames(exported, dataset):
    """Depth and normals of the first training frames; the nose is nearest, 0 outside the head."""
    folder = exported["instag"]
    folders = {
        kind: sorted((folder / "sapiens" / kind).glob("sapiens_*"), reverse=True)[0]
        for kind in ("normal", "depth")
    }
    for frame in parts(folder)["train"]["frames"][:30]:
        normal = torch.as_tensor(np.load(folders["normal"] / f"{frame['img_id']}.npy")).permute(
            2, 0, 1
        )
        depth = np.load(folders["depth"] / f"{frame['img_id']}.npy")
        assert normal.shape == (3, SIZE, SIZE) and not normal.any() and depth.shape == (SIZE, SIZE)
        mask = np.array(Image.open(dataset.path / f"parsing/{frame['img_id']}.png").convert("RGB"))
        head = (mask == (0, 0, 255)).all(-1)
        assert (depth[head] > 5).all() and (depth[head] < 9).all() and not depth[~head].any()
        nose = dataset.landmarks[frame["img_id"], 4, :2].round().astype(int)
        assert depth[nose[1], nose[0]] < np.percentile(depth[head], 20)


def test_instag_holds_out_the_clip_s_last_seconds(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "being.interop.family.exporter.INSTAG_VALIDATION_SECONDS", 0
    )  # and one frame, as its split script has it
    split = parts(export_family(dataset.path, "instag", tmp_path / "out").path)
    assert [frame["img_id"] for frame in split["val"]["frames"]] == [FRAMES - 1]
    assert len(split["train"]["frames"]) == FRAMES - 1


# --- round trip


@pytest.mark.parametrize("system", SYSTEMS)
def test_export_then_import_gives_the_same_dataset(
    exported, dataset, known, tmp_path, monkeypatch, system
):
    monkeypatch.setattr("being.audio.clip_features.encode_frames", fake_encode_frames)
    report = import_family(exported[system], tmp_path / "back", landmarker=Landmarker(known))
    back = Dataset.open(report.path)
    assert np.abs(back.world_to_camera - dataset.world_to_camera).max() < 1e-6
    assert (back.focal, back.frames, back.width, back.missing) == (
        dataset.focal,
        dataset.frames,
        SIZE,
        [],
    )
    assert np.allclose(back.blink, dataset.blink)
    for i in range(0, FRAMES, 7):
        for name in (f"ori_imgs/{i}.jpg", f"parsing/{i}.png", f"torso_imgs/{i}.png"):
            before, after = (
                cv2.imread(str(dataset.path / name), -1),
                cv2.imread(str(back.path / name), -1),
            )
            assert np.array_equal(before, after)
        assert np.array_equal(
            np.loadtxt(dataset.path / f"ori_imgs/{i}.lms"),
            np.loadtxt(back.path / f"ori_imgs/{i}.lms"),
        )
    names, values = dataset.action_units()
    again, back_values = back.action_units()
    assert all(
        np.allclose(values[:, k], back_values[:, again.index(name)], atol=1e-4)
        for k, name in enumerate(names)
    )
    feature_file = {"instag": "aud.npy"}.get(system, "aud_ds.npy")
    assert np.array_equal(back.features("hama29"), np.load(exported[system] / feature_file))
    out = export_family(back.path, system, tmp_path / "out").path
    assert np.array_equal(np.load(out / feature_file), np.load(exported[system] / feature_file))
    assert (out / "aud_projection.npz").read_bytes() == (
        exported[system] / "aud_projection.npz"
    ).read_bytes()


def test_imported_deep_speech_features_are_exported_unchanged(tmp_path, known, monkeypatch):
    monkeypatch.setattr("being.audio.clip_features.encode_frames", fake_encode_frames)
    folder = write_folder(tmp_path / "source", known, rich=True)
    imported = import_family(folder, tmp_path / "imported", landmarker=Landmarker(known)).path
    for system, file in (("gaussiantalker", "aud_ds.npy"), ("instag", "aud.npy")):
        out = export_family(imported, system, tmp_path / system).path
        assert np.array_equal(np.load(out / file), np.load(folder / "aud_ds.npy"))
        assert not (out / "aud_projection.npz").exists()
    assert (tmp_path / "instag/parsing/5.png").read_bytes() == (
        folder / "parsing/5.png"
    ).read_bytes()


def test_full_width_names_the_line_to_change(dataset, tmp_path):
    report = export_family(dataset.path, "gaussiantalker", tmp_path / "out", full_width=True)
    assert np.load(report.path / "aud_ds.npy").shape == (FRAMES, 16, WIDTH)
    assert report.code_change.startswith("scene/deformation.py")
    assert f"self.audio_in_dim = {WIDTH}" in report.code_change
    assert report.code_change in (report.path / "READ_ME.txt").read_text()


# --- faults


def test_faults_leave_nothing_behind(dataset, tmp_path):
    with pytest.raises(UsageError, match="no export for 'nerf'"):
        export_family(dataset.path, "nerf", tmp_path / "out")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(BeingError, match="exists already"):
            export_family(dataset.path, "gaussiantalker", taken, force=force)
    broken = Path(shutil.copytree(dataset.path, tmp_path / "broken"))
    (broken / "track_params.pt").write_bytes(b"no tensors")
    with pytest.raises(InputRejected, match="track_params.pt"):
        export_family(broken, "gaussiantalker", tmp_path / "out")
    for file in (broken / "ori_imgs").glob("*.lms"):
        file.unlink()
    with pytest.raises(InputRejected, match="with a face and landmarks"):
        export_family(broken, "gaussiantalker", tmp_path / "out")
    np.savez(broken / "landmarks.npz", points=np.zeros((3, 478, 3)), confidence=np.ones(3))
    with pytest.raises(InputRejected, match="landmarks.npz"):
        export_family(broken, "gaussiantalker", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "taken"]


def test_earlier_export_is_replaced_with_force(dataset, tmp_path):
    export_family(dataset.path, "gaussiantalker", tmp_path / "out")
    with pytest.raises(BeingError, match="exists already"):
        export_family(dataset.path, "instag", tmp_path / "out")
    export_family(dataset.path, "instag", tmp_path / "out", force=True)
    assert (tmp_path / "out/sapiens").is_dir()
