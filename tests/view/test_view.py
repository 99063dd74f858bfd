"""What `being view` shows: Gaussians, planes, cameras, mesh; the picture; what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from loudness_encoder import LoudnessEncoder
from PIL import Image
from program import being, refused
from tiny_avatar import write_tiny_avatar

from being.audio import encoders
from being.config import ModelConfig
from being.errors import EnvironmentFault, UsageError
from being.inference.engine import Engine
from being.media import write_wav
from being.model.avatar import load_avatar
from being.model.triplane import PlaneGrid
from being.provenance.mark import parse_mark
from being.splat import Cameras, Gaussians, composite, rasterize
from being.view import avatar_content as avatars
from being.view import content as contents
from being.view import display, drawing
from being.view.content import CameraPath, Cloud, Content, Mesh
from being.view.dataset_content import dataset_content
from being.view.driven_frame import Speech, driven_gaussians, loudest_frame
from being.view.files import write_view
from being.view.places import default_folder, find_source
from being.view.shapes import DEVIATIONS, ellipsoids

LOUD = 7  # the frame of `speech` that is loud


@pytest.fixture(scope="module", autouse=True)
def loudness() -> Iterator[None]:
    """The encoder "loudness" is known while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(encoders.ENCODERS, "loudness", LoudnessEncoder)
        encoders.load_encoder.cache_clear()
        yield
    encoders.load_encoder.cache_clear()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_avatar(tmp_path_factory.mktemp("bundle") / "tiny", "loudness", 2)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sound = 0.01 * np.sin(np.arange(20 * 640) * 0.3)
    sound[LOUD * 640 : (LOUD + 1) * 640] *= 50
    file = tmp_path_factory.mktemp("speech") / "speech.wav"
    write_wav(file, sound.astype(np.float32))
    return file


def random_content(count: int) -> Content:
    """Two clouds of random Gaussians."""
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    gaussians = Gaussians(
        uniform(1, count, 3) - 0.5,
        torch.nn.functional.normalize(uniform(1, count, 4) - 0.5, dim=-1),
        0.002 + 0.05 * uniform(1, count, 3),
        0.05 + 0.9 * uniform(1, count),
        uniform(1, count, 4, 3) - 0.5,
    )
    matrices = np.tile(np.eye(4), (3, 1, 1))
    matrices[:, :3, :3] = np.diag([1, -1, -1])
    matrices[:, :3, 3] = [[0, 0, 7], [0.5, 0, 7], [1, 0, 7.5]]
    cameras = CameraPath.of(matrices, 150.0, (32, 32))
    cloud = Cloud.of("canonical", gaussians, cameras.centres[0])
    return Content("avatar", "me", Path("me"), "Consent: mine", [], cameras, [cloud, cloud])


def test_the_driven_gaussians_are_those_of_the_engines_frame(bundle: Path, speech: Path) -> None:
    avatar = load_avatar(bundle)
    gaussians, frame = driven_gaussians(avatar, Speech(speech, "speech"), pose=2)
    assert frame == LOUD
    engine = Engine(avatar, precision="float32", renderer="torch")
    features = torch.cat(list(engine.encode(np.asarray(sound_of(speech)))))
    expected = engine.render(features, np.array([LOUD]), np.array([2]))[0]
    plate = torch.tensor(avatar.plate(2)).permute(2, 0, 1)[None].float() / 255
    cameras = Cameras(avatar.world_to_camera[2:3], avatar.focal, avatar.size, avatar.size)
    image = composite(rasterize(gaussians, cameras), plate).clamp(0, 1)[0].permute(1, 2, 0) * 255
    assert np.abs(image.numpy() - expected).max() <= 1
    moved = gaussians.means - avatar.model.gaussians.means
    assert moved.abs().max() > 1e-3
    other, _ = driven_gaussians(avatar, Speech(speech, "speech"), pose=2, frame=0)
    assert (other.means - gaussians.means).abs().max() > 1e-5, "the audio of the frame counts"


def sound_of(file: Path) -> np.ndarray:
    from being.media import read_audio

    return read_audio(file)


def test_the_loudest_frame() -> None:
    sound = np.full(3000, 0.1, np.float32)
    sound[1300:1400] = 0.9
    assert loudest_frame(sound) == 2


def test_colours_are_those_that_the_middle_camera_sees(bundle: Path) -> None:
    avatar = load_avatar(bundle)
    content = avatars.avatar_content(bundle, speech_of_silence(bundle))
    assert [cloud.name for cloud in content.clouds] == ["canonical", "driven"]
    eye = content.cameras.centres[content.cameras.middle]
    # One large opaque Gaussian after the other, by the rasterizer
    gaussians, cloud = avatar.model.gaussians.activate(), content.clouds[0]
    matrix = avatar.world_to_camera[content.cameras.middle][None]
    for k in (0, 17, 41):
        alone = Gaussians(*(value[:, k : k + 1] for value in gaussians.fields()))
        alone.opacities = torch.ones_like(alone.opacities)
        seen = matrix[0, :3, :3] @ alone.means[0, 0] + matrix[0, :3, 3]
        shift = seen[:2] / seen[2] * 1000
        output = rasterize(alone, Cameras(matrix, 1000.0, 401, 401))
        x, y = (200 + shift).round().long().tolist()
        colour = output.rgb[0, :, y, x] / output.alpha[0, :, y, x]
        assert np.allclose(cloud.colours[k], colour.clamp(0, 1).numpy(), atol=0.01)
    assert eye[2] > 6


def speech_of_silence(folder: Path) -> Path:
    file = folder.parent / "silence.wav"
    write_wav(file, np.zeros(6400, np.float32))
    return file


def test_of_too_many_gaussians_the_small_and_transparent_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contents, "GAUSSIANS_MAX", 2)
    scales = torch.tensor([[[0.1] * 3, [0.2] * 3, [0.3] * 3]])
    gaussians = Gaussians(
        torch.arange(9.0).reshape(1, 3, 3),
        torch.tensor([1.0, 0, 0, 0]).repeat(1, 3, 1),
        scales,
        torch.tensor([[0.9, 0.9, 0.1]]),
        torch.zeros(1, 3, 1, 3),
    )
    cloud = Cloud.of("canonical", gaussians, np.zeros(3))
    assert cloud.left_out == 1 and cloud.means[:, 0].tolist() == [0, 3]
    assert len(cloud) == len(cloud.scales) == len(cloud.opacities) == 2


@pytest.mark.parametrize(
    ("number", "point", "corner"),
    [
        (0, (0.9, 0.8, 0), (0, -1)),  # right and up in head space: top right
        (0, (-0.9, -0.8, 0), (-1, 0)),
        (1, (0.9, 0, 0.8), (-1, -1)),  # the face is below
        (2, (0, 0.9, 0.8), (0, -1)),  # the face is on the right
        (2, (0, -0.9, 0.8), (-1, -1)),
    ],
)
def test_pictures_of_planes_are_the_right_way_round(
    number: int, point: tuple[float, float, float], corner: tuple[int, int]
) -> None:
    config = ModelConfig(plane_resolution=4, plane_scales=(1,), plane_channels=64)
    grid = PlaneGrid(config)
    plane = list(grid.grids[0].parameters())[number]
    grid(torch.tensor([point])).sum().backward()
    assert plane.grad is not None
    shown = avatars.oriented(plane.grad[0].abs().sum(0).numpy(), number)
    place = np.unravel_index(shown.argmax(), shown.shape)
    assert place == tuple(k % 4 for k in corner)


def test_planes_have_one_colour_scale() -> None:
    grid = PlaneGrid(ModelConfig(plane_resolution=4, plane_scales=(1, 2)))
    with torch.no_grad():
        for plane in grid.parameters():
            plane.fill_(-0.5)
        list(grid.grids[1].parameters())[0][:, :, 0, 0] = 2.0
    rows = avatars.plane_pictures(grid)
    assert [picture.pixels.shape for picture in rows[1]] == [(8, 8, 3)] * 3
    assert rows[1][0].pixels[0, -1].tolist() == list(avatars.RAMP[-1])
    assert rows[0][2].pixels.reshape(-1, 3).tolist() == [list(avatars.RAMP[0])] * 16


def test_the_camera_goes_round_the_head() -> None:
    content = random_content(50)
    matrices, distance = drawing.view_matrices(content, (0, 90))
    front, side = CameraPath.of(matrices, 1, (1, 1)).centres - content.centre
    assert np.allclose(front[[0, 2]], [0, np.hypot(*front[[0, 2]])], atol=1e-3)
    assert np.allclose(side, [front[2], front[1], 0], atol=1e-3), "at 90 it is on the right"
    for matrix in matrices:
        seen = matrix[:3, :3] @ content.centre + matrix[:3, 3]
        assert np.allclose(seen, [0, 0, distance], atol=1e-3)
        assert matrix[1, 1] < 0, "up stays up: y of the camera is down"


def test_camera_centres_and_pyramids() -> None:
    cameras = random_content(5).cameras
    assert np.allclose(cameras.centres, [[0, 0, 7], [-0.5, 0, 7], [-1, 0, 7.5]])
    corners = cameras.frustum(0, 2.0)
    assert np.allclose(corners[0], [0, 0, 7]) and np.allclose(corners[1:, 2], 5)
    assert np.allclose(np.abs(corners[1:, :2]), 2 * 16 / 150)


def test_no_line_is_drawn_across_a_cut_and_long_paths_are_thinned() -> None:
    matrices = np.tile(np.eye(4), (5000, 1, 1))
    path = CameraPath.of(matrices, 1, (1, 1), (3000,))
    assert len(path.world_to_camera) <= contents.POSES_MAX
    assert [len(line) for line in path.lines] == [1000, 667]


def test_edges_are_there_once() -> None:
    mesh = Mesh.of("m", np.zeros((4, 3)), np.array([[0, 1, 2], [2, 1, 3]]))
    assert mesh.edges.tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]


def test_ellipsoids_lie_at_equal_distance_in_deviations() -> None:
    cloud = random_content(30).clouds[0]
    vertices, triangles, colours = ellipsoids(cloud)
    shown = cloud.opacities >= 0.2
    per = len(vertices) // shown.sum()
    rotations, scales = cloud.rotations[shown], cloud.scales[shown]
    offsets = vertices.reshape(-1, per, 3) - cloud.means[shown][:, None]
    distances = np.linalg.norm(
        np.einsum("nij,nvi->nvj", rotations, offsets) / scales[:, None], axis=-1
    )
    assert np.allclose(distances, DEVIATIONS, rtol=1e-4)
    assert len(triangles) == 80 * shown.sum() and len(colours) == len(vertices)
    # Closed, and outwards: the volume inside is that of the ellipsoids, almost
    a, b, c = (offsets.reshape(-1, 3)[triangles[:, k]] for k in range(3))
    volume = np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6
    true = (4 / 3 * np.pi * DEVIATIONS**3 * scales.prod(1)).sum()
    assert 0.8 < volume / true < 1


def test_a_dataset_shows_mesh_frames_and_path(scene: Path) -> None:
    content = dataset_content(scene, 3)
    assert content.kind == "dataset" and not content.generated and not content.clouds
    assert content.mesh is not None and content.mesh.name == "frame 3"
    assert any(picture.label.startswith("frame 3,") for picture in content.frames)
    assert content.frames[0].pixels.shape == (48, 48, 3)
    assert len(content.cameras.world_to_camera) == 44
    with pytest.raises(UsageError, match="0 to 43"):
        dataset_content(scene, 44)


def test_the_picture_carries_its_marks(bundle: Path, scene: Path, tmp_path: Path) -> None:
    content = avatars.avatar_content(bundle, speech_of_silence(bundle))
    written = write_view(tmp_path / "avatar", content)
    with Image.open(written.picture) as image:
        texts, width = image.text, image.width  # type: ignore[attr-defined]
        pixels = np.asarray(image.convert("RGB"))
    assert "AI-generated" in texts["Comment"] and "unconfirmed" in texts["Comment"]
    mark = parse_mark(texts["Description"])
    assert mark is not None and mark["avatar"]["name"] == "tiny"
    assert "trainedAlgorithmicMedia" in texts["XML:com.adobe.xmp"]
    assert width == 1620 + 32 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000
    page = written.page.read_text()
    assert "AI-generated from footage" in page and "unconfirmed" in page
    assert 'name="digital-source-type"' in page

    other = write_view(tmp_path / "dataset", dataset_content(scene))
    with Image.open(other.picture) as image:
        assert "AI-generated" not in image.text["Comment"]  # type: ignore[attr-defined]
    assert "AI-generated" not in other.page.read_text()


def test_the_newest_run_then_the_newest_dataset(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = next((home / "runs/scene").iterdir())
    assert find_source(None) == ("avatar", run)
    assert find_source(home / "data/scene") == ("dataset", home / "data/scene")
    assert find_source(run / "avatar") == ("avatar", run / "avatar")
    assert default_folder("avatar", run) == default_folder("avatar", run / "avatar") == run / "view"
    assert default_folder("avatar", tmp_path / "me") == Path("me-view")
    bare = tmp_path / "home"
    shutil.copytree(home / "data/scene", bare / "data/scene")
    monkeypatch.setenv("BEING_HOME", str(bare))
    assert find_source(None) == ("dataset", bare / "data/scene")
    shutil.rmtree(bare / "data")
    with pytest.raises(UsageError, match="being preprocess"):
        find_source(None)


def test_a_run_is_driven_by_its_clip_and_written_whole(run: Path, tmp_path: Path) -> None:
    result = being("view", run, "--out", "look", "--json")
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["gaussians"][0] == answer["gaussians"][1] > 0 and answer["window"] is False
    assert sorted(p.name for p in Path("look").iterdir()) == ["view.html", "view.png"]
    page = Path("look/view.html").read_text()
    assert "of the clip, pose" in page and "Face mesh, frame" in page
    assert being("view", run, "--out", "look").exit_code == 0, "its own files are replaced"
    Path("look/view.html").write_text("mine")
    refused(1, "not made by being", "view", run, "--out", "look")
    assert being("view", run, "--out", "look", "--force").exit_code == 0


def test_audio_that_cannot_drive_it_leaves_the_driven_frame_out(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        avatars, "default_speech", lambda *_: Speech(bundle / "none.wav", "a lost clip")
    )
    content = avatars.avatar_content(bundle)
    assert [cloud.name for cloud in content.clouds] == ["canonical"]
    assert "driven frame is left out" in capsys.readouterr().err


def test_what_is_refused(
    run: Path, avatar: Path, scene: Path, speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    refused(4, "is not a run, a dataset or an avatar", "view", tmp_path / "other")
    refused(4, "does not exist", "view", tmp_path / "nowhere")
    refused(4, "a file, not a folder", "view", speech)
    refused(2, "not both", "view", run, "--window", "--out", "x")
    refused(2, "not driven by audio", "view", scene, "--audio", speech, "--out", "x")
    refused(2, "no frame 44", "view", scene, "--frame", "44", "--out", "x")
    refused(2, "no frame 20", "view", run, "--audio", speech, "--frame", "20", "--out", "x")
    refused(4, "none.wav", "view", run, "--audio", "none.wav", "--out", "x")
    refused(1, "a file, not a folder", "view", scene, "--out", speech)
    unfinished = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(unfinished / "avatar")
    refused(4, "no avatar yet", "view", unfinished, "--out", "x")
    (avatar / "model.safetensors").write_bytes(b"x")
    refused(4, "model.safetensors was altered", "view", avatar, "--out", "x")


def test_no_window_without_open3d_or_a_display(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "has_open3d", lambda: False)
    refused(3, r"being\[view\]", "view", run, "--window")
    monkeypatch.setattr(display, "has_open3d", lambda: True)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    refused(3, "no display", "view", run, "--window")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-not-there")
    refused(3, "no display", "view", run, "--window")


def test_open3d_draws_every_layer() -> None:
    pytest.importorskip("open3d", exc_type=ImportError)
    from being.view import window

    o3d, content = window.load_open3d(), random_content(40)
    cloud = content.clouds[0]
    assert len(window.point_cloud(o3d, cloud).points) == (cloud.opacities >= 0.2).sum()
    solid = window.ellipsoid_mesh(o3d, cloud)
    assert len(solid.triangles) % 80 == 0 and solid.has_vertex_normals()
    path = window.path_lines(o3d, content.cameras, 1.0)
    assert len(path.lines) == 2 + 3 * 8
    try:
        shown = window.Window(content, visible=False)
    except EnvironmentFault as fault:
        pytest.skip(fault.message())
    pictures = [shown.picture()]
    for key in "EGGC":
        shown.press(key)
        pictures.append(shown.picture())
    shown.close()
    assert all(np.ptp(picture) > 50 for picture in (pictures[0], pictures[1], pictures[4]))
    assert np.ptp(pictures[3].reshape(-1, 3), axis=0).max() == 0, "no head is shown"
    assert (pictures[0] != pictures[1]).mean() > 0.001
