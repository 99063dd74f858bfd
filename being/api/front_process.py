"""A front process: it serves the clients whose connections the supervisor passes to it.

    python -m being.api.front_process CONFIG

CONFIG is JSON, see `FrontConfig`. The process ends when its parent ends.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn

from being.api.door import Door
from being.api.front import Front
from being.api.limits import Access, Limits
from being.api.server import LiveWebSocketProtocol, create_app
from being.api.talk_options import TalkOptions, new_service
from being.api.tickets import TicketAccess
from being.api.web_avatars import WebAvatars
from being.session.avatar_facts import AvatarFacts
from being.session.render_client import RenderClient
from being.threads import forget_startup

PING_S = 10.0  # between pings, and for their answers
SHUTDOWN_S = 3
PLAIN_LOOP = "BEING_PLAIN_LOOP"  # a variable of the environment; set: asyncio's own event loop
START_LOOK_S = 0.01  # between looks whether the server has started


@dataclass(frozen=True)
class FrontConfig:
    """What a front process is told, as JSON on its command line."""

    door: int  # descriptor of the socket through which connections come, see `placement.py`
    parent: int  # descriptor of a pipe that closes when the parent ends
    renderer: str  # path of the render process's socket
    facts: list[str]  # files of the avatars' facts
    slots: int  # the most sessions
    token: str | None
    origins: list[str]
    voice: str
    certificate: str | None  # PEM files
    key: str | None
    talk: str | None = None  # file of the options of conversations
    ticket_key: str | None = None  # hexadecimal; sessions are placed, and need a ticket
    ledger: str | None = None  # path of the supervisor's `SessionLedger`
    drawn_slots: int = 0  # the most sessions whose clients draw
    web_bundles: dict[str, str] | None = None  # by avatar, see `ServeOptions`
    web_modules: str | None = None

    def to_json(self) -> str:
        """The configuration for the command line."""
        return json.dumps(asdict(self))


def uvicorn_config(app: object, limits: Limits, **settings: object) -> uvicorn.Config:
    """The settings of uvicorn for live sessions."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        ws=LiveWebSocketProtocol,
        ws_max_size=limits.message_bytes,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PING_S,
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,  # addresses hold the token
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        **settings,  # type: ignore[arg-type]
    )


async def _serve(config: FrontConfig) -> None:
    facts = [AvatarFacts.load(Path(file)) for file in config.facts]
    limits = Limits()
    access = Access(config.token, frozenset(config.origins))
    if config.ticket_key is not None:
        access = TicketAccess(key=bytes.fromhex(config.ticket_key))

    web = WebAvatars(
        {name: Path(folder) for name, folder in (config.web_bundles or {}).items()},
        None if config.web_modules is None else Path(config.web_modules),
    )

    def load_front() -> Front:
        client = RenderClient(config.renderer, facts, config.slots, config.drawn_slots)
        talk = None
        if config.talk is not None:
            talk = new_service(TalkOptions.load(Path(config.talk)))
        front = Front(
            client,
            limits,
            access,
            voice=config.voice,
            talk=talk,
            ledger=config.ledger,
            web=web,
            drawn_sessions=config.drawn_slots,
        )
        front.warm_up()
        forget_startup()
        return front

    settings: dict[str, object] = {}
    if config.certificate is not None:
        settings |= {"ssl_certfile": config.certificate, "ssl_keyfile": config.key}
    server = uvicorn.Server(uvicorn_config(create_app(load_front, web=web), limits, **settings))

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    loop.add_reader(config.parent, stop)
    door = asyncio.create_task(_open_door(socket.socket(fileno=config.door), server, limits))
    await server.serve(sockets=[])
    door.cancel()
    loop.remove_reader(config.parent)


async def _open_door(end: socket.socket, server: uvicorn.Server, limits: Limits) -> None:
    """Take connections once the server has started."""
    while not server.started:
        await asyncio.sleep(START_LOOK_S)
    await Door(end, server, limits.request_s).run()


def main() -> None:
    """Run the process; see the module."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    work = _serve(FrontConfig(**json.loads(sys.argv[1])))
    # Where it is installed, an event loop in C.
    if importlib.util.find_spec("uvloop") and not os.environ.get(PLAIN_LOOP):
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
