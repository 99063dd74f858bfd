"""The render process: one a GPU, or one on a CPU. It serves the sessions of all front processes.

    python -m being.session.render_process CONFIG

CONFIG is JSON, see `render_config.py`. The process listens on a socket that it inherits, so fronts
can connect while it is being started again. It writes the facts of its avatars, then `ready` to
stdout. It ends when its parent ends.
"""

from __future__ import annotations

import json
import selectors
import signal
import socket
import sys
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from being.audio.causal_conformer import shipped_weights
from being.errors import BeingError
from being.inference.engine import Engine
from being.inference.i420 import JPEG_COLOURS, VIDEO_COLOURS, Colours
from being.inference.live_look import FILMED, live_look
from being.inference.mouth_batch import MouthBatch, MouthBatchRunner
from being.provenance.mark import identity_of
from being.provenance.watermark import Watermark
from being.session.admission import Admission
from being.session.avatar_facts import AvatarFacts
from being.session.capacity import drawn_capacity, front_capacity, measured_capacity
from being.session.engine_facts import avatar_facts
from being.session.feature_worker import FeatureWorker
from being.session.refusals import Refusal
from being.session.render_config import RenderConfig
from being.session.render_link import (
    FrontMemory,
    Kind,
    MemoryLayout,
    MessageReader,
    pack_code,
    pack_done,
    pack_json,
    unpack_order,
    unpack_slot,
    unpack_sound,
)
from being.session.render_worker import PictureJob, RenderWorker
from being.threads import forget_startup

IDLE_S = 0.5  # longest wait for a message
READ_BYTES = 1 << 16


class Front:
    """A connected front process."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.reader = MessageReader()
        self.memory: FrontMemory | None = None
        # Slot -> key of its session, which no later session of the slot has; key of its facts,
        # address, colours, width of its features.
        self.keys: dict[int, Hashable] = {}
        self.avatars: dict[int, str] = {}
        self.addresses: dict[int, str] = {}
        self.colours: dict[int, Colours] = {}
        self.widths: dict[int, int] = {}
        self.drawn = set[int]()  # slots whose clients draw
        self.outgoing = bytearray()


class RenderProcess:
    """Serves the orders of all fronts until its parent ends."""

    def __init__(
        self,
        listener: socket.socket,
        workers: dict[str, RenderWorker],
        facts: list[AvatarFacts],
        admission: Admission,
        features: dict[str, FeatureWorker] | None = None,
        drawn_admission: Admission | None = None,
    ):
        """workers, features: by the key of the avatar's facts. drawn_admission: of sessions whose
        clients draw; this process only counts them, for all fronts. None: there are none.
        """
        self.workers, self.features, self.admission = workers, features or {}, admission
        self.drawn_admission = drawn_admission or Admission(0, 0)
        self.facts = {known.key: known for known in facts}
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)
        self.fronts: set[Front] = set()
        self.running = True
        self._descriptors: dict[Front, list[int]] = {}
        self._places: dict[Hashable, tuple[Front, int]] = {}  # by the key of a session

    def watch_parent(self, pipe: int) -> None:
        """End when the pipe closes."""
        self._selector.register(pipe, selectors.EVENT_READ, "parent")

    def run(self) -> None:
        """Serve until the parent ends."""
        while self.running:
            self.step()

    def step(self) -> None:
        """Read what has come, render one batch for each avatar, answer."""
        busy = any(worker.busy for worker in self.workers.values())
        busy = busy or any(worker.busy for worker in self.features.values())
        for key, _ in self._selector.select(0 if busy else IDLE_S):
            if key.data == "parent":
                self.running = False
            elif key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, Front):
                self._read(key.data)
        # Features first: they are short, and the next pictures need them.
        for features in self.features.values():
            for made in features.tick():
                front, slot = self._places[made.session]
                front.outgoing += pack_code(slot, made.utterance, made.frame, made.code)
        for worker in self.workers.values():
            for job in worker.tick():
                self._done(job)
        for front in list(self.fronts):
            self._flush(front)

    def close(self) -> None:
        """Let all fronts go."""
        for front in list(self.fronts):
            self._drop(front)
        self._selector.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        front = Front(connection)
        self.fronts.add(front)
        self._selector.register(connection, selectors.EVENT_READ, front)

    def _read(self, front: Front) -> None:
        try:
            content, descriptors, _, _ = socket.recv_fds(front.connection, READ_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            content, descriptors = b"", []
        if descriptors:
            self._descriptors.setdefault(front, []).extend(descriptors)
        if not content:
            self._drop(front)
            return
        for kind, body in front.reader.push(content):
            self._handle(front, kind, body)

    def _handle(self, front: Front, kind: Kind, body: bytes) -> None:
        if kind is Kind.ORDER:
            assert front.memory is not None
            slot, buffer, token, order = unpack_order(body, front.memory, front.widths)
            if slot in front.keys:
                name = front.avatars[slot]
                picture = front.memory.picture(slot, buffer, self.facts[name].picture_bytes)
                key = front.keys[slot]
                self.workers[name].put(
                    PictureJob(key, order, picture, front.colours[slot], token * 256 + buffer)
                )
        elif kind is Kind.SOUND:
            slot, utterance, first, frames, samples = unpack_sound(body)
            found = self.features.get(front.avatars.get(slot, ""))
            if found is not None and slot in front.keys:
                found.put(front.keys[slot], utterance, first, frames, samples)
        elif kind is Kind.OPEN:
            self._open(front, json.loads(body))
        elif kind is Kind.CLOSE:
            self._close(front, unpack_slot(body))
        elif kind is Kind.HELLO:
            layout = MemoryLayout(**json.loads(body))
            front.memory = FrontMemory(layout, self._descriptors.pop(front)[0])

    def _open(self, front: Front, fields: dict[str, Any]) -> None:
        """Admit a session, or say why not."""
        slot, address = fields["slot"], fields["address"]
        drawn: bool = fields["drawn"]
        admission = self.drawn_admission if drawn else self.admission
        answer: dict[str, Any] = {"slot": slot, "ok": True}
        try:
            admission.enter(address, fields["again"])
        except Refusal as refusal:
            answer |= {
                "ok": False,
                "error": [refusal.name, refusal.what, refusal.why, refusal.fix, refusal.close],
            }
        else:
            self._take(front, slot, fields)
        answer |= {
            "sessions": self.admission.sessions,
            "limit": self.admission.limit,
            "drawn_sessions": self.drawn_admission.sessions,
            "drawn_limit": self.drawn_admission.limit,
        }
        front.outgoing += pack_json(Kind.OPENED, answer)

    def _take(self, front: Front, slot: int, fields: dict[str, Any]) -> None:
        """Prepare for a session that was admitted."""
        name = front.avatars[slot] = fields["avatar"]
        front.addresses[slot] = fields["address"]
        if fields["drawn"]:
            front.drawn.add(slot)
        else:
            front.colours[slot] = JPEG_COLOURS if fields["codec"] == "jpeg" else VIDEO_COLOURS
            front.widths[slot] = self.facts[name].width
            key = front.keys[slot] = object()
            self._places[key] = (front, slot)
            self.workers[name].open(key, self.facts[name].silent_row)
            if name in self.features:
                self.features[name].open(key)

    def _close(self, front: Front, slot: int) -> None:
        name = front.avatars.pop(slot, None)
        if name is not None and slot in front.drawn:
            front.drawn.discard(slot)
            self.drawn_admission.leave(front.addresses.pop(slot))
        elif name is not None:
            key = front.keys.pop(slot)
            self.workers[name].close(key)
            if name in self.features:
                self.features[name].close(key)
            del self._places[key]
            self.admission.leave(front.addresses.pop(slot))

    def _done(self, job: PictureJob) -> None:
        front, slot = self._places[job.session]
        token, buffer = divmod(job.token, 256)
        front.outgoing += pack_done(slot, buffer, token)

    def _flush(self, front: Front) -> None:
        if not front.outgoing:
            return
        try:
            sent = front.connection.send(front.outgoing)
            del front.outgoing[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(front)

    def _drop(self, front: Front) -> None:
        """A front has ended: free all that its sessions held."""
        if front not in self.fronts:
            return
        self.fronts.discard(front)
        self._selector.unregister(front.connection)
        front.connection.close()
        for slot in list(front.avatars):
            self._close(front, slot)
        if front.memory is not None:
            front.memory.close()


def main() -> None:
    """Run the process; see the module. An error of the start is told on stdout, as JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    try:
        process, limit = _start(RenderConfig(**json.loads(sys.argv[1])))
    except BeingError as error:
        fields = [error.what, error.why, error.fix, int(error.code)]
        print(json.dumps({"ready": False, "error": fields}), flush=True)
        sys.exit(int(error.code))
    forget_startup()
    limits = {"limit": limit, "drawn_limit": process.drawn_admission.limit}
    print(json.dumps({"ready": True, **limits}), flush=True)
    process.run()
    process.close()


def _start(config: RenderConfig) -> tuple[RenderProcess, int]:
    """The process with its avatars loaded, and its limit of sessions."""
    workers: dict[str, RenderWorker] = {}
    facts: list[AvatarFacts] = []
    for name, folder in config.avatars.items():
        filmed = Engine.load(
            Path(folder),
            config.device,
            config.precision,
            rasterizer=config.rasterizer,
            deform=config.deform,
        )
        identity = identity_of(filmed.avatar.manifest)
        watermark = Watermark(identity) if config.watermark else None
        for text in (FILMED, *config.looks):
            look, engine = live_look(filmed.avatar, text), filmed
            if look.avatar is not filmed.avatar:
                engine = Engine(
                    look.avatar,
                    config.precision,
                    rasterizer=config.rasterizer,
                    deform=config.deform,
                )
            found = avatar_facts(engine, name, watermark, look)
            workers[found.key] = RenderWorker(engine, watermark, look)
            wanted = config.batched_features
            batched = engine.device.type == "cuda" if wanted is None else wanted
            facts.append(replace(found, batched=batched and found.can_be_batched))
            facts[-1].save(Path(config.facts) / f"{len(facts) - 1}.npz")

    limit = config.limit
    if not limit:
        limit = min(
            min(measured_capacity(workers[known.key], known), front_capacity(known, config.fronts))
            for known in facts
        )
    for worker in workers.values():
        worker.warm_up(limit)
    features = {
        known.key: _feature_worker(known, workers[known.key].engine.device, limit)
        for known in facts
        if known.batched
    }
    listener = socket.socket(fileno=config.listener)
    drawable = [known for known in facts if known.net is not None]
    drawn_limit = config.drawn_limit
    if not drawn_limit and drawable:
        drawn_limit = min(drawn_capacity(known, config.fronts) for known in drawable)
    process = RenderProcess(
        listener,
        workers,
        facts,
        Admission(limit, config.limit_by_address),
        features,
        Admission(drawn_limit if drawable else 0, config.limit_by_address),
    )
    process.watch_parent(config.parent)
    return process, limit


def _feature_worker(facts: AvatarFacts, device: torch.device, limit: int) -> FeatureWorker:
    """The feature worker of an avatar, for `limit` sessions."""
    assert facts.voice is not None
    # One stream more: it fills up batches.
    mouths = MouthBatch(shipped_weights(), facts.voice, limit + 1, device)
    worker = FeatureWorker(MouthBatchRunner(mouths))
    worker.warm_up(limit)
    return worker


if __name__ == "__main__":
    main()
