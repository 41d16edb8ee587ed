"""`hearth check`: tries what `hearth run` needs, and says the remedy for what does not work.

Owns the questions. Promises: nothing is sent into any room, and no session is left
behind (where there is none yet, one is made to try the password and ended at once). Each question
has a deadline and stands for itself: one that fails does not hide the others. Safe beside a
running `hearth run`, whose model it asks instead of loading a second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

import models.bundled
from bridge import check_matrix
from bridge.accounts import check_account, check_links
from bridge.app import bots_of, locked, opened
from bridge.credentials import (
    MATRIX_ACCESS_TOKEN,
    MATRIX_PASSWORD,
    MATRIX_RECOVERY_KEY,
    MODEL_API_KEY,
    SPEECH_API_KEY,
)
from bridge.ears import SOCKET as SPEECH_SOCKET
from bridge.ears import listening
from bridge.journal import Journal
from bridge.notes import files
from bridge.platform import Misconfigured
from bridge.report import Line, State, show, status
from bridge.settings import load
from models.client import ChatClient, Deadlines, ModelError, ModelMisconfigured
from models.hearing import SpeechClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from bridge.settings import Settings

NETWORK_DEADLINE = 15.0
MODEL_DEADLINE = 120.0
SPOKEN = Path(models.bundled.__file__).parent / "voice" / "demo.ogg"
"""A sentence of two seconds, in English."""
FREE_AT_LEAST = 200 << 20
"""Bytes on the disk below which it is said: the journal and its log need some to breathe."""
GGUF = b"GGUF"
"""How such a file starts (ggml, `docs/gguf.md`)."""


async def check(config: Path | None, *, model: bool = True, out: Console | None = None) -> int:
    """Look at everything, print a table, and return the exit status."""
    out = out or Console(highlight=False)
    lines = [line async for line in look(config, model=model)]
    show(lines, out)
    return status(lines)


async def look(config: Path | None, *, model: bool) -> AsyncIterator[Line]:
    """Yield the lines, in the order in which `hearth run` would need them."""
    try:
        settings = await asyncio.to_thread(load, config)
    except Misconfigured as error:
        yield Line("settings", State.PROBLEM, error.path, error.remedy)
        return
    if settings.source is None:
        yield Line("settings", State.NOTE, "no settings file; the defaults", "write ./hearth.toml")
    else:
        yield Line("settings", State.OK, str(settings.source))
    yield await asyncio.to_thread(data_folder, settings.data)
    if await asyncio.to_thread(_is_running, settings.data):
        yield Line("running", State.NOTE, "a `hearth run` works on this data folder now")
    yield await _journal(settings.journal_path)
    yield await asyncio.to_thread(credentials, settings)
    async for line in _accounts(settings):
        yield line
    yield await asyncio.to_thread(persona, settings)
    for name, folder in settings.note_folders.items():
        yield await asyncio.to_thread(notes, name, folder)
    if model:
        yield await _model(settings)
        yield await _speech(settings)


async def _accounts(settings: Settings) -> AsyncIterator[Line]:
    """The accounts, and the links beside them."""
    if settings.matrix is None:
        needed = "" if settings.mastodon else ": `hearth chat` works, `hearth run` needs it or [[mastodon]]"
        yield Line("matrix", State.NOTE, f"no [matrix] in the settings{needed}")
    else:
        async for line in check_matrix.lines(settings, settings.matrix):
            yield line
    for account in settings.mastodon:
        async for line in check_account(settings, account):
            yield line
    if settings.a2a_peers or settings.a2a.listen:
        async for line in check_links(settings):
            yield line


# -- this machine ------------------------------------------------------------------------------------


def data_folder(data: Path) -> Line:
    """Whether the data folder, or the nearest folder above it, can be written and has room."""
    there = next(folder for folder in (data, *data.parents) if folder.exists())
    if not there.is_dir():
        return Line("data folder", State.PROBLEM, f"{there} is not a folder", "set data_dir to one")
    if not os.access(there, os.W_OK | os.X_OK):
        return Line(
            "data folder",
            State.PROBLEM,
            f"{there} cannot be written by {_user()}",
            "give it to that user, or set data_dir",
        )
    free = shutil.disk_usage(there).free
    if free < FREE_AT_LEAST:
        return Line("data folder", State.PROBLEM, f"{there} has {_bytes(free)} left", "free some space")
    if there != data:
        return Line("data folder", State.OK, f"{data}, made by the first `hearth run`")
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Line("data folder", State.PROBLEM, f"{data} is open to others ({mode:o})", f"chmod 700 {data}")
    return Line("data folder", State.OK, f"{data}, {_bytes(free)} free")


def persona(settings: Settings) -> Line:
    """Whether the persona's file is one."""
    try:
        bots_of(settings)
    except Misconfigured as error:
        return Line("persona", State.PROBLEM, error.path, error.remedy)
    return Line("persona", State.OK, settings.chat.persona)


def credentials(settings: Settings) -> Line:
    """Whether the secrets that the settings call for are there, and only ours to read."""
    files = settings.credentials()
    for path in files.too_open():
        return Line("credentials", State.PROBLEM, f"{path} is open to others", f"chmod 600 {path}")
    try:
        password, token = files.get(MATRIX_PASSWORD), files.get(MATRIX_ACCESS_TOKEN)
        for key in (MATRIX_RECOVERY_KEY, MODEL_API_KEY, SPEECH_API_KEY):
            files.get(key)
    except Misconfigured as error:
        return Line("credentials", State.PROBLEM, error.path, error.remedy)
    if settings.matrix is not None and password is None and token is None:
        return Line(
            "credentials",
            State.PROBLEM,
            "neither a password nor an access token for Matrix",
            f"write the password into {files.write / MATRIX_PASSWORD}, mode 600",
        )
    if settings.matrix is not None and password is None:
        return Line(
            "credentials",
            State.NOTE,
            "an access token without a password: it cannot cross-sign a new device by itself",
            f"put the password into {files.write / MATRIX_PASSWORD}",
        )
    return Line("credentials", State.OK, ", ".join(map(str, files.read)))


def _is_running(data: Path) -> bool:
    if not (data / "lock").exists():
        return False
    try:
        with locked(data):
            return False
    except Misconfigured:
        return True


def notes(name: str, folder: Path) -> Line:
    """Whether a collection of notes can be read."""
    count = sum(1 for _ in files(folder))
    if count:
        return Line("notes", State.OK, f"{name}: {count:,} in {folder}")
    problem = "has no notes" if folder.is_dir() else "there is no such folder"
    remedy = f"put Markdown files there, or change notes.{name} in the settings"
    return Line("notes", State.PROBLEM, f"{name}: {folder}: {problem}", remedy)


async def _journal(path: Path) -> Line:
    if not await asyncio.to_thread(path.exists):
        return Line("journal", State.OK, f"{path}, made by the first `hearth run`")
    try:
        journal = await Journal.open(path)
        try:
            counts = await journal.counts()
        finally:
            await journal.close()
    except Misconfigured as error:
        return Line("journal", State.PROBLEM, error.path, error.remedy)
    found = f"opens; {counts.pending + counts.running} open, {counts.undelivered} to deliver"
    stuck = counts.parked + counts.undeliverable
    if stuck:
        return Line("journal", State.NOTE, f"{found}, {stuck} stuck", "see `hearth turns stuck`")
    return Line("journal", State.OK, found)


# -- the model ---------------------------------------------------------------------------------------


async def _model(settings: Settings) -> Line:
    model = settings.model
    path = settings.model_path
    if path is not None and (line := await asyncio.to_thread(model_file, path)) is not None:
        return line
    name = model.name or "" if model.kind == "remote" else "echo" if path is None else path.stem
    try:
        async with asyncio.timeout(MODEL_DEADLINE), _client(settings, name) as client:
            async for chunk in client.chat([{"role": "user", "content": "Hello!"}], max_tokens=1):
                if chunk.finish is not None:
                    break
            size = await client.context_size()
    except (ModelMisconfigured, Misconfigured) as error:
        return Line("model", State.PROBLEM, error.path, error.remedy)
    except (ModelError, TimeoutError) as error:
        words = str(error) or f"no answer within {MODEL_DEADLINE:.0f} s"
        remote = "look at that server" if model.kind == "remote" else "see the log of `hearth models serve`"
        return Line("model", State.LATER, f"{name} does not answer: {words}", remote)
    found = f"{name} answers, {size} tokens of context"
    if model.kind == "bundled":
        return Line(
            "model", State.NOTE, f"{found}; it is the small one that ships", "set model.path to a GGUF"
        )
    return Line("model", State.OK, found)


async def _speech(settings: Settings) -> Line:
    """Whether the speech model is there and hears words in a sentence that was spoken."""
    speech = settings.speech
    if speech.kind == "off":
        return Line("speech", State.OK, "off: voice messages are left alone")
    name = settings.speech_name
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="hearth-check-"))
    try:
        async with asyncio.timeout(MODEL_DEADLINE), _hears(settings, folder) as client:
            sample = io.BytesIO(await asyncio.to_thread(SPOKEN.read_bytes))
            signs = client.transcribe(sample, media_type="audio/ogg", language=speech.language)
            heard = "".join([sign.transcript.text async for sign in signs if sign.transcript])
    except (ModelMisconfigured, Misconfigured) as error:
        return Line("speech", State.PROBLEM, error.path, error.remedy)
    except (ModelError, TimeoutError) as error:
        words = str(error) or f"no answer within {MODEL_DEADLINE:.0f} s"
        remote = (
            "look at that server" if speech.kind == "remote" else "try again; more memory or a smaller model"
        )
        return Line("speech", State.LATER, f"{name} does not listen: {words}", remote)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    if not heard:
        found = f"{name} hears no words in a spoken sentence"
        return Line("speech", State.NOTE, found, "name another model, or its language")
    if speech.kind == "bundled":
        remedy = "set speech.model to the folder of a Whisper model"
        return Line("speech", State.NOTE, f"{name} listens; it is the small one that ships", remedy)
    return Line("speech", State.OK, f"{name} listens")


@contextlib.asynccontextmanager
async def _hears(settings: Settings, folder: Path) -> AsyncGenerator[SpeechClient]:
    """The speech model of a running `hearth run`, or one of our own for a moment."""
    theirs = settings.data / SPEECH_SOCKET
    if await asyncio.to_thread(_is_running, settings.data) and await asyncio.to_thread(theirs.exists):
        client = SpeechClient(settings.speech_name, socket=theirs)
        try:
            yield client
        finally:
            await client.close()
        return
    async with listening(settings, folder) as (client, host):
        if host is not None:
            await host.ready(MODEL_DEADLINE)
        yield client


def model_file(path: Path) -> Line | None:
    """What is wrong with a model's file as a file; None if nothing is."""
    try:
        with path.open("rb") as file:
            start = file.read(len(GGUF))
    except OSError as error:
        return Line("model", State.PROBLEM, f"{path}: {error.strerror}", "correct model.path")
    if start != GGUF:
        return Line("model", State.PROBLEM, f"{path} is not a GGUF file", "set model.path to one")
    return None


@contextlib.asynccontextmanager
async def _client(settings: Settings, name: str) -> AsyncGenerator[ChatClient]:
    """The model of a running `hearth run`, or one of our own for a moment."""
    theirs = settings.data / "chat.sock"
    running = await asyncio.to_thread(_is_running, settings.data)
    if running and await asyncio.to_thread(theirs.exists):
        client = ChatClient(name, socket=theirs, deadlines=Deadlines(total=MODEL_DEADLINE))
        try:
            yield client
        finally:
            await client.close()
        return
    folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="hearth-check-")
    try:
        elsewhere = {"data_dir": Path(folder), "credentials_dir": settings.credentials().write}
        async with opened(settings.model_copy(update=elsewhere), hears=False) as house:
            if house.host is not None:
                await house.host.ready(MODEL_DEADLINE)
            yield house.model
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _user() -> str:
    return f"uid {os.getuid()}"


def _bytes(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB"
