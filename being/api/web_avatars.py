"""What clients load that draw by themselves: bundles of avatars, and the modules that draw them.

The modules are as open as the page. A bundle is an avatar: it needs the token, and pages of other
hosts get it under the rule of sessions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from being.api.limits import Access
from being.api.messages import error_message
from being.session.refusals import Refusal

BUNDLES, MODULES = "web-avatars", "web-avatar-modules"  # parts of addresses


@dataclass(frozen=True)
class WebAvatars:
    """Folders on this machine."""

    bundles: dict[str, Path] = field(default_factory=dict)  # by the name of the avatar
    modules: Path | None = None

    def address_of(self, avatar: str) -> str | None:
        """The address of an avatar's bundle, relative to the page; None where it has none."""
        return f"{BUNDLES}/{quote(avatar, safe='')}/" if avatar in self.bundles else None

    def serve(self, app: FastAPI) -> None:
        """Add the addresses to an application whose state has a front."""

        @app.get(
            f"/{BUNDLES}/{{avatar}}/{{file}}",
            response_class=FileResponse,
            responses={403: {}, 404: {}},
        )
        def bundle_file(avatar: str, file: str, request: Request) -> Response:
            """A file of the bundle of an avatar, for a client that draws it."""
            access: Access = app.state.front.access
            hosts = [
                request.headers[name]
                for name in ("host", "x-forwarded-host")
                if name in request.headers
            ]
            try:
                access.check_origin(request.headers.get("origin"), hosts)
                access.check_token(request.query_params.get("token"))
                path = self._file(avatar, file)
            except Refusal as refusal:
                status = 404 if refusal.close == 4404 else 403
                return JSONResponse(error_message(refusal, None), status_code=status)
            return FileResponse(path)

        if self.modules is not None:
            app.mount(f"/{MODULES}", StaticFiles(directory=self.modules), name=MODULES)

    def _file(self, avatar: str, file: str) -> Path:
        """A file of a bundle. Raises Refusal where there is none."""
        folder = self.bundles.get(avatar)
        # Names are compared with those in the folder, so none leads out of it.
        names = {} if folder is None else {path.name: path for path in folder.iterdir()}
        if file not in names:
            raise Refusal(
                "no_bundle",
                f"the avatar {avatar[:100]!r} has no file {file[:100]!r} for clients that draw",
                "it has no bases" if folder is None else "the bundle has other files",
                "Add bases with: being export AVATAR --bases, and start the server again",
                close=4404,
            )
        return names[file]
