"""Runs the processes of the live server: one render process, N front processes; restarts them.

The supervisor holds the port and serves nobody itself: it accepts connections and passes each to
the front with the fewest (`placement.py`). So a front that is killed takes only its own sessions
along, and clients can connect while the render process, or a front, starts again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from being.api.front_process import FrontConfig
from being.api.metrics import DIRECTORY, forget_process
from being.api.placement import Placement
from being.api.readiness import bound_socket
from being.api.session_ledger import SessionLedger
from being.api.talk_options import TalkOptions
from being.console import console
from being.errors import BeingError, EnvironmentFault, ExitCode
from being.session.render_config import RenderConfig
from being.threads import allowed_cores

START_S = 300.0  # for the render process to load its avatars
HEALTH_S = 2.0  # for an answer to a question for health
STOP_S = 5.0  # for a process to end
# A process that ends sooner than this after its start is started again more slowly each time.
SHORT_LIFE_S, LONGEST_PAUSE_S = 10.0, 8.0
QUEUE = 1024  # connections that wait to be accepted
# Threads of libraries in the processes of fronts: more of them only wait for each other.
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@dataclass(frozen=True)
class ServeOptions:
    """What `being serve` is asked for."""

    avatars: dict[str, Path]  # name -> folder of the bundle
    host: str = "127.0.0.1"
    port: int = 8000
    fronts: int | None = None  # default: the number of cores less one
    limit: int = 0  # sessions; 0: as many as the device renders
    limit_by_address: int = 8
    drawn_limit: int = 0  # sessions whose clients draw; 0: as many as the fronts serve
    # Name of an avatar -> its bundle for clients that draw (`being export --web`), offered to them.
    web_bundles: dict[str, Path] = field(default_factory=dict)
    # Modules with which the page draws them; None: the page has its pictures from the server.
    web_modules: Path | None = None
    token: str | None = None
    origins: list[str] = field(default_factory=list)
    certificate: Path | None = None
    key: Path | None = None
    device: str = "cpu"
    precision: str = "auto"
    rasterizer: str = "auto"
    voice: str = "hibari"
    # Whether the render process computes speech features; None: on a GPU.
    batched_features: bool | None = None
    watermark: bool = True  # of the pictures
    deform: str = "network"  # what moves the Gaussians, or "bases"
    looks: tuple[str, ...] = ()  # that clients may choose, see `inference.live_look`
    talk: TalkOptions | None = None  # None: no conversations
    # Signs the tickets of sessions that are placed, hexadecimal; None: no tickets are needed.
    ticket_key: str | None = None


def default_fronts() -> int:
    """Front processes by default: one core is left to the render process."""
    return max(1, allowed_cores() - 1)


class _Child:
    """A process that is started again when it ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[str] | None = None
        self.started = 0.0
        self.pause = 0.0
        self.starts = 0

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


class Supervisor:
    """Starts the processes, watches them, and ends them."""

    def __init__(self, options: ServeOptions):
        """Raises EnvironmentFault where the port cannot be used."""
        self.options = options
        fronts = options.fronts or default_fronts()
        self._listener = _listen(options.host, options.port)
        self._placement = Placement(self._listener)
        self._folder = tempfile.TemporaryDirectory(prefix="being-")
        folder = Path(self._folder.name)
        self._facts = folder / "facts"
        self._facts.mkdir()
        self._talk = None if options.talk is None else options.talk.save(folder / "talk.json")
        (folder / "metrics").mkdir()
        self._environment = {
            **os.environ,
            DIRECTORY: str(folder / "metrics"),
            "PYTHONUNBUFFERED": "1",
        }
        # At its import the client decides where it counts: this process counts in memory.
        import prometheus_client  # noqa: F401

        os.environ[DIRECTORY] = str(folder / "metrics")
        self.ledger: SessionLedger | None = None
        self._ledger_path: str | None = None
        if options.ticket_key is not None:
            self._ledger_path = str(folder / "ledger")
            self.ledger = SessionLedger(Path(self._ledger_path))
        self._path = str(folder / "render")
        self._renderer_listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._renderer_listener.bind(self._path)
        self._renderer_listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self._parent_read, self._parent_write = os.pipe()
        self.limit, self.drawn_limit = options.limit, options.drawn_limit
        self._renderer = _Child("render")
        self._fronts = [_Child(f"front {number}") for number in range(fronts)]
        self._stopping = threading.Event()
        self._told: dict[int, float] = {}  # id of an ended process -> when it is started again

    def start(self) -> None:
        """Start all processes; returns when sessions can be served.

        Raises the error of a render process that cannot start.
        """
        self._start_renderer()
        self._wait_for_renderer()
        for front in self._fronts:
            self._start_front(front)
        self._wait_for_fronts()

    def watch(self) -> None:
        """Start processes again that end, until `stop`."""
        while not self._stopping.wait(0.05):
            self.look()

    def look(self) -> None:
        """Look once whether a process has ended, and start it again when its pause is over."""
        now = time.monotonic()
        for child in [self._renderer, *self._fronts]:
            if not child.ended():
                continue
            assert child.process is not None
            if child.process.pid in self._told:
                if now >= self._told[child.process.pid]:
                    del self._told[child.process.pid]
                    self._start_again(child)
                continue
            life = now - child.started
            child.pause = (
                0.0 if life > SHORT_LIFE_S else min(LONGEST_PAUSE_S, 2 * child.pause + 0.1)
            )
            self._told[child.process.pid] = now + child.pause
            forget_process(child.process.pid)
            console.warn(
                f"the {child.name} process ended with code {child.process.returncode}; "
                "it is started again"
            )

    def _start_again(self, child: _Child) -> None:
        if child is self._renderer:
            self._start_renderer()
            threading.Thread(target=self._drain_renderer, daemon=True).start()
        else:
            self._start_front(child)

    def stop(self) -> None:
        """End `watch`."""
        self._stopping.set()

    def close(self) -> None:
        """End all processes and free everything."""
        self._stopping.set()
        self._placement.close()
        children = [child.process for child in [*self._fronts, self._renderer] if child.process]
        with contextlib.suppress(OSError):
            os.close(self._parent_write)
        deadline = time.monotonic() + STOP_S
        for process in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        with contextlib.suppress(OSError):
            os.close(self._parent_read)
        self._listener.close()
        self._renderer_listener.close()
        if self.ledger is not None:
            self.ledger.close()
        if os.environ.get(DIRECTORY, "").startswith(self._folder.name):
            del os.environ[DIRECTORY]
        self._folder.cleanup()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def render_pid(self) -> int:
        """The id of the render process."""
        assert self._renderer.process is not None
        return self._renderer.process.pid

    @property
    def front_pids(self) -> list[int]:
        """The ids of the front processes."""
        return [front.process.pid for front in self._fronts if front.process is not None]

    @property
    def serving(self) -> int:
        """Front processes that take connections."""
        return self._placement.serving

    def _start_renderer(self) -> None:
        options = self.options
        config = RenderConfig(
            {name: str(folder) for name, folder in options.avatars.items()},
            str(self._facts),
            self._renderer_listener.fileno(),
            self._parent_read,
            options.device,
            options.precision,
            options.rasterizer,
            self.limit,
            options.limit_by_address,
            len(self._fronts),
            options.batched_features,
            options.watermark,
            options.deform,
            options.looks,
            self.drawn_limit,
        )
        self._run(
            self._renderer,
            "being.session.render_process",
            config.to_json(),
            self._renderer_listener.fileno(),
            self._environment,
        )

    def _start_front(self, child: _Child) -> None:
        options = self.options
        door = self._placement.new_door()
        config = FrontConfig(
            door.fileno(),
            self._parent_read,
            self._path,
            [
                str(self._facts / f"{number}.npz")
                for number in range(len(options.avatars) * (1 + len(options.looks)))
            ],
            self.limit,
            options.token,
            options.origins,
            options.voice,
            str(options.certificate) if options.certificate else None,
            str(options.key) if options.key else None,
            str(self._talk) if self._talk else None,
            options.ticket_key,
            self._ledger_path,
            self.drawn_limit,
            {name: str(folder) for name, folder in options.web_bundles.items()},
            None if options.web_modules is None else str(options.web_modules),
        )
        environment = {**self._environment, **ONE_THREAD}
        with door:
            self._run(
                child, "being.api.front_process", config.to_json(), door.fileno(), environment
            )

    def _run(
        self, child: _Child, module: str, config: str, descriptor: int, environment: dict[str, str]
    ) -> None:
        """Start a process with a socket and the pipe that tells it of our end."""
        renders = child is self._renderer
        if child.process is not None and child.process.stdout is not None:
            child.process.stdout.close()
        child.process = subprocess.Popen(
            [sys.executable, "-m", module, config],
            pass_fds=[descriptor, self._parent_read],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if renders else None,
            text=True,
            # Ctrl-C reaches this process alone, which then ends the others.
            start_new_session=True,
        )
        child.started = time.monotonic()
        child.starts += 1

    def _wait_for_renderer(self) -> None:
        """Wait until the avatars are loaded; raise the error where they cannot be."""
        process = self._renderer.process
        assert process is not None and process.stdout is not None
        line = process.stdout.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            raise BeingError(
                "the render process could not start",
                f"it ended with code {process.wait()}",
                "Its messages stand above",
            ) from None
        if not answer["ready"]:
            what, why, fix, code = answer["error"]
            raise BeingError(what, why, fix, ExitCode(code))
        # A render process that is started again admits as many as this one measured.
        self.limit, self.drawn_limit = answer["limit"], answer["drawn_limit"]
        threading.Thread(target=self._drain_renderer, daemon=True).start()

    def _drain_renderer(self) -> None:
        """Read what the render process prints, so that it never waits for us."""
        process = self._renderer.process
        with contextlib.suppress(ValueError, OSError):
            if process is not None and process.stdout is not None:
                for _ in process.stdout:
                    pass

    def _wait_for_fronts(self) -> None:
        """Wait until a front answers. Raises BeingError when all have ended."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if all(front.ended() for front in self._fronts):
                break
            if self.healthy():
                return
            time.sleep(0.05)
        raise BeingError(
            "no front process could start",
            "they ended, or do not answer",
            "Their messages stand above",
        )

    def healthy(self) -> bool:
        """Whether a front answers that it can serve."""
        host = "127.0.0.1" if self.options.host in ("0.0.0.0", "::", "") else self.options.host
        try:
            return self._healthy(host)
        except OSError:
            return False

    def _healthy(self, host: str) -> bool:
        """Whether a front answers that it can serve. Raises OSError while none answers.

        The port is ours, so a connection alone says nothing.
        """
        with socket.create_connection((host, self.port), HEALTH_S) as plain:
            connection: socket.socket = plain
            if self.options.certificate is not None:
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection = context.wrap_socket(plain)
            with connection:
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(64)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the port. Raises EnvironmentFault where it cannot be used."""
    try:
        listener = bound_socket(host, port)
        listener.listen(QUEUE)
        return listener
    except OSError as error:
        raise EnvironmentFault(
            f"cannot listen on {host} port {port}",
            error.strerror or str(error),
            "Choose another port with --port, or 0 for any free one",
        ) from error


def end_on_signals(supervisor: Supervisor) -> None:
    """Make Ctrl-C and SIGTERM end `Supervisor.watch`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.stop())
