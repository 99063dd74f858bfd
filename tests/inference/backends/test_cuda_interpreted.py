"""The CUDA renderer's kernels give the torch renderer's images, in Triton's interpreter."""

import numpy as np
import pytest
from needs import INTERPRETED

pytest.importorskip("triton")
if not INTERPRETED:
    pytest.skip("runs in Triton's interpreter, by test_interpreted.py", allow_module_level=True)

import torch
from placed_avatar import write_placed_avatar
from tiny_avatar import POSES, WIDTH, tiny_avatar
from tiny_bases import avatar_with_bases

from being.data.mouth import code_rows
from being.inference.backends.cuda.frame_batch import FrameBatch
from being.inference.backends.cuda.kernels.i420 import to_i420
from being.inference.backends.cuda.renderer import CudaGraphRenderer
from being.inference.backends.torch import TorchRenderer
from being.inference.engine import Engine
from being.inference.i420 import COLOURS, JPEG_COLOURS, VIDEO_COLOURS, i420_bytes, write_i420
from being.inference.live_look import live_look
from being.inference.look import TRANSPARENT
from being.inference.protocol import (
    FrameRenderer,
    KeyFrameRenderer,
    PendingFrames,
    PlanarRenderer,
)
from being.model.avatar import load_avatar
from being.model.folding import MIN_SIDE, token_records
from being.session.live_session import SILENT_ROW, FrameOrder
from being.session.render_worker import PictureJob, RenderWorker


@pytest.fixture(autouse=True, scope="module")
def one_trial_pose():
    """Each renderer counts the pairs of one pose and not of eight: the interpreter is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("being.inference.backends.cuda.renderer.TRIAL_POSES", 1)
        yield


@pytest.fixture
def no_trial_pose(monkeypatch):
    """A renderer reserves memory for all pairs of a tiny frame without a trial of the kernels. The
    fixture `engine`, and the renderer by bases, make the trial.
    """
    monkeypatch.setattr(CudaGraphRenderer, "_trial_pairs", lambda renderer: 400)


@pytest.fixture(scope="module")
def engine(one_trial_pose, tmp_path_factory):
    """An engine of a small avatar with three expression channels."""
    avatar = tiny_avatar(tmp_path_factory.mktemp("avatar"), 12, 16, channels=3)
    return Engine(avatar, "float32")


def noise(frames, seed=1):
    return torch.randn(frames, 16, WIDTH, generator=torch.Generator().manual_seed(seed))


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-12))


@pytest.mark.parametrize(
    ("layers", "degree", "channels", "precision", "least"),
    [(1, 3, 1, "float32", 60), (2, 1, 4, "float32", 60), (1, 3, 1, "float16", 45)],
)
def test_images_are_those_of_the_torch_renderer(
    no_trial_pose, tmp_path, layers, degree, channels, precision, least
):
    avatar = tiny_avatar(tmp_path, 24, 16, layers=layers, degree=degree, channels=channels)
    engine, reference = Engine(avatar, precision), Engine(avatar, "float32", renderer="torch")
    assert isinstance(engine.renderer, CudaGraphRenderer)
    assert isinstance(reference.renderer, TorchRenderer)
    features = noise(3)
    images, expected = (np.stack(list(e.stream(features, batch=2))) for e in (engine, reference))
    assert images.shape == expected.shape and min(map(psnr, images, expected)) >= least
    # Poses and audio are seen.
    assert np.abs(expected[0].astype(int) - expected[1]).max() > 3


def test_it_implements_the_protocol(engine):
    assert isinstance(engine.renderer, FrameRenderer)
    assert not isinstance(engine.renderer, KeyFrameRenderer)
    pending = engine.submit(np.zeros((1, 8), np.int32), np.array([0]))
    assert isinstance(pending, PendingFrames) and pending.ready
    assert pending.images().shape == (1, 16, 16, 3)


def test_i420_on_the_device_is_that_of_the_native_code(engine):
    renderer, poses = engine.renderer, np.array([4, 0, 2])
    assert isinstance(renderer, PlanarRenderer)
    kinds = [VIDEO_COLOURS, JPEG_COLOURS, VIDEO_COLOURS]
    with engine.track(noise(3)) as track:
        rows, expression = track.rows(np.arange(3)), engine.expression[poses]
        images = engine.submit(rows, poses).images().copy()
        planar = renderer.submit_planar(rows, poses, expression, kinds).images()
    assert planar.shape == (3, i420_bytes(16))
    for image, made, kind in zip(images, planar, kinds, strict=True):
        expected = np.zeros_like(made)
        write_i420(image, expected, kind)
        np.testing.assert_array_equal(made, expected)


def test_pictures_with_a_matte_are_those_of_the_torch_renderer(tmp_path):
    """A live session without a background: each picture on black and on white, in one batch."""
    avatar = load_avatar(write_placed_avatar(tmp_path / "placed", gaussians=12, size=16))
    look = live_look(avatar, TRANSPARENT)
    luma = look.width * look.height
    stacked = {}
    for renderer in ("auto", "torch"):
        engine = Engine(look.avatar, "float32", renderer=renderer)
        worker = RenderWorker(engine, None, look)
        worker.open("a", np.full((16, 6), 0.1, np.float32))
        for token, (pose, colours) in enumerate([(2, VIDEO_COLOURS), (0, JPEG_COLOURS)]):
            window = np.full(8, SILENT_ROW, np.int32)
            order = FrameOrder(pose, np.array([0.3], np.float32), window, [])
            worker.put(PictureJob("a", order, np.zeros(3 * luma, np.uint8), colours, token))
        jobs = []
        while worker.busy:
            jobs += worker.tick()
        stacked[renderer] = [job.out for job in jobs]
        assert isinstance(engine.renderer, PlanarRenderer) == (renderer == "auto")
    for made, expected in zip(stacked["auto"], stacked["torch"], strict=True):
        assert np.abs(made.astype(int) - expected).max() <= 3
        matte = expected[luma : 2 * luma]
        assert np.ptp(matte) > 100, "it shows no background, or no head"
    assert np.abs(stacked["auto"][0].astype(int) - stacked["auto"][1]).max() > 20


@pytest.mark.parametrize("shape", [(6, 4), (34, 70)])
def test_the_i420_kernel_gives_the_bytes_of_the_native_code(shape):
    height, width = shape
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    images[0, :2, :2], images[1, :2, :2] = (0, 0, 255), (255, 255, 255)
    numbers = [[*kind.native.tolist(), kind.black] for kind in COLOURS]
    matrices, kinds = torch.tensor(numbers, dtype=torch.int32), torch.tensor([1, 0]).int()
    planes = torch.zeros(2, height * width * 3 // 2, dtype=torch.uint8)
    programs = -(-height * width // 4 // 64), 2
    to_i420[programs](torch.from_numpy(images), kinds, matrices, planes, width, height, BLOCK=64)
    for image, made, kind in zip(images, planes.numpy(), (1, 0), strict=True):
        expected = np.zeros_like(made)
        write_i420(image, expected, COLOURS[kind])
        np.testing.assert_array_equal(made, expected)


def test_records_are_those_of_the_torch_tokens(engine):
    """The kernels' records against `token_records`, and these against the tokens of torch through
    the attention.
    """
    # The kernels and the same computation in torch.
    avatar, renderer = engine.avatar, engine.renderer
    features, poses = noise(5), np.array([4, 0, 2])
    folded = renderer.avatar.folded
    with engine.track(features) as track:
        rows = track.rows(np.array([0, 2, 4]))
        expression = np.random.default_rng(0).random((3, 3), np.float32)
        engine.submit(rows, poses, expression).images()
        windows = renderer.pool.table[torch.from_numpy(rows).long()]
    expected_records = token_records(
        folded, windows, torch.from_numpy(expression), torch.from_numpy(poses)
    )
    batch = renderer.slots[4, False][-1].batch
    assert (batch.records[:3] - expected_records).norm() < 1e-5 * expected_records.norm()

    # The attention of torch, of random queries to the same tokens.
    reference = Engine(avatar, "float32", renderer="torch")
    with reference.track(features) as track, torch.no_grad():
        rows = track.rows(np.array([0, 2, 4]))
        tokens = reference.renderer.tokens(reference.renderer.conditions(rows, poses, expression))
        attention = avatar.model.network.transformer.layers[0].enc_dec_attention
        queries = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
        expected, shares = attention(queries, tokens)
    a, c, u = expected_records.split([64 * 16, 16, 16 * 64], 1)
    logits = (queries @ a.view(3, 64, 16) + c[:, None]).unflatten(2, (4, 4))[:, :, :2]
    assert (logits.softmax(3).transpose(1, 2) - shares).abs().max() < 1e-5
    mixed = torch.einsum("bnhs,bhsd->bnd", logits.softmax(3), u.view(3, 4, 4, 64)[:, :2])
    assert (mixed - expected).norm() < 1e-5 * expected.norm()


def test_records_of_a_batch_of_two_blocks_of_rows(no_trial_pose, tmp_path):
    engine = Engine(tiny_avatar(tmp_path, 12, 16, layers=2), "float32")
    frames = MIN_SIDE + 1
    renderer, poses = engine.renderer, np.arange(frames) % POSES
    expression = np.random.default_rng(0).random((frames, 1), np.float32)
    with engine.track(noise(frames)) as track:
        rows = track.rows(np.arange(frames))
        batch = FrameBatch(renderer.avatar, renderer.pool, frames, renderer.pairs)
        inputs = np.concatenate([rows, poses[:, None], expression.view(np.int32)], 1)
        batch.inputs.copy_(torch.from_numpy(inputs))
        batch.encode_audio()
        batch.make_tokens()
        windows = renderer.pool.table[torch.from_numpy(rows).long()]
    folded = renderer.avatar.folded
    expected_records = token_records(
        folded, windows, torch.from_numpy(expression), torch.from_numpy(poses)
    )
    assert (batch.records[:frames] - expected_records).norm() < 1e-5 * expected_records.norm()


def test_images_that_are_read_too_late_are_refused(engine, monkeypatch):
    """Their memory holds another batch by then."""
    monkeypatch.setattr(FrameBatch, "run", lambda _: None)  # what they show is no matter here
    late, *_ = [engine.submit(np.zeros((1, 8), np.int32), np.array([pose])) for pose in range(4)]
    with pytest.raises(AssertionError, match="not read before"):
        late.images()


def test_a_batch_that_needs_more_pairs_is_rendered_again(no_trial_pose, tmp_path):
    avatar = tiny_avatar(tmp_path, 24, 16)
    engine, reference = Engine(avatar, "float32"), Engine(avatar, "float32", renderer="torch")
    engine.renderer.pairs = 0.0
    features, frames, poses = noise(2), np.array([0, 1]), np.array([0, 3])
    module = "being.inference.backends.cuda.frame_batch"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{module}.rounded_capacity", lambda pairs: int(pairs) + 1)
        patch.setattr(f"{module}.MIN_PAIRS", 1)
        images = engine.render(features, frames, poses)
    assert engine.renderer.pairs > 3
    assert psnr(images, reference.render(features, frames, poses)) > 60


def test_tracks_of_one_batch_do_not_mix(engine):
    """Each frame of a mixed batch is what it is alone, also when the pool had to grow."""
    pool, poses = engine.renderer.pool, np.arange(3) % POSES
    before = len(pool.table)
    count = before // 128 + 1
    tracks = [engine.track(noise(6, seed) if seed < 3 else None) for seed in range(count)]
    assert len(pool.table) > before

    rows = np.concatenate([track.rows(np.array([3])) for track in tracks[:3]])
    together = engine.submit(rows, poses).images().astype(int)
    for k in range(3):
        alone = engine.render(noise(6, k), np.array([3]), poses[k : k + 1])
        assert np.abs(alone[0] - together[k]).max() <= 1
    other = engine.render(noise(6, 1), np.array([3]), poses[:1])
    assert np.abs(other[0] - together[0]).max() > 0

    for track in tracks:
        track.close()
    assert pool._free == [(1, len(pool.table))]


@pytest.mark.parametrize(
    ("degree", "count", "precision", "least"),
    [(3, 5, "float32", 60), (0, 1, "float16", 45)],
)
def test_frames_by_bases_are_those_of_the_torch_renderer(tmp_path, degree, count, precision, least):
    avatar = avatar_with_bases(tmp_path, 70, 16, degree=degree, channels=3, count=count)
    engine = Engine(avatar, precision, deform="bases")
    reference = Engine(avatar, renderer="torch", deform="bases")
    assert isinstance(engine.renderer, CudaGraphRenderer)
    features = torch.from_numpy(code_rows(np.random.default_rng(0).normal(0, 0.7, (3, WIDTH))))
    images, expected = (np.stack(list(e.stream(features, batch=2))) for e in (engine, reference))
    assert min(map(psnr, images, expected)) >= least
    assert np.abs(expected[0].astype(int) - expected[1]).max() > 3
    network = np.stack(list(Engine(avatar, "float32", renderer="torch").stream(features)))
    assert max(map(psnr, network, expected)) < 40, "the bases are seen"
