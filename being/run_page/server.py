"""Serves the page of a running training over loopback: `RunPage`.

The page reads the files that every run writes (`runs.run_directory`): its record, `metrics.jsonl`
and `previews/`. Nothing can be changed through it. It listens on this machine's own address alone
and answers requests for that address only, so that a page of another site cannot read a run by a
host name that it points here.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from being.api.http_headers import add_headers
from being.api.limits import is_loopback
from being.errors import BeingError, EnvironmentFault
from being.reading.content import Unreadable
from being.reading.structured import parse_json
from being.runs.run_directory import Run

HOST = "127.0.0.1"
DEFAULT_PORT = 8092
PAGE = Path(__file__).parent / "page"
PREVIEW = re.compile(r"(sheet|preview)_(coarse|fine)_\d{6,9}\.(jpg|mp4)")
MOST_ROWS, MOST_LINE = 2_000, 1 << 16  # of one answer: rows, and bytes of a row
START_S = 10.0
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'",
}


class RunPage:
    """Serves the page in a thread; a context manager.

    Raises EnvironmentFault when the port is taken.
    """

    def __init__(self, port: int = DEFAULT_PORT):
        """port: 0 takes any free one."""
        self._run: Path | None = None
        self._socket = _listen(port)
        app = create_app(lambda: self._run)
        config = uvicorn.Config(
            app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="run page", daemon=True
        )

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://localhost:{self._socket.getsockname()[1]}/"

    def show(self, run: Path) -> None:
        """Show the run at `run` from now on."""
        self._run = run

    def __enter__(self) -> RunPage:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(START_S)
        self._socket.close()


def create_app(current: Any) -> FastAPI:
    """The application. current: () -> folder of the shown run, or None before there is one."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # A page that was open before this process asks for everything anew.
    process = secrets.token_hex(8)

    @app.middleware("http")
    async def own_address_only(request: Request, following: Any) -> Response:
        if not is_loopback(_host(request.headers.get("host", ""))):
            return JSONResponse({"error": "only requests for localhost are answered"}, 403)
        response: Response = await following(request)
        return response

    add_headers(app, HEADERS)

    def folder() -> Path:
        run: Path | None = current()
        if run is None or not run.is_dir():
            raise HTTPException(404, "there is no run yet")
        return run

    @app.get("/run")
    def run_facts() -> dict[str, Any]:
        """What the run is, how far it goes, and the names of its previews."""
        return {**_facts(folder()), "process": process}

    @app.get("/metrics")
    def metrics(start: int = 0) -> dict[str, Any]:
        """Rows of `metrics.jsonl` from byte `start` on, and where the next ones begin."""
        return _rows(folder() / "metrics.jsonl", start)

    @app.get("/previews/{name}")
    def preview(name: str) -> FileResponse:
        """A sheet or a preview video."""
        file = folder() / "previews" / name
        if not PREVIEW.fullmatch(name) or not file.is_file():
            raise HTTPException(404, "there is no such preview")
        return FileResponse(file)

    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _facts(folder: Path) -> dict[str, Any]:
    try:
        run = Run.open(folder)
        config, record = run.config, run.record
    except BeingError as error:
        raise HTTPException(503, error.message()) from error
    previews = folder / "previews"
    files = sorted(previews.iterdir()) if previews.is_dir() else []
    return {
        "name": record.get("name"),
        "folder": str(folder),
        "config": record.get("config"),
        "device": record.get("device"),
        "finished": bool(record.get("finished")),
        "steps": {"coarse": config.train.coarse.steps, "fine": config.train.fine.steps},
        "previews": [
            file.name for file in files if PREVIEW.fullmatch(file.name) and file.is_file()
        ],
    }


def _rows(file: Path, start: int) -> dict[str, Any]:
    """Whole rows from byte `start` on; a file that became shorter is read from its beginning."""
    size = file.stat().st_size if file.is_file() else 0
    if not 0 <= start <= size:
        return {"rows": [], "next": 0, "again": True}
    rows: list[dict[str, Any]] = []
    if size:
        with open(file, "rb") as content:
            content.seek(start)
            while len(rows) < MOST_ROWS:
                line = content.readline(MOST_LINE)
                if not line.endswith(b"\n"):
                    break
                start += len(line)
                row = _row(line)
                if row is not None:
                    rows.append(row)
    return {"rows": rows, "next": start, "again": False}


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line.decode(errors="replace"))
    except Unreadable:
        return None
    if not isinstance(row, dict):
        return None
    # JSON has no NaN, and a browser reads none.
    return {key: value for key, value in row.items() if value == value}


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise EnvironmentFault(
            f"port {port} cannot be used", error.strerror or str(error), "Choose another: --port"
        ) from error
    listener.listen()
    return listener


def _host(header: str) -> str:
    """The name or address in a header `Host`, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
