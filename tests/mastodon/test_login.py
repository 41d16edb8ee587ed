"""Logging in with an account, and what is said of it: the least rights, tried before kept, never shown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import stat
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import structlog
from aiohttp import web

from bridge import accounts
from bridge.mastodon import login
from bridge.mastodon.login import (
    NEEDED,
    OUT_OF_BAND,
    TO_ACCEPT,
    TO_MARK,
    by_code,
    challenge,
    scopes,
    tried,
)
from bridge.platform import Misconfigured, Retryable
from bridge.settings import load
from tests.fakes.instance import CLOSE, HANG, HTML, LOST, LoopbackInstance
from tests.mastodon.scripted import Scripted
from tests.mastodon.scripted import json as scripted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
"""RFC 7636, appendix B."""


@pytest.fixture
async def server() -> AsyncIterator[LoopbackInstance]:
    async with LoopbackInstance() as server:
        server.login.signed_in = server.state.account("hearth", bot=True)
        server.state.account("ada")
        yield server


async def browser(url: str) -> str:
    """The code on the page that an operator sees who opens `url` and allows it."""
    async with aiohttp.ClientSession() as http, http.get(url) as page:
        found = re.search(r'value="([^"]+)"', await page.text())
    assert found
    return f" {found[1]}\n"


def test_the_challenge_is_that_of_the_standard() -> None:
    """RFC 7636, appendix B."""
    assert challenge(VERIFIER) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert challenge("x" * 43) == base64.urlsafe_b64encode(hashlib.sha256(b"x" * 43).digest()).decode()[:-1]


def test_only_what_is_needed_is_asked_for() -> None:
    """No follow, no deletion of others, no direct admin right; more only where the settings say so."""
    assert scopes(accepts=False, marks=False) == NEEDED
    assert set(scopes(accepts=True, marks=True)) == {*NEEDED, TO_ACCEPT, TO_MARK}
    assert not {"read", "write", "follow", "push"} & set(scopes(accepts=True, marks=True))


async def test_a_code_becomes_a_token_that_works(server: LoopbackInstance) -> None:
    """App, page, code, token: with exactly the rights that were asked for, and it is whose it should be."""
    token = await by_code(server.url, NEEDED, verifier=VERIFIER, ask=browser)
    assert server.state.tokens[token].scopes == set(NEEDED)
    me = await tried(server.url, token, expected=f"@Hearth@{server.state.domain}")
    assert me.is_bot


async def test_the_page_is_asked_for_no_more_than_a_code(server: LoopbackInstance) -> None:
    """Out of band, S256, the scopes word for word; what would be worth stealing is not in the address."""
    shown: list[str] = []

    async def looked(url: str) -> str:
        shown.append(url)
        return await browser(url)

    token = await by_code(server.url, NEEDED, verifier=VERIFIER, ask=looked)
    (page,) = shown
    query = {name: value for name, (value,) in parse_qs(urlsplit(page).query).items()}
    (app,) = server.login._apps.values()
    assert query == {
        "response_type": "code",
        "client_id": app.id,
        "redirect_uri": OUT_OF_BAND,
        "scope": " ".join(NEEDED),
        "code_challenge": challenge(VERIFIER),
        "code_challenge_method": "S256",
    }
    assert app.scopes == set(NEEDED)
    assert not any(secret in page for secret in (VERIFIER, app.secret, token))


async def test_a_wrong_code_is_told_with_a_remedy(server: LoopbackInstance) -> None:
    """The operator mistyped: what to do, and not what the server said."""

    async def mistyped(url: str) -> str:
        return (await browser(url)).strip() + "x"

    with pytest.raises(Misconfigured, match="not the one that the instance showed"):
        await by_code(server.url, NEEDED, verifier=VERIFIER, ask=mistyped)


async def test_a_code_is_worth_nothing_to_who_intercepts_it(server: LoopbackInstance) -> None:
    """PKCE: the server checks the verifier against the challenge that the page was opened with."""

    async def with_another_challenge(url: str) -> str:
        return await browser(url.replace(challenge(VERIFIER), challenge("y" * 43)))

    with pytest.raises(Misconfigured):
        await by_code(server.url, NEEDED, verifier=VERIFIER, ask=with_another_challenge)


async def test_an_address_that_is_no_instance_is_told(server: LoopbackInstance) -> None:
    """Moved, down, or nobody there: the operator's to mend, or to try again."""

    async def never(url: str) -> str:
        raise AssertionError(url)

    server.redirect = "https://moved.example"
    with pytest.raises(Misconfigured, match="set instance to the address"):
        await by_code(server.url, NEEDED, verifier=VERIFIER, ask=never)
    server.redirect = None
    server.fail("/api/v1/apps", HTML)
    with pytest.raises(Retryable, match="503"):
        await by_code(server.url, NEEDED, verifier=VERIFIER, ask=never)
    with pytest.raises(Retryable, match="does not answer"):
        await by_code("http://127.0.0.1:9", NEEDED, verifier=VERIFIER, ask=never)


@pytest.mark.parametrize("page", ["<h1>A website</h1>", "", "[]", "\ufeff{"])
async def test_a_website_is_no_instance(page: str) -> None:
    """It answers, but not as the API does: the address is wrong, and waiting does not help."""
    async with Scripted() as site:
        site.on("/api/v1/apps", web.Response(text=page, content_type="text/html"))
        with pytest.raises(Misconfigured, match="set instance to the address"):
            await by_code(site.url, NEEDED, verifier=VERIFIER, ask=browser)


@pytest.mark.parametrize("answer", [{}, {"access_token": None}, {"access_token": ""}, {"access_token": 7}])
async def test_an_answer_without_a_token_is_none(answer: dict[str, object]) -> None:
    """Nothing is taken for a token that is none."""

    async def code(_: str) -> str:
        return "code"

    async with Scripted() as site:
        site.on("/api/v1/apps", scripted({"client_id": "1", "client_secret": "2"}))
        site.on("/oauth/token", scripted(answer))
        with pytest.raises(Misconfigured, match="gave no token"):
            await by_code(site.url, NEEDED, verifier=VERIFIER, ask=code)


@pytest.mark.parametrize("fault", [HTML, HANG, CLOSE, LOST, 429, 502])
async def test_an_instance_that_goes_away_at_the_end_is_waited_for(
    server: LoopbackInstance, fault: str | int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not said that the code was wrong, nor what it was; and nobody waits for ever."""
    monkeypatch.setattr(login, "DEADLINE", 0.5)
    server.fail("/oauth/token", fault)
    codes: list[str] = []

    async def noted(url: str) -> str:
        codes.append(await browser(url))
        return codes[0]

    with pytest.raises(Retryable) as late:
        await by_code(server.url, NEEDED, verifier=VERIFIER, ask=noted)
    assert "/oauth/token" in str(late.value)
    assert codes[0].strip() not in str(late.value)


async def test_the_token_of_another_account_is_not_taken(server: LoopbackInstance) -> None:
    """Signed in as somebody else in that browser: said, with both names."""
    server.login.signed_in = next(one for one in server.state.accounts.values() if one.name == "ada")
    token = await by_code(server.url, NEEDED, verifier=VERIFIER, ask=browser)
    said = f"the token is that of @ada@{server.state.domain}; sign in there as"
    with pytest.raises(Misconfigured, match=said):
        await tried(server.url, token, expected=f"@hearth@{server.state.domain}")


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, server: LoopbackInstance) -> Path:
    """Settings with one account."""
    file = tmp_path / "hearth.toml"
    file.write_text(
        f"""\
data_dir = {json.dumps(str(tmp_path / "data"))}
[[mastodon]]
instance = {json.dumps(server.url)}
user = "@hearth@{server.state.domain}"
allow = ["*"]
accept_private_mentions = true
[model]
path = "echo"
[speech]
model = "echo"
""",
        "utf-8",
    )
    return file


async def hearth(config: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """The real command, in a process of its own."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "bridge", "--config", str(config), *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("marks", [False, True])
async def test_a_login_in_the_browser_keeps_what_it_needs_and_shows_nothing(
    config: Path,
    server: LoopbackInstance,
    marks: bool,  # noqa: FBT001 - a column
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The rights that these settings need, the token 0600, and no secret in the output."""
    monkeypatch.setattr(accounts, "_ask", browser)
    bot = server.login.signed_in
    assert bot
    bot.bot = False
    with structlog.testing.capture_logs() as logged:
        settings = await asyncio.to_thread(load, config)
        assert await accounts.enrol(settings, None, token=None, marks=marks) == 0
    ((token, kept),) = server.state.tokens.items()
    assert kept.scopes == {*NEEDED, TO_ACCEPT, *([TO_MARK] if marks else [])}
    assert bot.bot is marks
    (file,) = (config.parent / "data" / "credentials").iterdir()
    assert (file.read_text("utf-8").strip(), stat.S_IMODE(file.stat().st_mode)) == (token, 0o600)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    shown = capsys.readouterr()
    (app,) = server.login._apps.values()
    for secret in (token, app.secret):
        assert secret not in shown.out + shown.err + repr(logged)


async def test_a_token_is_tried_and_kept_where_only_the_account_can_read_it(
    config: Path, server: LoopbackInstance
) -> None:
    """`--token-stdin`: kept 0600, not shown; `--mark` sets the mark; `check` then has nothing to remark."""
    bot = server.login.signed_in
    assert bot
    bot.bot = False
    token = server.state.token(bot)
    done = await hearth(config, "-v", "mastodon", "login", "--token-stdin", "--mark", said=f"{token}\n")
    assert done.returncode == 0, done.stderr
    assert bot.bot
    assert token not in done.stdout + done.stderr
    (kept,) = (config.parent / "data" / "credentials").glob("mastodon-token-*")
    assert kept.read_text("utf-8").strip() == token
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    bot.note = "I am the helper of our family; Ada runs me, and what is kept is on her page."
    checked = await hearth(config, "check")
    lines = [line for line in checked.stdout.splitlines() if f"\t{bot.address}\t" in line]
    assert [line.split("\t")[0] for line in lines] == ["ok"] * 4, checked.stdout
    assert "mentions" in lines[3]
    assert token not in checked.stdout + checked.stderr


async def test_check_says_what_an_account_lacks(config: Path, server: LoopbackInstance) -> None:
    """No token; then no mark, no profile, mentions held back; then a revoked token: each with its remedy."""
    bot = server.login.signed_in
    assert bot
    bot.bot = False
    assert f"hearth mastodon login {bot.address}" in (await hearth(config, "check")).stdout
    token = server.state.token(bot)
    await hearth(config, "mastodon", "login", "--token-stdin", said=token)
    config.write_text(config.read_text("utf-8").replace("accept_private_mentions = true\n", ""), "utf-8")
    told = (await hearth(config, "check")).stdout
    for words in ("bot mark: not set", "profile: does not say", "set accept_private_mentions = true"):
        assert words in told
    server.state.tokens[token].revoked = True
    checked = await hearth(config, "check")
    assert checked.returncode != 0
    assert "the access token is not valid" in checked.stdout


async def test_a_bad_token_is_not_kept(config: Path) -> None:
    """Status 78, one line, and no file."""
    done = await hearth(config, "mastodon", "login", "--token-stdin", said="nonsense")
    assert done.returncode == 78
    assert "the access token is not valid" in done.stderr
    assert list(config.parent.glob("data/credentials/mastodon-token-*")) == []
    empty = await hearth(config, "mastodon", "login", "--token-stdin")
    assert empty.returncode == 78
    unknown = await hearth(config, "mastodon", "login", "@who@x.example", "--token-stdin", said="t")
    assert "name one of the accounts in the settings" in unknown.stderr
