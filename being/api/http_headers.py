"""Headers of every answer that is sent over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI, Request, Response


def add_headers(app: FastAPI, headers: Mapping[str, str]) -> None:
    """Give every answer of `app` these headers, unless it has its own."""

    @app.middleware("http")
    async def with_headers(
        request: Request, following: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await following(request)
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response
