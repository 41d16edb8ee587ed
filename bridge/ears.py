"""The speech model of the settings, ready to listen: its server started where it is ours, and its client.

Shared by `hearth run`, `hearth check` and `hearth transcribe`. Nothing is decoded in this process.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bridge.credentials import SPEECH_API_KEY
from bridge.platform import Misconfigured
from models.hearing import SpeechClient
from models.host import ModelHost, ServeSpec, shares

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from bridge.settings import Settings

SOCKET = "speech.sock"


def speech_spec(settings: Settings, folder: Path) -> ServeSpec:
    """What to serve on a socket in `folder`, for a speech model that is ours."""
    speech = settings.speech
    path = settings.speech_path
    beside_chat = settings.model.kind != "remote"
    return ServeSpec(
        model=settings.speech_name if path is None else str(path),
        socket=settings.speech_socket or folder / SOCKET,
        name=settings.speech_name,
        threads=speech.threads or (shares(os.cpu_count() or 1)[1] if beside_chat else 0),
        memory=speech.memory_limit or 0,
        echo_delay=speech.echo_delay,
        kind="speech",
        longest=speech.max_minutes * 60.0,
        largest=speech.max_megabytes << 20,
    )


@asynccontextmanager
async def listening(
    settings: Settings, folder: Path
) -> AsyncGenerator[tuple[SpeechClient, ModelHost | None]]:
    """Give the client of the settings' speech model, and the host of its server where that is ours.

    The server starts in the background and has its socket in `folder`. Raises `Misconfigured`
    where voice is off.
    """
    if settings.speech.kind == "off":
        raise Misconfigured(
            "speech.model", 'is "off"; name a speech model, or leave it out for the bundled one'
        )
    if settings.speech.kind == "remote":
        key = await asyncio.to_thread(settings.credentials().get, SPEECH_API_KEY)
        client = SpeechClient(
            settings.speech_name,
            base_url=settings.speech.base_url,
            api_key=None if key is None else key.get_secret_value(),
        )
        try:
            yield client, None
        finally:
            await client.close()
        return
    spec = speech_spec(settings, folder)
    async with ModelHost(spec) as host:
        client = SpeechClient(spec.served_name, socket=spec.socket)
        try:
            yield client, host
        finally:
            await client.close()
