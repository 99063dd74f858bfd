"""The render worker: sessions in one batch give what each gives alone; nothing is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_avatar import SIZE, WIDTH, tiny_avatar

from being.inference.engine import Engine
from being.inference.i420 import VIDEO_COLOURS, i420_bytes, write_i420
from being.provenance.watermark import Watermark
from being.session.admission import Admission
from being.session.live_session import KEPT_ROWS, SILENT_ROW, FrameOrder
from being.session.refusals import Refusal
from being.session.render_worker import MAX_BATCH, PictureJob, RenderWorker

SILENCE = np.full((16, WIDTH), 0.1, np.float32)


def row(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(0, 30, (16, WIDTH)).astype(np.float32)


def order(frame: int, seed: int = 0) -> FrameOrder:
    """The order for a frame whose window holds the rows frame - 4 to frame + 3 of a session."""
    window = np.arange(frame - 4, frame + 4, dtype=np.int32)
    window[window < 0] = SILENT_ROW
    first = 0 if frame == 0 else frame + 3
    rows = [(number, row(1000 * seed + number)) for number in range(first, frame + 4)]
    return FrameOrder(frame % 5, np.array([0.3], np.float32), window, rows)


def job(session: str, made: FrameOrder, token: int = 0) -> PictureJob:
    return PictureJob(session, made, np.zeros(i420_bytes(SIZE), np.uint8), VIDEO_COLOURS, token)


@pytest.fixture
def worker(tmp_path: Path) -> RenderWorker:
    return RenderWorker(Engine(tiny_avatar(tmp_path), precision="float32"))


def drain(worker: RenderWorker) -> list[PictureJob]:
    finished = []
    while worker.busy:
        finished += worker.tick()
    return finished


def test_sessions_in_one_batch_get_the_pictures_of_their_own_features(
    worker: RenderWorker,
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        worker.open(name, SILENCE)
    for frame in range(40):
        for seed, name in enumerate(names):
            worker.put(job(name, order(frame, seed), frame))
        batches = worker.batches
        finished = drain(worker)
        assert worker.batches == batches + 1 and [done.session for done in finished] == names
        if frame < 4:
            continue
        # The engine, with the same features in a track. Batches of another size round differently.
        other = finished[1].out.astype(int) - finished[0].out
        assert np.abs(other).mean() > 0.02
        for seed, done in enumerate(finished):
            features = np.stack([row(1000 * seed + n) for n in range(frame - 4, frame + 4)])
            image = worker.engine.render(
                torch.from_numpy(features),
                np.array([4]),
                np.array([frame % 5]),
                np.array([[0.3]], np.float32),
            )[0]
            expected = np.zeros_like(done.out)
            write_i420(image, expected, VIDEO_COLOURS)
            assert np.abs(done.out.astype(int) - expected).mean() < 0.2 * np.abs(other).mean()


def test_pictures_of_sessions_carry_the_watermark(tmp_path: Path) -> None:
    engine, watermark = Engine(tiny_avatar(tmp_path), precision="float32"), Watermark("5a" * 32)
    pictures = []
    for mark in (None, watermark):
        worker = RenderWorker(engine, mark)
        worker.open("a", SILENCE)
        worker.put(job("a", order(0)))
        pictures.append(drain(worker)[0].out.copy())
        worker.close("a")
    plain, marked = pictures
    luma = plain[: SIZE * SIZE].reshape(SIZE, SIZE).copy()
    watermark.add(luma)
    assert (marked[: SIZE * SIZE] == luma.ravel()).all() and (marked != plain).any()
    assert (marked[SIZE * SIZE :] == plain[SIZE * SIZE :]).all(), "colours stay"


def test_closed_sessions_leave_nothing_behind(worker: RenderWorker) -> None:
    free = list(worker.engine.renderer.pool._free)
    for k in range(50):
        worker.open(k, SILENCE)
        worker.put(job(k, order(0)))  # type: ignore[arg-type]
    for k in range(50):
        worker.close(k)
        worker.close(k)
    assert not drain(worker) and not worker.sessions
    assert worker.engine.renderer.pool._free == free
    worker.put(job("unknown", order(0)))
    assert not worker.busy


def test_a_large_queue_is_rendered_in_several_batches(worker: RenderWorker) -> None:
    for k in range(MAX_BATCH + 5):
        worker.open(str(k), SILENCE)
        worker.put(job(str(k), order(0)))
    assert len(drain(worker)) == MAX_BATCH + 5 and worker.batches == 2
    assert KEPT_ROWS >= 24


def test_the_house_is_full_and_an_address_has_its_share() -> None:
    admission = Admission(limit=3, limit_by_address=2)
    admission.enter("a")
    admission.enter("a")
    with pytest.raises(Refusal, match="your address") as refused:
        admission.enter("a")
    assert refused.value.name == "too_many_sessions" and refused.value.close == 4429
    admission.enter("b")
    with pytest.raises(Refusal, match="3 of 3") as refused:
        admission.enter("c")
    assert refused.value.name == "full"
    admission.leave("a")
    admission.enter("c")


def test_clients_of_this_machine_share_no_limit_by_address() -> None:
    admission = Admission(limit=20, limit_by_address=2)
    for _ in range(20):
        admission.enter("")
    with pytest.raises(Refusal, match="20 of 20"):
        admission.enter("")
