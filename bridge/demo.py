"""`hearth demo`: a family room on a real homeserver, answered by a local model, in a minute.

Owns a temporary folder with Synapse, a loopback instance that speaks Mastodon's API (`demo_posts`), a data
folder and a settings file, and the processes in it.
Promises: everything listens on loopback, the bot is an ordinary `hearth run`, what is shown is
what Ada's own client received, and all of it is gone afterwards. Where something fails, the folder
with the logs stays and its place is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from pydantic import SecretStr
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

import models.bundled
from bridge import demo_posts
from bridge.console import printable
from bridge.credentials import MATRIX_PASSWORD, CredentialFiles, mastodon_token
from bridge.homeserver import Homeserver, HomeserverError
from bridge.neighbour import Heard, Neighbour, NeighbourError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

SERVER = "hearth.demo"
ADA, BEN, BOT = (f"@{name}:{SERVER}" for name in ("ada", "ben", "hearth"))
ROOM = "Our family"
COLOURS = {ADA: "magenta", BEN: "cyan", BOT: "yellow"}

NOTES = ("The plumber comes on Tuesday at nine.", "I put the spare key under the blue pot.")
"""What Ben says in the room: the model has never seen it."""

WRITTEN = "# Swimming pool\n\n## Opening hours\nThe pool opens on Tuesday at nine.\n"
"""A note of the family's own, which nobody says in the room."""

QUESTIONS = (
    "Hearth, who are you?",
    "Hearth, when does the pool open?",
    "Hearth, where is the spare key?",
    "And when does the plumber come?",
)
"""What Ada asks. The last is a reply to the answer before it: no mention is needed then."""

POSTED = "When does the plumber come?"
"""What Ada asks on Mastodon, in reply to Ben's post."""

VOICE, VOICE_SECONDS = Path(models.bundled.__file__).parent / "voice" / "demo.ogg", 2.8
"""What Ben says aloud, “Hearth, when does the plumber come?”, and how many seconds it takes."""

START_DEADLINE = 90.0
ANSWER_DEADLINE = 150.0
"""More than the model's own deadline, so that its failure is what is shown."""
STOP_DEADLINE = 30.0
"""More than `hearth run` takes to stop: 20 s for running turns, 5 s for the outbox."""


@dataclass(slots=True)
class Screen:
    """The conversation as lines: time, lock, name, words, and how long an answer took."""

    out: Console
    asked: dict[str, float] = field(default_factory=dict)
    answers: dict[str, Heard] = field(default_factory=dict)
    """By the id of the question."""
    welcomed: bool = False
    open_words: int = 0
    """Messages that were not encrypted; there must be none."""

    def show(self, heard: Heard) -> None:
        """Print one message."""
        took = ""
        if heard.sender == BOT:
            self.welcomed = True
            if heard.reply_to in self.asked:
                self.answers[heard.reply_to] = heard
                took = f"{time.monotonic() - self.asked[heard.reply_to]:.1f} s"
        self.open_words += not heard.encrypted
        name = heard.sender[1:].partition(":")[0].capitalize()
        line = Table.grid(padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(width=6, no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True, justify="right")
        line.add_row(
            Text(self._lock(encrypted=heard.encrypted)),
            Text(name, style=f"bold {COLOURS.get(heard.sender, 'white')}"),
            Text(printable(heard.text)),
            Text(took, style="dim"),
        )
        self.out.print(line)

    def posted(self, name: str, text: str, audience: str, took: str = "") -> None:
        """Print one post, with who can read it."""
        line = Table.grid(padding=(0, 1))
        line.add_column(width=2)
        line.add_column(width=6, no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True, justify="right")
        colour = COLOURS.get(f"@{name.lower()}:{SERVER}", "white")
        told = f"{audience}   {took}" if took else audience
        line.add_row("", Text(name, style=f"bold {colour}"), Text(printable(text)), Text(told, style="dim"))
        self.out.print(line)

    def step(self, text: str) -> None:
        """Say what happens behind the scene."""
        self.out.print(Text(text, style="dim"))

    def _lock(self, *, encrypted: bool) -> str:
        if self.out.encoding.startswith("utf"):
            return "🔒" if encrypted else "  "
        return "[e2e]" if encrypted else "     "


@dataclass(frozen=True, slots=True)
class Secrets:
    """Passwords of the demonstration, made anew each time."""

    ada: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    ben: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    bot: str = field(default_factory=lambda: secrets.token_urlsafe(24))


async def demo(*, keep: bool, verbose: bool = False, out: Console | None = None) -> int:
    """Run the demonstration; 0, or 1 if it failed, and then the logs stay.

    With `keep` it goes on until SIGINT or SIGTERM. Raises `HomeserverError` where Synapse is absent.
    """
    out = out or Console(highlight=False)
    return await presented(lambda folder: _show(folder, Screen(out), keep=keep, verbose=verbose), out)


async def presented(show: Callable[[Path], Coroutine[None, None, None]], out: Console) -> int:
    """Run `show` with a temporary folder until it ends, or a signal comes; 0, or 1 if it failed.

    Where it failed the folder with the logs stays, and its place is said.
    """
    folder = Path(tempfile.mkdtemp(prefix="hearth-demo-"))
    stop = asyncio.Event()
    with _signals(stop):
        showing = asyncio.create_task(show(folder))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((showing, stopping), return_when=asyncio.FIRST_COMPLETED)
        showing.cancel()  # no effect once it is done; else its context managers end all it started
        try:
            await showing
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            out.print("\nStopped; nothing is left behind.", style="dim")
        except (NeighbourError, HomeserverError) as error:
            out.print(f"\nThe demonstration failed: {error}", style="bold red", markup=False)
            out.print(f"The logs are in {folder}", markup=False, soft_wrap=True)
            return 1
        finally:
            stopping.cancel()
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return 0


async def _show(folder: Path, screen: Screen, *, keep: bool, verbose: bool) -> None:
    began = time.monotonic()
    words = Secrets()
    screen.out.print(Rule("Hearth: a family, a real homeserver, a local model", style="yellow"))
    screen.step(f"starting Synapse on loopback in {folder} ...")
    async with contextlib.AsyncExitStack() as stack:
        homeserver = await stack.enter_async_context(Homeserver(folder / "synapse", server_name=SERVER))
        for name, password in (("ada", words.ada), ("ben", words.ben), ("hearth", words.bot)):
            await homeserver.register(name, password)
        instance: demo_posts.Instance | None = None
        if demo_posts.is_there():
            instance = await stack.enter_async_context(demo_posts.instance(folder))
        config = write_settings(folder, homeserver.url, words.bot, instance)
        screen.step("starting `hearth run` with the settings of one small file ...")
        bot = await stack.enter_async_context(hearth_run(config, folder / "hearth.log", verbose=verbose))
        async with watched(bot, folder / "hearth.log"):
            await _converse(homeserver.url, words, screen, began)
            if instance is not None:
                await _correspond(instance, screen)
        if keep:
            _invite_to_stay(screen.out, homeserver.url, words, config)
            async with watched(bot, folder / "hearth.log"):
                await asyncio.Event().wait()  # until a signal cancels this
    _say_how_to_go_on(screen.out)


async def _converse(url: str, words: Secrets, screen: Screen, began: float) -> None:
    def silent(heard: Heard) -> None:
        del heard  # Ada's client shows the room; Ben's need not repeat it

    async with (
        Neighbour(url, ADA, words.ada, heard=screen.show) as ada,
        Neighbour(url, BEN, words.ben, heard=silent) as ben,
    ):
        room = await ada.open_room(ROOM, [BEN, BOT])
        await ben.join(room)
        screen.step(f"Ada made the encrypted room “{ROOM}” and invited Ben and the bot.")
        await ada.until_joined(room, BOT, deadline=START_DEADLINE)
        await ada.until(lambda: screen.welcomed, "the bot's greeting", deadline=START_DEADLINE)
        for note in NOTES:
            await ben.say(room, note)
        previous: str | None = None
        for number, question in enumerate(QUESTIONS):
            follows = number == len(QUESTIONS) - 1 and previous is not None
            sent_at = time.monotonic()
            previous = await ada.say(
                room,
                question,
                mentions=() if follows else (BOT,),
                reply_to=screen.answers[previous].id if follows and previous else None,
            )
            await _answered(ada, screen, previous, sent_at, f"the answer to “{question}”")
        assert previous is not None
        sent_at = time.monotonic()
        spoken = await ben.speak(room, VOICE, VOICE_SECONDS, reply_to=screen.answers[previous].id)
        await _answered(ada, screen, spoken, sent_at, "the answer to Ben's voice message")
    if screen.open_words:
        raise NeighbourError(f"{screen.open_words} messages were not encrypted, and all should be")
    screen.step(
        f"All of it was end-to-end encrypted; it took {time.monotonic() - began:.0f} s, start included."
    )


async def _correspond(instance: demo_posts.Instance, screen: Screen) -> None:
    """Ada writes to the bot in private, in a thread that Ben began, and then sends it a recording."""
    screen.out.print(Rule("The same bot on Mastodon", style="yellow"))
    screen.step(f"This is a loopback instance at {instance.url}: a test double that speaks Mastodon's API.")
    mention = f"{instance.address('hearth')} "
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        ada, ben = (demo_posts.Correspondent(http, instance, name) for name in ("ada", "ben"))
        note = await ben.post(NOTES[0], visibility="public")
        screen.posted("Ben", NOTES[0], "public")
        for words, sound in ((POSTED, None), ("", VOICE)):
            sent_at = time.monotonic()
            asked = await ada.post(mention + words, visibility="direct", reply_to=note, sound=sound)
            screen.posted("Ada", words or f"🎤 a recording of {VOICE_SECONDS} s", "only to the bot")
            answer = await ada.answer_to(asked, "hearth", deadline=ANSWER_DEADLINE)
            screen.posted("Hearth", answer, "only to Ada", f"{time.monotonic() - sent_at:.1f} s")


async def _answered(ada: Neighbour, screen: Screen, asked: str, sent_at: float, what: str) -> None:
    screen.asked[asked] = sent_at
    await ada.until(lambda: asked in screen.answers, what, deadline=ANSWER_DEADLINE)


def write_settings(
    folder: Path, url: str, password: str, instance: demo_posts.Instance | None = None
) -> Path:
    """Write the settings file and the bot's secrets as an operator would; the file."""
    data = folder / "hearth-data"
    files = CredentialFiles(read=(), write=data / "credentials")
    files.put(MATRIX_PASSWORD, SecretStr(password))
    posts = ""
    if instance is not None:
        address = instance.address("hearth")
        files.put(mastodon_token(address), SecretStr(instance.tokens["hearth"]))
        posts = f"""
[[mastodon]]
instance = {json.dumps(instance.url)}
user = {json.dumps(address)}
allow = ["*"]
accept_private_mentions = true  # Mastodon holds back those of strangers otherwise
private_media = true  # the instance is on this machine
"""
    notes = folder / "notes"
    notes.mkdir()
    (notes / "pool.md").write_text(WRITTEN, encoding="utf-8")
    config = folder / "hearth.toml"
    # JSON strings are TOML strings.
    config.write_text(
        f"""\
community = {json.dumps(ROOM)}
data_dir = {json.dumps(str(data))}

[matrix]
homeserver = {json.dumps(url)}
user = {json.dumps(BOT)}
allow = {json.dumps([SERVER])}

[notes]
family = {json.dumps(str(notes))}

[delivery]
streaming = false  # short answers in one piece, so that a terminal can show them as lines
{posts}""",
        encoding="utf-8",
    )
    return config


@contextlib.asynccontextmanager
async def hearth_run(config: Path, log: Path, *, verbose: bool) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A `hearth run` of its own, ended on the way out; by SIGKILL if it takes too long."""
    # `HEARTH_MODEL__PATH=... hearth demo` shows a model of one's own; no other setting gets in.
    ours = ("HEARTH_MODEL__", "HEARTH_SPEECH__", "HEARTH_CHAT__")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(ours) or not name.startswith(("HEARTH_", "CREDENTIALS_DIRECTORY"))
    }
    with log.open("ab") as lines:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", *(["--verbose"] if verbose else ())),
            *("--config", str(config), "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches us alone; we stop it in order
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_DEADLINE)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def watched(process: asyncio.subprocess.Process, log: Path) -> AsyncGenerator[None]:
    """Fail at once, with the last line of its log, where the bot ends before the block does."""
    here = asyncio.current_task()
    assert here is not None
    ended = False

    async def watch() -> None:
        nonlocal ended
        await process.wait()
        ended = True
        here.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not ended:
            raise
        here.uncancel()
        lines = (await asyncio.to_thread(log.read_text, "utf-8", "replace")).strip().splitlines()
        last = lines[-1] if lines else "(its log is empty)"
        raise NeighbourError(f"`hearth run` ended with {process.returncode}: {last}") from None
    finally:
        watching.cancel()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Generator[None]:
    """SIGINT and SIGTERM end the demonstration in order, so that nothing is left behind."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _say_how_to_go_on(out: Console) -> None:
    hearth = command()
    out.print(Rule(style="yellow"))
    lines = (
        (f"{hearth} demo --keep", "leave it running and log in with any Matrix client"),
        (f"{hearth} chat", "talk to it here, without any server"),
        (f"{hearth} transcribe meeting.ogg", "write down a recording, without any server"),
        (f"HEARTH_MODEL__PATH=some.gguf {hearth} demo", "the same with a real model (any GGUF file)"),
        (f"{hearth} check", "before your own rooms: docs/settings.md has a settings file to copy"),
    )
    width = max(len(said) for said, _ in lines) + 2
    for said, what in lines:
        out.print(Text.assemble("  ", (f"{said:<{width}}", "bold"), what), soft_wrap=True)
    if not any(name.startswith("HEARTH_MODEL__") for name in os.environ):
        out.print(
            "The models that listened and answered are the small ones that ship with Hearth. They know a few "
            "everyday sentences, themselves and what was said in the room; real models know more.",
            style="dim",
        )


def command() -> str:
    """How to call this program again from here: `hearth`, or its path where it is not on $PATH."""
    if shutil.which("hearth"):
        return "hearth"
    script = Path(sys.argv[0])
    if script.name != "hearth":
        return f"{Path(sys.executable).name} -m bridge"
    relative = os.path.relpath(script)
    return str(script.absolute()) if relative.startswith("..") else relative


def _invite_to_stay(out: Console, url: str, words: Secrets, config: Path) -> None:
    out.print(Rule("It goes on running: log in with any Matrix client", style="yellow"))
    for name, value in (
        ("homeserver", url),
        ("Ada", f"user {ADA}   password {words.ada}"),
        ("Ben", f"user {BEN}   password {words.ben}"),
        ("the bot", f"{BOT}, in the room “{ROOM}”; invite it to others, or write to it directly"),
        ("look at it", f"{command()} --config {config} check"),
        ("", f"{command()} --config {config} doctor"),
        ("", f"{command()} --config {config} turns list"),
    ):
        out.print(Text.assemble("  ", (f"{name:<12}", "bold"), value), soft_wrap=True)
    out.print(
        "A client that logs in now cannot read what was said before: say something new. Ctrl-C ends all.",
        style="dim",
    )
