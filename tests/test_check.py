"""`hearth check`: every problem has a line with its remedy, and looking changes nothing."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from rich.console import Console

from bridge.app import locked
from bridge.check import check, data_folder, look, model_file
from bridge.credentials import MATRIX_ACCESS_TOKEN, MATRIX_PASSWORD
from bridge.homeserver import Homeserver
from bridge.report import Line, State, show, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOT = "@hearth:hearth.test"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("HEARTH_", "CREDENTIALS_DIRECTORY")):
            monkeypatch.delenv(name)


def _settings(text: str) -> None:
    Path("hearth.toml").write_text(f'data_dir = "data"\n{text}\n', encoding="utf-8")


def _matrix(homeserver: str, user: str = BOT) -> None:
    _settings(f'[matrix]\nhomeserver = "{homeserver}"\nuser = "{user}"\nallow = ["hearth.test"]')


def _secret(name: str, text: str, mode: int = 0o600) -> None:
    folder = Path("data/credentials")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    Path("data").chmod(0o700)
    (folder / name).write_text(text)
    (folder / name).chmod(mode)


async def _lines(*, model: bool = False) -> dict[str, Line]:
    return {line.name: line async for line in look(None, model=model)}


# -- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], 0),
        ([State.OK, State.NOTE], 0),
        ([State.OK, State.LATER], 75),
        ([State.LATER, State.PROBLEM, State.OK], 78),
    ],
)
def test_the_status_is_that_of_the_worst_line(states: list[State], expected: int) -> None:
    """A script learns whether to call somebody (78), to wait (75), or neither (0)."""
    assert status([Line("x", state, "found") for state in states]) == expected


def test_on_a_terminal_it_is_a_table_and_in_a_pipe_it_is_values() -> None:
    """The same lines, for people and for programs; a name from outside is neither markup nor control."""
    lines = [Line("login", State.PROBLEM, "[bold]\x1b[2Jrefused", "correct it")]
    piped, drawn = (Console(file=io.StringIO(), force_terminal=draws, width=100) for draws in (False, True))
    for out in (piped, drawn):
        show(lines, out)
    assert isinstance(piped.file, io.StringIO)
    assert piped.file.getvalue() == "problem\tlogin\t[bold][2Jrefused\tcorrect it\n"
    assert isinstance(drawn.file, io.StringIO)
    assert "[bold][2Jrefused" in drawn.file.getvalue()
    assert "\x1b[2J" not in drawn.file.getvalue()


# -- this machine ----------------------------------------------------------------------------------


async def test_before_anything_is_set_up_it_says_what_comes_next() -> None:
    """In an empty folder nothing is wrong, nothing is made, and the next step is named."""
    lines = await _lines()
    assert {line.state for line in lines.values()} <= {State.OK, State.NOTE}
    assert "hearth.toml" in lines["settings"].remedy
    assert "[matrix]" in lines["matrix"].found
    assert list(Path().iterdir()) == []


async def test_wrong_settings_are_the_only_line() -> None:
    """Nothing else can be said while the settings cannot be read."""
    Path("hearth.toml").write_text("retention_day = 1\n")
    assert set(await _lines()) == {"settings"}
    assert await check(None, model=False, out=Console(file=io.StringIO())) == os.EX_CONFIG


def test_a_data_folder_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    """Where something stands in the way, its path is said."""
    (tmp_path / "data").write_text("")
    line = data_folder(tmp_path / "data" / "inner")
    assert line.state is State.PROBLEM
    assert str(tmp_path / "data") in line.found


def test_a_data_folder_that_others_may_enter_is_noted(tmp_path: Path) -> None:
    """The remedy is the command to type."""
    tmp_path.chmod(0o755)
    assert data_folder(tmp_path).remedy == f"chmod 700 {tmp_path}"
    tmp_path.chmod(0o700)
    assert data_folder(tmp_path).state is State.OK


async def test_secrets_that_others_may_read_are_a_problem() -> None:
    """A password that the whole machine can read is said with the command that closes it."""
    _matrix("http://127.0.0.1:9")
    _secret(MATRIX_PASSWORD, "x", 0o644)
    line = (await _lines())["credentials"]
    assert line.state is State.PROBLEM
    assert line.remedy == f"chmod 600 {Path('data/credentials').absolute() / MATRIX_PASSWORD}"


async def test_missing_secrets_are_a_problem_with_the_place_for_them() -> None:
    """Without password and token there is nothing to log in with; the remedy names the file."""
    _matrix("http://127.0.0.1:9")
    line = (await _lines())["credentials"]
    assert line.state is State.PROBLEM
    assert str(Path("data/credentials").absolute() / MATRIX_PASSWORD) in line.remedy


def test_every_folder_that_is_made_is_ours_alone(tmp_path: Path) -> None:
    """`hearth chat` may make the data folder first, and its own below it: neither is open to others."""
    with locked(tmp_path / "data" / "console"):
        for folder in (tmp_path / "data", tmp_path / "data" / "console"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_running_hearth_is_noted() -> None:
    """Somebody who looks while it runs learns that it runs."""
    _settings("")
    assert "running" not in await _lines()
    lock = locked(Path("data").absolute())
    await asyncio.to_thread(lock.__enter__)
    assert (await _lines())["running"].state is State.NOTE
    await asyncio.to_thread(lock.__exit__, None, None, None)
    assert "running" not in await _lines()


async def test_a_damaged_journal_is_a_problem_and_stays_as_it_was() -> None:
    """Looking never makes a new journal in the place of a broken one."""
    _settings("")
    Path("data").mkdir()
    Path("data/hearth.db").write_bytes(b"no database" * 500)
    line = (await _lines())["journal"]
    assert line.state is State.PROBLEM
    assert "restore a backup" in line.remedy
    assert Path("data/hearth.db").read_bytes() == b"no database" * 500


# -- the model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"), [(b"<html>not found</html>", "is not a GGUF file"), (None, "No such file")]
)
def test_a_model_file_that_is_none_is_a_problem(content: bytes | None, words: str, tmp_path: Path) -> None:
    """A download that failed is told from a model before anything is loaded."""
    file = tmp_path / "m.gguf"
    if content is not None:
        file.write_bytes(content)
    line = model_file(file)
    assert line is not None
    assert line.state is State.PROBLEM
    assert words in line.found


async def test_a_model_that_only_starts_like_one_is_a_problem_with_a_remedy() -> None:
    """llama.cpp refuses it in its own process; we say which file, and it is over within the deadline."""
    Path("m.gguf").write_bytes(b"GGUF" + bytes(64))
    _settings('[model]\npath = "m.gguf"')
    line = (await _lines(model=True))["model"]
    assert line.state is State.PROBLEM
    assert "m.gguf" in line.found
    assert line.remedy


async def test_a_model_that_answers_is_fine() -> None:
    """It is loaded, asked one word, and gone again; its context is said."""
    _settings('[model]\npath = "echo"\ncontext = 1024')
    line = (await _lines(model=True))["model"]
    assert (line.state, line.found) == (State.OK, "echo answers, 1024 tokens of context")
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("model", "state", "found", "remedy"),
    [
        ("echo", State.OK, "echo listens", ""),
        ("off", State.OK, "off", ""),
        ("nowhere", State.PROBLEM, "nowhere", "name the folder of a Whisper model"),
    ],
)
async def test_the_speech_model_is_heard_through(model: str, state: State, found: str, remedy: str) -> None:
    """A speech model listens to a sound; one that is off is said to be, one that is none has a remedy."""
    _settings(f'[model]\npath = "echo"\n[speech]\nmodel = "{model}"')
    line = (await _lines(model=True))["speech"]
    assert line.state is state
    assert found in line.found
    assert remedy in line.remedy


async def test_a_speech_server_that_is_down_may_come_back() -> None:
    """A remote speech model that does not answer is for later, with where to look."""
    _settings(
        f'[model]\npath = "echo"\n[speech]\nbase_url = "http://127.0.0.1:{_closed_port()}/v1"\nname = "m"'
    )
    line = (await _lines(model=True))["speech"]
    assert line.state is State.LATER
    assert "server" in line.remedy


async def test_a_model_server_that_is_down_may_come_back() -> None:
    """A remote model that does not answer is for later, with where to look."""
    _settings(f'[model]\nbase_url = "http://127.0.0.1:{_closed_port()}/v1"\nname = "m"')
    line = (await _lines(model=True))["model"]
    assert line.state is State.LATER
    assert line.remedy == "look at that server"


# -- the homeserver --------------------------------------------------------------------------------


def _closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def test_a_homeserver_that_is_down_may_come_back() -> None:
    """`hearth run` waits for it, so it is for later; the lines after it are not guessed."""
    _matrix(f"http://127.0.0.1:{_closed_port()}")
    lines = await _lines()
    assert lines["homeserver"].state is State.LATER
    assert "login" not in lines
    assert "persona" in lines


@pytest.fixture
async def other_server() -> AsyncIterator[str]:
    """A web server that is no homeserver."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            text="<html>Welcome</html>" if request.path == "/" else '{"error": "no"}', status=404
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_an_address_that_is_no_homeserver_is_a_problem(other_server: str) -> None:
    """A wrong address is told from a server that is down."""
    _matrix(other_server)
    line = (await _lines())["homeserver"]
    assert line.state is State.PROBLEM
    assert "matrix.homeserver" in line.remedy


async def _devices(url: str, token: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{url}/_matrix/client/v3/devices") as answer,
    ):
        return list((await answer.json())["devices"])


async def _token(url: str, user: str, password: str) -> str:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user},
        "password": password,
    }
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/_matrix/client/v3/login", json=body) as answer,
    ):
        return str((await answer.json())["access_token"])


def _hearth_run() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bridge", "run"], capture_output=True, text=True, timeout=60, check=False
    )


async def test_logins_are_tried_on_a_real_homeserver_without_leaving_a_session(tmp_path: Path) -> None:
    """Right and wrong passwords and tokens are told apart, and no device is there that was not before.

    With a wrong password `hearth run` ends with the same remedy instead of trying for ever.
    """
    async with Homeserver(tmp_path / "synapse", server_name="hearth.test") as server:
        await asyncio.gather(server.register("hearth", "right"), server.register("ada", "hers"))
        token = await _token(server.url, BOT, "right")
        before = await _devices(server.url, token)
        _matrix(server.url)
        settings = Path("hearth.toml").read_text()
        Path("hearth.toml").write_text(f'{settings}\n[model]\npath = "echo"\n')

        _secret(MATRIX_PASSWORD, "wrong")
        line = (await _lines())["login"]
        assert line.state is State.PROBLEM
        assert "M_FORBIDDEN" in line.found
        assert MATRIX_PASSWORD in line.remedy
        ran = await asyncio.to_thread(_hearth_run)
        assert ran.returncode == os.EX_CONFIG
        assert MATRIX_PASSWORD in ran.stderr.splitlines()[-1]
        assert "Traceback" not in ran.stderr

        _secret(MATRIX_PASSWORD, "right")
        lines = await _lines()
        assert lines["homeserver"].state is State.OK
        assert lines["login"].state is State.OK
        assert lines["cross-signing"].state is State.NOTE
        assert await _devices(server.url, token) == before

        Path("data/credentials", MATRIX_PASSWORD).unlink()
        _secret(MATRIX_ACCESS_TOKEN, "made-up")
        assert "M_UNKNOWN_TOKEN" in (await _lines())["login"].found
        _secret(MATRIX_ACCESS_TOKEN, await _token(server.url, "@ada:hearth.test", "hers"))
        assert "@ada:hearth.test" in (await _lines())["login"].found
        _secret(MATRIX_ACCESS_TOKEN, token)
        assert (await _lines())["login"].state is State.OK
