"""The media repository of the homeserver double: files in memory, with the rules that clients run into.

Only who is logged in may put and fetch files; what is larger than the limit, or not there, is
refused as Synapse does. Not here: thumbnails, previews, files of other servers, the unauthenticated
download. Source: Matrix client-server API 1.16, "Content repository".
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from tests.fakes.rooms import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.rooms import Device

V1 = "/_matrix/client/v1/media"
V3 = "/_matrix/media/v3"
MAX_UPLOAD = 50 * 1024 * 1024
_PIECE = 65_536


@dataclass(frozen=True, slots=True)
class File:
    """What was put there by whom; `name` is what the server was told."""

    data: bytes
    media_type: str
    sender: str
    name: str = ""


class Media:
    """The files of one server; `device` finds out who asks, or refuses."""

    def __init__(
        self, server_name: str, device: Callable[[web.Request], Device], *, max_upload: int = MAX_UPLOAD
    ) -> None:
        self.files: dict[str, File] = {}
        """By content URI."""
        self.max_upload = max_upload
        self._server_name = server_name
        self._device = device

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{V1}/config", self._config),
            web.get(f"{V1}/download/{{server}}/{{media}}{{name:(/.*)?}}", self._download),
            web.post(f"{V3}/upload", self._upload),
        ]

    def put(self, file: File) -> str:
        """Keep a file; its content URI."""
        url = f"mxc://{self._server_name}/{secrets.token_urlsafe(18)}"
        self.files[url] = file
        return url

    async def _config(self, request: web.Request) -> web.Response:
        self._device(request)
        return web.json_response({"m.upload.size": self.max_upload})

    async def _upload(self, request: web.Request) -> web.Response:
        device = self._device(request)
        if (request.content_length or 0) > self.max_upload:
            raise Refusal(413, "M_TOO_LARGE", "Upload request body is too large")
        data = bytearray()
        async for piece in request.content.iter_chunked(_PIECE):
            data += piece
            if len(data) > self.max_upload:
                raise Refusal(413, "M_TOO_LARGE", "Upload request body is too large")
        media_type = request.headers.get("Content-Type", "application/octet-stream")
        file = File(bytes(data), media_type, device.user, request.query.get("filename", ""))
        return web.json_response({"content_uri": self.put(file)})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        self._device(request)
        server, media = request.match_info["server"], request.match_info["media"]
        file = self.files.get(f"mxc://{server}/{media}")
        if file is None:
            raise Refusal(404, "M_NOT_FOUND", "Not found")
        headers = {"Content-Type": file.media_type, "Content-Length": str(len(file.data))}
        answer = web.StreamResponse(headers=headers)
        await answer.prepare(request)
        for at in range(0, len(file.data), _PIECE):
            await answer.write(file.data[at : at + _PIECE])
        await answer.write_eof()
        return answer
