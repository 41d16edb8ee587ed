"""The HTTPS side, put together out of the settings: who is reached where, by which token; and the server."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Any

import structlog

from bridge.a2a.beside import Beside, Peer
from bridge.a2a.card import card_of, signed
from bridge.a2a.client import Client, http_client
from bridge.a2a.server import application, bound, server_of
from bridge.credentials import A2A_FROM, A2A_TO, peer_token
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bridge.credentials import CredentialFiles
    from bridge.router import Router
    from bridge.settings import Settings
    from bridge.tools import House

log = structlog.get_logger(__name__)


def beside(settings: Settings, house: House, account: str, router: Router) -> Beside:
    """The peers over HTTPS beside `account`. Blocks (files); raises `Misconfigured`."""
    assert router.links is not None
    files = settings.credentials()
    verify = ssl.create_default_context()
    peers = []
    for one in settings.a2a_peers:
        client = None
        if one.url:
            name = peer_token(A2A_TO, one.peer)
            token = _token(files, name)
            if not token and not one.agent:
                raise Misconfigured(
                    str(files.write / name),
                    f"no token; whoever runs {one.peer} makes one with `hearth links token`, write it there",
                )
            client = Client(one.url, http_client(token, verify), credential=str(files.write / name))
        peers.append(Peer(one.peer, client, agent=one.agent))
    return Beside(
        house.journal,
        house.clock,
        account,
        peers,
        admit=router.admit,
        links=router.links,
        serve=_serving(settings, house, files),
    )


def _token(files: CredentialFiles, name: str) -> str:
    found = files.get(name)
    return "" if found is None else found.get_secret_value()


def _serving(
    settings: Settings, house: House, files: CredentialFiles
) -> Callable[[Beside], Coroutine[Any, Any, None]] | None:
    listen = settings.a2a.listen
    if not listen:
        return None
    assert house.community is not None
    ours = house.community.card
    card = card_of(ours, f"{settings.a2a.url}/", house.version)
    shown = signed(card, house.community.key, ours.key)
    tokens = {
        one.peer: token
        for one in settings.a2a_peers
        if not one.agent and (token := _token(files, peer_token(A2A_FROM, one.peer)))
    }
    certificate, private_key = settings.a2a_files

    async def serve(desk: Beside) -> None:
        server = await asyncio.to_thread(
            server_of, application(desk, card, shown, tokens, time.monotonic), certificate, private_key
        )
        socket = await asyncio.to_thread(bound, listen)
        log.info("a2a_listening", at=listen, tls=certificate is not None, peers=len(tokens))
        serving = asyncio.create_task(server.serve(sockets=[socket]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await asyncio.gather(serving, return_exceptions=True)

    return serve
