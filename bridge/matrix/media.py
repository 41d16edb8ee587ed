"""The media repository of the homeserver: files are fetched from it and put into it.

Promises: a file is never whole in memory, never written past its limit, and a success only if it
is what the sender vouched for (SHA-256 of the ciphertext). Every transfer ends: within a deadline,
and sooner where nothing moves. Refuses redirects: files come from the homeserver, no other host is
ever asked. Source: client-server API 1.16, "Content repository".
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import quote, urlencode

import aiohttp

from bridge.matrix import files
from bridge.matrix.errors import family
from bridge.matrix.render import sendable
from bridge.matrix.wire import json_object
from bridge.platform import Broken, PlatformError, Retryable

if TYPE_CHECKING:
    from bots.conversation import Attachment, Upload
    from bridge.matrix.client import Client

DOWNLOAD_DEADLINE: Final = 600.0
"""Seconds for one file; the homeserver may have to fetch it from another one first."""

STALL: Final = 60.0
"""Seconds without a byte after which a download is given up."""

UPLOAD_DEADLINE: Final = 120.0
PIECE: Final = 256 * 1024
"""Bytes that are decrypted and written in one go, off the event loop."""

_DOWNLOAD: Final = ("/_matrix/client/v1/media/download", "/_matrix/media/v3/download")
"""With authentication (spec 1.11), then without for older homeservers."""

_UPLOAD: Final = "/_matrix/media/v3/upload"
_ERROR_BYTES: Final = 65_536
_REDIRECT: Final = range(300, 400)
_WHAT: Final = "GET media"


async def fetch(client: Client, attachment: Attachment, into: BinaryIO, limit: int) -> None:
    """Write the file to `into`, at most `limit` bytes; see `Platform.fetch`."""
    stored = files.parsed(attachment.source)
    if stored is None:
        raise Broken(f"{_WHAT}: the attachment names no file of a homeserver")
    error: PlatformError = Broken(_WHAT)
    for api in _DOWNLOAD:
        url = f"{api}/{quote(stored.server, safe=':[]')}/{stored.media_id}"
        timeout = aiohttp.ClientTimeout(total=DOWNLOAD_DEADLINE, sock_connect=STALL, sock_read=STALL)
        try:
            async with client.get_file(url, timeout) as response:
                told = await _refusal(response)
                if told is None:
                    await _receive(response, _Opening(stored, into), limit)
                    return
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            raise Retryable(f"{_WHAT}: {type(failure).__name__}") from failure
        code, error = told
        if code != "M_UNRECOGNIZED":
            break
    raise error


async def upload(client: Client, upload: Upload, *, encrypt: bool) -> str:
    """Put a file into the repository; canonical JSON of what a message needs to show it.

    `url`, or `file` with its keys where it is encrypted; `mimetype` and `size` of the clear file.
    """
    data = sendable(upload.text).encode()
    if encrypt:
        key, prefix = secrets.token_bytes(files.KEY_BYTES), secrets.token_bytes(files.PREFIX_BYTES)
        ciphertext, iv, sha256 = files.sealed(data, key=key, prefix=prefix)
        place = await _put(client, ciphertext, "application/octet-stream", {})
        stored = files.Stored(place.server, place.media_id, key, iv, sha256)
    else:
        is_text = upload.media_type.startswith("text/")
        media_type = f"{upload.media_type}; charset=utf-8" if is_text else upload.media_type
        stored = await _put(client, data, media_type, {"filename": upload.name})
    return files.canonical({**stored.content, "mimetype": upload.media_type, "size": len(data)})


async def _put(client: Client, data: bytes, media_type: str, query: dict[str, str]) -> files.Stored:
    url = f"{_UPLOAD}?{urlencode(query)}" if query else _UPLOAD
    what = "POST upload"
    answer = await client.ask(what, "POST", url, data, media_type=media_type, deadline=UPLOAD_DEADLINE)
    stored = files.stored({"url": answer.get("content_uri")})
    if stored is None:
        raise Retryable(f"{what}: the answer has no content_uri")
    return stored


async def _refusal(response: aiohttp.ClientResponse) -> tuple[object, PlatformError] | None:
    """What the server says instead of the file: its code and what that means; None for the file."""
    if response.status in _REDIRECT:
        return None, Broken(f"{_WHAT}: the homeserver keeps the file on another host, which is never asked")
    if response.ok:
        return None
    body = json_object(await response.content.read(_ERROR_BYTES))
    code, retry_after = body.get("errcode"), response.headers.get("Retry-After")
    error = family(_WHAT, response.status, body, retry_after=retry_after)
    if error is None or code == "M_TOO_LARGE":
        # 502: another homeserver has it, and ours does not take files of this size from there.
        error = Broken(f"{_WHAT}: {response.status} {code}")
    return code, error


async def _receive(response: aiohttp.ClientResponse, opening: _Opening, limit: int) -> None:
    announced = response.content_length
    if announced is not None and announced > limit:
        raise Broken(f"{_WHAT}: the file has {announced} bytes, {limit} are allowed")
    size, piece = 0, bytearray()
    async for data in response.content.iter_chunked(PIECE):
        size += len(data)
        if size > limit:
            raise Broken(f"{_WHAT}: the file has more than {limit} bytes")
        piece += data
        if len(piece) >= PIECE:
            await asyncio.to_thread(opening.take, bytes(piece))
            piece.clear()
    await asyncio.to_thread(opening.end, bytes(piece))


class _Opening:
    """A file on its way to the disk: counted, hashed and decrypted as it comes. Blocks."""

    def __init__(self, stored: files.Stored, into: BinaryIO) -> None:
        self._into = into
        self._expected = stored.sha256
        self._hash = hashlib.sha256()
        self._decryptor = stored.decryptor() if stored.key else None

    def take(self, data: bytes) -> None:
        """Write the next piece."""
        if self._decryptor is not None:
            self._hash.update(data)
            data = self._decryptor.update(data)
        self._into.write(data)

    def end(self, data: bytes) -> None:
        """Write the last piece; raises `Broken` if the whole is not what the sender vouched for."""
        self.take(data)
        self._into.flush()
        if self._decryptor is not None and self._hash.digest() != self._expected:
            raise Broken(f"{_WHAT}: the file is not the one that was sent (SHA-256)")
