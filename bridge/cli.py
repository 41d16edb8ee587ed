"""The command line: `hearth`.

Owns the commands, their help, and how an error looks to the operator: one message with its
remedy on standard error, an exit status that says what kind it is, never a traceback for what we
know. Each command loads what it needs when it runs, so that `hearth --help` answers at once.

    0   done                      74  the disk or the database fails
    1   something else            75  temporary: the same command may work later
    2   wrong usage               77  the other side refuses
    65  can never work like this  78  the operator must change something
    69  a program is missing
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge import logs
from bridge.cli_links import links
from bridge.cli_matrix import matrix
from bridge.cli_notes import notes
from bridge.cli_policy import policy
from bridge.platform import Broken, Misconfigured, PlatformError, Refused, Retryable

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bridge.settings import Settings

# ruff: noqa: D301 - in the docstrings of commands "\b" is click's mark to keep lines, a real backspace
# PLC0415 (import outside top level) is silenced below for one reason: `hearth --help` and typing
# errors answer in a tenth of a second instead of two.


def failure(error: Exception) -> tuple[int, str] | None:
    """Exit status and message for `error`; None for what we do not know (a defect of ours)."""
    from bridge.homeserver import HomeserverError  # noqa: PLC0415
    from models.client import ModelError, ModelMisconfigured, ModelRefused  # noqa: PLC0415

    kinds: tuple[tuple[tuple[type[Exception], ...], int, str], ...] = (
        ((Misconfigured, ModelMisconfigured), os.EX_CONFIG, "{}"),
        ((Refused,), os.EX_NOPERM, "{}"),
        ((Broken, ModelRefused), os.EX_DATAERR, "{}"),
        ((Retryable, PlatformError, ModelError), os.EX_TEMPFAIL, "{}; try again later"),
        ((HomeserverError,), os.EX_UNAVAILABLE, "{}"),
        ((sqlite3.Error,), os.EX_IOERR, "the journal fails: {}; see `hearth check`, free space on the disk"),
        ((OSError,), os.EX_IOERR, "{}; see `hearth check`"),
    )
    for family, status, words in kinds:
        if isinstance(error, family):
            return status, words.format(error)
    return None


class HearthGroup(click.Group):
    """The outermost group: what we know how to explain ends in one line and its own exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own; a broken pipe (`hearth turns list | head`) ends quietly
        except Exception as error:
            known = failure(error)
            if known is None:
                raise
            status, message = known
            click.echo(f"hearth: {message}", err=True)
            ctx.exit(status)


@click.group(
    cls=HearthGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings and secrets: docs/settings.md. All commands with examples: docs/cli.md.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The settings file.  [default: $HEARTH_CONFIG, else ./hearth.toml]",
)
@click.option("-v", "--verbose", is_flag=True, help="Log debug lines; they may show what people wrote.")
@click.version_option(package_name="hearth-bridge", prog_name="hearth", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, config: Path | None, *, verbose: bool) -> None:
    """Hearth: the AI of a community that owns it.

    It answers in encrypted Matrix rooms, and on Mastodon, with a language model on your own machine.

    \b
    See it work, in a minute, without any account:
      hearth demo
    Talk to it in this terminal, or have it write down a recording:
      hearth chat "Who are you?"
      hearth transcribe meeting.mp3
    Run it:
      hearth check        what works, and the remedy for what does not
      hearth run          until Ctrl-C or SIGTERM
      hearth turns stuck  what does not move, and why
    """
    ctx.obj = {"config": config, "verbose": verbose}


def _settings(ctx: click.Context) -> Settings:
    from bridge.settings import load  # noqa: PLC0415

    return load(ctx.find_root().obj["config"])


def _verbose(ctx: click.Context) -> bool:
    return bool(ctx.find_root().obj["verbose"])


def _log_little(ctx: click.Context) -> None:
    """For commands whose output is for a person: their own log would only stand in between."""
    if _verbose(ctx):
        logs.configure(verbose=True)
    else:
        logs.silence()


async def _interruptible(work: Coroutine[Any, Any, int]) -> int:
    """Have Ctrl-C cancel `work` between two steps of the loop; a second one ends it as Python does.

    Python's own handler cancels in the middle of whatever step is running, which may break that one
    (a result on its way from a thread, for instance).
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        task.cancel()

    # Who started us with the signal ignored wants it ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    return await work


def _run(work: Coroutine[Any, Any, int], stopped: str = "") -> int:
    try:
        return asyncio.run(_interruptible(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        if stopped and sys.stderr.isatty():
            click.echo(err=True)
        click.echo(stopped, err=True)  # after the terminal's ^C
        return 130  # as shells say it: 128 + SIGINT


@main.command()
@click.option("--keep", is_flag=True, help="Leave it running; log in with any Matrix client. Ctrl-C ends it.")
@click.option("--communities", is_flag=True, help="Show two communities whose bots ask each other.")
@click.pass_context
def demo(ctx: click.Context, *, keep: bool, communities: bool) -> None:
    """Show a family room on a real homeserver, answered by a local model.

    Starts Synapse on loopback in a temporary folder; Ada, Ben and the bot talk in an encrypted
    room. Nothing leaves this machine and nothing is left behind.

    \b
    hearth demo
    hearth demo --keep   prints the address, users and password to log in with
    hearth demo --communities   a family asks its city's bot, because both have decided so
    """
    _log_little(ctx)
    if communities:
        from bridge.demo_communities import demo as show_both  # noqa: PLC0415

        ctx.exit(_run(show_both(keep=keep, verbose=_verbose(ctx))))
    from bridge.demo import demo as show  # noqa: PLC0415

    ctx.exit(_run(show(keep=keep, verbose=_verbose(ctx))))


@main.command()
@click.pass_context
def run(ctx: click.Context) -> None:
    """Answer in the rooms of your community, until SIGTERM or Ctrl-C.

    Needs a settings file with [matrix]; see docs/settings.md. A second signal ends it at once.

    \b
    hearth run
    hearth --config /etc/hearth/hearth.toml run
    """
    settings = _settings(ctx)
    settings.need_account()
    logs.configure(verbose=_verbose(ctx))
    from bridge.app import run as serve  # noqa: PLC0415

    ctx.exit(_run(serve(settings)))


@main.command()
@click.option("--no-model", is_flag=True, help="Leave the models out: loading a large one takes a while.")
@click.pass_context
def check(ctx: click.Context, *, no_model: bool) -> None:
    """Try everything that `hearth run` needs and say the remedy for what does not work.

    Makes no session and sends nothing to any room. Ends with 0 if all is well, with 78 if you
    must change something, with 75 if only time helps.

    \b
    hearth check
    HEARTH_MATRIX__HOMESERVER=http://localhost:8008 hearth check
    """
    _log_little(ctx)
    from bridge.check import check as look  # noqa: PLC0415

    ctx.exit(_run(look(ctx.find_root().obj["config"], model=not no_model)))


@main.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Say whether encryption works: the bot's device, and each encrypted room, with the remedy.

    Changes nothing, and works beside a running `hearth run`. Ends as `hearth check` does.

    \b
    hearth doctor
    """
    _log_little(ctx)
    from bridge.doctor import doctor as look  # noqa: PLC0415
    from bridge.settings import load  # noqa: PLC0415

    ctx.exit(_run(look(load(ctx.find_root().obj["config"]))))


@main.command()
@click.argument("question", required=False)
@click.pass_context
def chat(ctx: click.Context, question: str | None) -> None:
    """Talk to the bots in this terminal, without any server.

    With a QUESTION it answers that one. Without, it reads lines until the input ends (Ctrl-D).
    With a settings file what is said is kept beside the journal for `retention_days`; without
    one nothing is kept.

    \b
    hearth chat
    hearth chat "Who are you?"
    echo "The key is under the blue pot. Where is the key?" | hearth chat
    """
    settings = _settings(ctx)
    _log_little(ctx)
    from bridge.talk import talk  # noqa: PLC0415

    ctx.exit(_run(talk(settings, question)))


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-f",
    "--format",
    "forms",
    type=click.Choice(["txt", "md", "srt", "vtt", "json"]),
    multiple=True,
    default=("txt",),
    show_default=True,
    help="What to write; may be given more than once.",
)
@click.option(
    "--language", help='What is spoken, as in "de".  [default: that of the settings, else detected]'
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write there.  [default: beside each file]",
)
@click.option("--words", is_flag=True, help="Also the times of single words, in json.")
@click.option("--model", help="Folder of a Whisper model (CTranslate2).  [default: that of the settings]")
@click.option("--force", is_flag=True, help="Write anew what is already written.")
@click.pass_context
def transcribe(
    ctx: click.Context,
    files: tuple[Path, ...],
    forms: tuple[str, ...],
    language: str | None,
    output_dir: Path | None,
    model: str | None,
    *,
    words: bool,
    force: bool,
) -> None:
    """Write down what is said in FILES: recordings, videos, whole folders of them.

    Needs no server and no settings, and nothing leaves this machine unless the settings name a speech
    server elsewhere. meeting.mp3 becomes meeting.mp3.txt. What is already written is left alone. Ctrl-C
    stops; the same command then goes on where it stopped.

    \b
    hearth transcribe meeting.mp3
    hearth transcribe --format md --format srt --language de meeting.mp3
    hearth transcribe --model ./whisper-small-int8 --output-dir texts recordings/
    """
    settings = _settings(ctx)
    from pydantic import ValidationError  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from bridge.sections import SpeechSettings  # noqa: PLC0415
    from bridge.transcribe import Options  # noqa: PLC0415
    from bridge.transcribe import transcribe as listen  # noqa: PLC0415

    said: dict[str, object] = {}
    if model is not None:
        named = model if model in {"bundled", "echo"} else str(Path(model).expanduser().absolute())
        said = {"model": named, "base_url": None, "name": None}
    if language is not None:
        said["language"] = language
    try:
        speech = SpeechSettings(**settings.speech.model_dump() | said)
    except ValidationError as error:
        raise click.UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    if not _verbose(ctx):
        logs.silence()
    options = Options(forms=tuple(dict.fromkeys(forms)), words=words, force=force, folder=output_dir)
    work = listen(
        settings.model_copy(update={"speech": speech}),
        files,
        options,
        out=Console(highlight=False),
        notes=Console(stderr=True, highlight=False),
    )
    ctx.exit(_run(work, stopped="hearth: stopped; the same command goes on where it stopped"))


# -- turns -----------------------------------------------------------------------------------------


@main.group()
def turns() -> None:
    """Look at the questions that reached us and what became of them. Never shows words."""


@turns.command("list")
@click.option(
    "--state",
    type=click.Choice(["pending", "running", "waiting", "settled", "parked"]),
    help="Only these.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many.")
@click.pass_context
def turns_list(ctx: click.Context, state: str | None, limit: int) -> None:
    """List the newest turns, newest first.

    \b
    hearth turns list
    hearth turns list --state pending --limit 10
    """
    from bridge import turns as view  # noqa: PLC0415

    ctx.exit(_run(view.show_list(_settings(ctx), state, limit)))


@turns.command("show")
@click.argument("turn", type=int)
@click.pass_context
def turns_show(ctx: click.Context, turn: int) -> None:
    """Show one TURN: what was decided by which rule, and what became of each thing it sent.

    \b
    hearth turns show 12
    """
    from bridge import turns as view  # noqa: PLC0415

    ctx.exit(_run(view.show_one(_settings(ctx), turn)))


@turns.command("stuck")
@click.pass_context
def turns_stuck(ctx: click.Context) -> None:
    """Show what does not move: parked turns, turns open for ten minutes, deliveries that fail.

    Ends with 1 if there is any, so that a monitor can call it.

    \b
    hearth turns stuck
    """
    from bridge import turns as view  # noqa: PLC0415

    ctx.exit(_run(view.show_stuck(_settings(ctx))))


@turns.command("retry")
@click.argument("turn", type=int)
@click.pass_context
def turns_retry(ctx: click.Context, turn: int) -> None:
    """Give a parked TURN, or the parked deliveries of one, another chance.

    \b
    hearth turns retry 12
    """
    from bridge import turns as view  # noqa: PLC0415

    ctx.exit(_run(view.retry(_settings(ctx), turn)))


# -- mastodon --------------------------------------------------------------------------------------


@main.group()
def mastodon() -> None:
    """The accounts on Mastodon."""


@mastodon.command("login")
@click.argument("address", required=False)
@click.option("--token-stdin", is_flag=True, help="Take a token that you made yourself from standard input.")
@click.option("--mark", is_flag=True, help="Also mark the account as a bot (needs one right more).")
@click.pass_context
def mastodon_login(ctx: click.Context, address: str | None, *, token_stdin: bool, mark: bool) -> None:
    """Log in with the account ADDRESS of the settings, and keep its token as a credential file.

    Shows an address to open in a browser, where you allow Hearth to use the account, and asks for the
    code that is shown there. Doing it again replaces the token.

    \b
    hearth mastodon login
    hearth mastodon login @hearth@social.example.org --mark
    hearth mastodon login --token-stdin < token.txt
    """
    _log_little(ctx)
    from bridge.accounts import enrol  # noqa: PLC0415

    token = sys.stdin.read().strip() if token_stdin else None
    ctx.exit(_run(enrol(_settings(ctx), address, token=token, marks=mark)))


# -- policy ----------------------------------------------------------------------------------------


main.add_command(policy)
main.add_command(notes)
main.add_command(links)
main.add_command(matrix)


# -- models ----------------------------------------------------------------------------------------


@main.group()
def models() -> None:
    """The local models: the one that answers, and the one that listens."""


@models.command(
    "serve", context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
)
@click.option("--speech", is_flag=True, help="Serve the model that listens, not the one that answers.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def models_serve(ctx: click.Context, options: tuple[str, ...], *, speech: bool) -> None:
    """Serve a model of the settings with the OpenAI HTTP API, as a process of its own.

    `hearth run` starts them by itself; this is for units of their own with no network and no
    secrets. OPTIONS are those of `python -m models.server --help`, with --speech of `models.speech`.

    \b
    hearth models serve --socket /run/hearth/chat.sock
    hearth models serve --port 8100 --model ./some.gguf
    hearth models serve --speech --socket /run/hearth/speech.sock
    """
    settings = _settings(ctx)
    arguments = list(options)
    if not any(option.partition("=")[0] == "--model" for option in arguments):
        section, kind = ("speech", settings.speech.kind) if speech else ("model", settings.model.kind)
        if kind == "remote":
            raise Misconfigured(f"{section}.base_url", "the model is on another server; serve it there")
        if kind == "off":
            raise Misconfigured("speech.model", 'is "off"; name a model, or serve none')
        ours = settings.speech_path or settings.speech.model if speech else None
        arguments += ["--model", str(ours or settings.model_path or settings.model.path)]
    if speech:
        from models.speech import main as listen  # noqa: PLC0415

        ctx.exit(listen(arguments))
    from models.server import main as serve  # noqa: PLC0415

    ctx.exit(serve(arguments))
