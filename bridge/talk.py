"""`hearth chat`: the whole house with the terminal as its only platform."""

from __future__ import annotations

import asyncio
import getpass
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bots.chat import Chat
from bridge.app import Account, App, bots_of, opened, options_of
from bridge.console import SERVER, ConsolePlatform

if TYPE_CHECKING:
    from bridge.settings import Settings

_LOOK_EVERY = 0.05


async def talk(settings: Settings, question: str | None, *, out: Console | None = None) -> int:
    """Converse until the input ends, or answer `question`; 0.

    The journal of the terminal is its own, so that this works beside a running `hearth run`:
    `console` in the data folder, or a temporary folder where there is no settings file.
    """
    out = out or Console(highlight=False)
    kept = settings.data / "console" if settings.source is not None else None
    folder = kept or Path(tempfile.mkdtemp(prefix="hearth-chat-"))
    try:
        return await _talk(_for_terminal(settings, folder, draws=out.is_terminal), question, out)
    finally:
        if kept is None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _talk(settings: Settings, question: str | None, out: Console) -> int:
    console = ConsolePlatform(getpass.getuser(), lines=sys.stdin, question=question, out=out)
    stop = asyncio.Event()
    bots = bots_of(settings)
    chat = bots["chat"]
    name = chat.own_name if isinstance(chat, Chat) else "Hearth"
    async with opened(settings, hears=False) as house:
        account = Account(console, settings.room_policy, options_of(settings, name))
        app = App(house, [account], bots, rng=random.Random())  # noqa: S311 - jitter
        serving = asyncio.create_task(app.serve(stop))

        async def answered() -> None:
            # The model's deadline ends every turn, and the journal says when there is none left.
            while True:
                counts = await house.journal.counts()
                if counts.pending + counts.running + counts.undelivered == 0:
                    return
                await asyncio.sleep(_LOOK_EVERY)

        conversing = asyncio.create_task(console.converse(answered))
        try:
            await asyncio.wait((serving, conversing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            conversing.cancel()
            stop.set()
            await asyncio.gather(serving)
    return 0


def _for_terminal(settings: Settings, folder: Path, *, draws: bool) -> Settings:
    """The same settings with the terminal's own folder, and its person allowed without a quota."""
    policy = settings.policy.model_copy(
        update={"askers": (SERVER,), "per_person_day": None, "per_place_day": None}
    )
    delivery = settings.delivery.model_copy(update={"streaming": draws, "typing": True})
    return settings.model_copy(update={"data_dir": folder, "policy": policy, "delivery": delivery})
