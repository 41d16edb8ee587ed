"""What `hearth check` says of an account on Mastodon, and which account a command is about."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from bridge.accounts import check_account, chosen
from bridge.credentials import mastodon_token
from bridge.platform import Misconfigured
from bridge.report import State
from bridge.settings import load
from tests.fakes.instance import HTML, LoopbackInstance
from tests.fakes.instance_state import TAKAHE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.report import Line
    from bridge.settings import Settings

PROFILE = "Ada runs me, on the computer in her hall. What is kept is on her page."


@pytest.fixture
async def server() -> AsyncIterator[LoopbackInstance]:
    async with LoopbackInstance() as server:
        yield server


class Household:
    """Settings with the account `hearth` on a server, and what is said of it."""

    def __init__(self, server: LoopbackInstance, folder: Path) -> None:
        self.server = server
        self.bot = server.state.account("hearth", bot=True, note=PROFILE)
        self.address = self.bot.address
        self._folder = folder

    def settings(self, *, allow: str = '["*"]', user: str = "") -> Settings:
        file = self._folder / "hearth.toml"
        file.write_text(
            f"""\
data_dir = {json.dumps(str(self._folder / "data"))}
[[mastodon]]
instance = {json.dumps(self.server.url)}
user = {json.dumps(user or self.address)}
allow = {allow}
""",
            "utf-8",
        )
        return load(file)

    async def lines(self, *, token: str | None, **settings: Any) -> list[Line]:
        loaded = await asyncio.to_thread(self.settings, **settings)
        (account,) = loaded.mastodon
        if token is not None:
            name = mastodon_token(account.user)
            await asyncio.to_thread(loaded.credentials().put, name, SecretStr(token))
        said = [line async for line in check_account(loaded, account)]
        assert {line.name for line in said} == {account.user}
        assert not any(token and token in f"{line.found} {line.remedy}" for line in said)
        return said


@pytest.fixture
def home(server: LoopbackInstance, tmp_path: Path) -> Household:
    return Household(server, tmp_path)


async def test_every_thing_has_its_line(home: Household) -> None:
    """Account, mark, profile, mentions: well, or worth knowing with a remedy; never a reason to stop."""
    said = await home.lines(token=home.server.state.token(home.bot))
    assert [(line.state, line.found.partition(":")[0]) for line in said] == [
        (State.OK, "account"),
        (State.OK, "bot mark"),
        (State.OK, "profile"),
        (State.NOTE, "mentions"),
    ]
    home.bot.bot, home.bot.note = False, "Beep."
    said = await home.lines(token=home.server.state.token(home.bot))
    assert [line.state for line in said] == [State.OK, State.NOTE, State.NOTE, State.NOTE]
    assert all(bool(line.remedy) is (line.state is not State.OK) for line in said)


async def test_without_a_token_nobody_is_asked(home: Household) -> None:
    """Only that is said which is known: how to get one."""
    (line,) = await home.lines(token=None)
    assert (line.state, line.remedy) == (State.PROBLEM, f"hearth mastodon login {home.address}")
    assert home.server.log == []


async def test_who_lets_nobody_ask_is_told(home: Household) -> None:
    """An empty `allow` is a mistake, whatever else there is to say."""
    first, *rest = await home.lines(token=home.server.state.token(home.bot), allow="[]")
    assert (first.state, "allow is empty" in first.found) == (State.PROBLEM, True)
    assert len(rest) == 4


async def test_the_token_of_somebody_else_is_told(home: Household) -> None:
    """With whose it is; nothing is said of that account."""
    (line,) = await home.lines(token=home.server.state.token(home.server.state.account("ada")))
    assert line.state is State.PROBLEM
    assert f"@ada@{home.server.state.domain}" in line.found
    assert "login" in line.remedy


async def test_an_address_in_other_letters_is_the_same(home: Household) -> None:
    """Names of accounts and servers know no case."""
    said = await home.lines(token=home.server.state.token(home.bot), user=home.address.replace("h", "H", 1))
    assert len(said) == 4


@pytest.mark.parametrize("on_takahe", [False, True])
async def test_a_revoked_token_is_the_operators_to_mend(
    home: Household,
    on_takahe: bool,  # noqa: FBT001 - a column
) -> None:
    """401, or a page of HTML with 400: log in again."""
    if on_takahe:
        home.server.state.differs = TAKAHE
    token = home.server.state.token(home.bot)
    home.server.state.revoke(token)
    (line,) = await home.lines(token=token)
    assert (line.state, "not valid" in line.found) == (State.PROBLEM, True)
    assert line.remedy == f"hearth mastodon login {home.address}"


async def test_an_instance_that_is_down_is_nobodys_mistake(home: Household) -> None:
    """A proxy's page now, at the instance document or later: only time helps."""
    for where in ("/api/v2/instance", "/verify_credentials"):
        home.server.faults.clear()
        home.server.fail(where, HTML, times=9)
        (line,) = await home.lines(token=home.server.state.token(home.bot))
        assert (line.state, "503" in line.found) == (State.LATER, True), where
        assert "nginx" not in line.found


async def test_a_base_that_moved_is_told_with_its_new_place(home: Household) -> None:
    """A redirect is not followed: a token goes nowhere that the settings do not name."""
    token = home.server.state.token(home.bot)
    home.server.redirect = "https://moved.example"
    (line,) = await home.lines(token=token)
    assert (line.state, "https://moved.example" in line.found) == (State.PROBLEM, True)


async def test_an_empty_token_file_is_told(home: Household, tmp_path: Path) -> None:
    """There, and of no use: said with its path, and nobody is asked."""
    await home.lines(token="x")
    home.server.log.clear()
    (file,) = (tmp_path / "data" / "credentials").iterdir()
    file.write_text("\n")
    (line,) = await home.lines(token=None)
    assert (line.state, str(file) in line.found) == (State.PROBLEM, True)
    assert home.server.log == []


def test_which_account_is_meant(home: Household, tmp_path: Path) -> None:
    """The only one; else the one that is named, in any case; else a line that names them."""
    one = home.settings()
    assert chosen(one, None).user == home.address
    assert chosen(one, home.address.upper()).user == home.address
    with pytest.raises(Misconfigured, match=home.address):
        chosen(one, "@who@x.example")
    file = tmp_path / "hearth.toml"
    account = file.read_text("utf-8").partition("[[mastodon]]")[2]
    file.write_text(
        file.read_text("utf-8") + "[[mastodon]]" + account.replace("@hearth@", "@second@"), "utf-8"
    )
    two = load(file)
    assert chosen(two, home.address.replace("@hearth@", "@second@")).user.startswith("@second@")
    with pytest.raises(Misconfigured, match="@second@"):
        chosen(two, None)
    file.write_text("", "utf-8")
    with pytest.raises(Misconfigured, match="no account in the settings"):
        chosen(load(file), None)
