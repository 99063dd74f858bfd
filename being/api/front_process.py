"""A front process: it serves clients on a port that other front processes serve too.

    python -m being.api.front_process CONFIG

CONFIG is JSON, see `FrontConfig`. The process ends when its parent ends.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn

from being.api.front import Front
from being.api.limits import Access, Limits
from being.api.server import LiveWebSocketProtocol, create_app
from being.api.talk_options import TalkOptions, new_service
from being.api.tickets import TicketAccess
from being.session.avatar_facts import AvatarFacts
from being.session.render_client import RenderClient
from being.threads import forget_startup

QUEUE = 1024  # connections that wait to be accepted on a socket of its own
PING_S = 10.0  # between pings, and for their answers
SHUTDOWN_S = 3


@dataclass(frozen=True)
class FrontConfig:
    """What a front process is told, as JSON on its command line."""

    listener: int  # descriptor of the socket to listen on
    own: bool  # it is this process's own and does not listen yet; else the parent listens on it
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

    def to_json(self) -> str:
        """The configuration for the command line."""
        return json.dumps(asdict(self))


class SharedListener(socket.socket):
    """The listening socket of the parent. Its queue is the parent's; one accept each time."""

    def listen(self, backlog: int = 0) -> None:
        """The parent listens already; another length would shrink its queue."""


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

    def load_front() -> Front:
        client = RenderClient(config.renderer, facts, config.slots)
        talk = None
        if config.talk is not None:
            talk = new_service(TalkOptions.load(Path(config.talk)))
        front = Front(client, limits, access, voice=config.voice, talk=talk, ledger=config.ledger)
        front.warm_up()
        forget_startup()
        return front

    # On a shared socket one accept at a time, so that the connections spread over the processes.
    settings: dict[str, object] = {"backlog": QUEUE if config.own else 1}
    if config.certificate is not None:
        settings |= {"ssl_certfile": config.certificate, "ssl_keyfile": config.key}
    server = uvicorn.Server(uvicorn_config(create_app(load_front), limits, **settings))

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    loop.add_reader(config.parent, stop)
    listener = (socket.socket if config.own else SharedListener)(fileno=config.listener)
    await server.serve(sockets=[listener])
    loop.remove_reader(config.parent)


def main() -> None:
    """Run the process; see the module."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    asyncio.run(_serve(FrontConfig(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
