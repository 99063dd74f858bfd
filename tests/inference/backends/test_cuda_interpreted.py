"""The engine's kernels give the plain model's pictures (run by Triton's interpreter here)."""

import numpy as np
import pytest
from needs import INTERPRETED

pytest.importorskip("triton")
if not INTERPRETED:
    pytest.skip("runs in Triton's interpreter, by test_interpreted.py", allow_module_level=True)

import torch
from tiny_avatar import POSES, WIDTH, tiny_avatar

from being.inference.backends.cuda.renderer import Batch, GraphHead
from being.inference.backends.torch import PlainHead
from being.inference.engine import Engine
from being.model.folding import record_of


def noise(frames, seed=1):
    return torch.randn(frames, 16, WIDTH, generator=torch.Generator().manual_seed(seed))


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-12))


@pytest.mark.parametrize(("layers", "degree", "channels"), [(1, 3, 1), (2, 1, 4)])
@pytest.mark.parametrize(("precision", "least"), [("float32", 60), ("float16", 45)])
def test_the_plain_model_s_pictures(tmp_path, layers, degree, channels, precision, least):
    avatar = tiny_avatar(tmp_path, 24, 16, layers=layers, degree=degree, channels=channels)
    engine, plain = Engine(avatar, precision), Engine(avatar, "float32", plain=True)
    assert isinstance(engine.head, GraphHead) and isinstance(plain.head, PlainHead)
    features = noise(3)
    mine, true = (np.stack(list(e.stream(features, batch=2))) for e in (engine, plain))
    assert mine.shape == true.shape and min(map(psnr, mine, true)) >= least
    assert np.abs(true[0].astype(int) - true[1]).max() > 3  # poses and sound do show


def test_records_are_those_of_the_plain_tokens(tmp_path):
    """The kernels' records against their torch twin, and the twin against the plain tokens through
    the projections.
    """
    avatar = tiny_avatar(tmp_path, 12, 16, channels=3)
    engine = Engine(avatar, "float32")
    head, features, poses = engine.head, noise(5), np.array([4, 0, 2])
    with engine.sound(features) as sound:
        rows = sound.rows(np.array([0, 2, 4]))
        face = np.random.default_rng(0).random((3, 3), np.float32)
        engine.submit(rows, poses, face).pictures()
        heard = head.sounds.table[torch.from_numpy(rows).long()]
    twin = record_of(head.folded, heard, torch.from_numpy(face), torch.from_numpy(poses))
    batch = head.slots[4][-1].batch
    assert (batch.record[:3] - twin).norm() < 1e-5 * twin.norm()
    plain = Engine(avatar, "float32", plain=True)
    with plain.sound(features) as sound, torch.no_grad():
        tokens = plain.head.tokens(
            plain.head.conditions(sound.rows(np.array([0, 2, 4])), poses, face)
        )
        attention = avatar.model.network.transformer.layers[0].enc_dec_attention
        queries = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(0))
        true, shares = attention(queries, tokens)
    a, c, u = twin.split([64 * 16, 16, 16 * 64], 1)
    logits = (queries @ a.view(3, 64, 16) + c[:, None]).unflatten(2, (4, 4))[:, :, :2]
    assert (logits.softmax(3).transpose(1, 2) - shares).abs().max() < 1e-5
    mixed = torch.einsum("bnhs,bhsd->bnd", logits.softmax(3), u.view(3, 4, 4, 64)[:, :2])
    assert (mixed - true).norm() < 1e-5 * true.norm()


def test_records_of_a_batch_that_fills_two_blocks(tmp_path):
    engine = Engine(tiny_avatar(tmp_path, 12, 16, layers=2), "float32")
    head, poses, face = (
        engine.head,
        np.arange(32) % POSES,
        np.random.default_rng(0).random((32, 1), np.float32),
    )
    with engine.sound(noise(32)) as sound:
        rows = sound.rows(np.arange(32))
        batch = Batch(head, 32)
        batch.given.copy_(
            torch.from_numpy(np.concatenate([rows, poses[:, None], face.view(np.int32)], 1))
        )
        batch.hear()
        batch.make_tokens()
        heard = head.sounds.table[torch.from_numpy(rows).long()]
    twin = record_of(head.folded, heard, torch.from_numpy(face), torch.from_numpy(poses))
    assert (batch.record - twin).norm() < 1e-5 * twin.norm()


def test_pictures_taken_too_late_are_refused(tmp_path):
    """Their memory holds another batch by then."""
    engine = Engine(tiny_avatar(tmp_path, 12, 16), "float32")
    late, *_ = [engine.submit(np.zeros((1, 8), np.int32), np.array([pose])) for pose in range(4)]
    with pytest.raises(AssertionError, match="not taken before"):
        late.pictures()


def test_a_batch_that_needs_more_room_is_rendered_again(tmp_path):
    avatar = tiny_avatar(tmp_path, 24, 16)
    engine, plain = Engine(avatar, "float32"), Engine(avatar, "float32", plain=True)
    engine.head.pairs = 0.0
    features = noise(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "being.inference.backends.cuda.renderer.rounded", lambda pairs: int(pairs) + 1
        )
        patch.setattr("being.inference.backends.cuda.renderer.LEAST_PAIRS", 1)
        mine = engine.render(features, np.array([0, 1]), np.array([0, 3]))
    assert engine.head.pairs > 3
    true = plain.render(features, np.array([0, 1]), np.array([0, 3]))
    assert psnr(mine, true) > 60


def test_many_sounds_in_a_batch_are_heard_apart(tmp_path):
    """Each frame of a mixed batch is what it is alone, also when the table had to grow."""
    engine = Engine(tiny_avatar(tmp_path, 12, 16), "float32")
    before = len(engine.head.sounds.table)
    count = before // 128 + 1
    sounds = [engine.sound(noise(6, seed) if seed < 3 else None) for seed in range(count)]
    assert len(engine.head.sounds.table) > before
    poses = np.arange(3) % POSES
    together = (
        engine.submit(np.concatenate([s.rows(np.array([3])) for s in sounds[:3]]), poses)
        .pictures()
        .copy()
    )
    for k in range(3):
        alone = engine.render(noise(6, k), np.array([3]), poses[k : k + 1])
        assert np.abs(alone[0].astype(int) - together[k]).max() <= 1
    assert (
        np.abs(
            together[0].astype(int) - engine.render(noise(6, 1), np.array([3]), poses[:1])[0]
        ).max()
        > 0
    )
    for sound in sounds:
        sound.close()
    assert engine.head.sounds._free == [(1, len(engine.head.sounds.table))]
