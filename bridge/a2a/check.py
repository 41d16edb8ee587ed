"""What `hearth check` says of links over HTTPS: whether tokens are there, and who answers where."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from bridge.a2a.card import where
from bridge.a2a.client import Client, http_client
from bridge.a2a.server import server_of
from bridge.credentials import A2A_FROM, A2A_TO, peer_token
from bridge.platform import Misconfigured, PlatformError
from bridge.report import Line, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.sections import A2APeerSettings
    from bridge.settings import Settings

NAME = "links over https"


async def lines(settings: Settings) -> AsyncIterator[Line]:
    """A line for each peer over HTTPS, and one for the certificate; nothing is asked of anybody."""
    if settings.a2a.listen:
        yield await asyncio.to_thread(_certificate, settings)
    for peer in settings.a2a_peers:
        yield await _peer(settings, peer)


def _certificate(settings: Settings) -> Line:
    certificate, private_key = settings.a2a_files
    if certificate is None:
        return Line(NAME, State.OK, f"listens on {settings.a2a.listen}; a reverse proxy does TLS")
    try:
        server_of(None, certificate, private_key)
    except Misconfigured as error:
        return Line(NAME, State.PROBLEM, error.path, error.remedy)
    return Line(NAME, State.OK, f"listens on {settings.a2a.listen} with its own certificate")


async def _peer(settings: Settings, peer: A2APeerSettings) -> Line:
    files = settings.credentials()
    try:
        if not peer.url:
            shows = await asyncio.to_thread(files.get, peer_token(A2A_FROM, peer.peer))
            if shows is None:
                return Line(NAME, State.NOTE, f"{peer.peer} has no token", f"hearth links token {peer.peer}")
            return Line(NAME, State.OK, f"{peer.peer} has a token, and can ask us")
        name = peer_token(A2A_TO, peer.peer)
        token = await asyncio.to_thread(files.get, name)
        verify = await asyncio.to_thread(ssl.create_default_context)
        http = http_client("" if token is None else token.get_secret_value(), verify)
        client = Client(peer.url, http, credential=str(files.write / name))
        try:
            rpc = where(await client.card(), peer.url)
            if not peer.agent:
                await client.extended_card(rpc)
        finally:
            await client.close()
    except Misconfigured as error:
        return Line(NAME, State.PROBLEM, f"{peer.peer}: {error.path}", error.remedy)
    except PlatformError as error:
        return Line(NAME, State.LATER, f"{peer.peer}: {error}", "try again later; `hearth run` waits for it")
    return Line(NAME, State.OK, f"{peer.peer} answers at {rpc}")
