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

import aiohttp
import pytest

from bridge.mastodon.login import NEEDED, TO_ACCEPT, TO_MARK, by_code, challenge, scopes, tried
from bridge.platform import Misconfigured, Retryable
from tests.fakes.instance import HTML, LoopbackInstance

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


async def test_a_token_is_tried_and_kept_where_only_the_account_can_read_it(
    config: Path, server: LoopbackInstance
) -> None:
    """`--token-stdin`: kept 0600, not shown; `--mark` sets the mark; `check` then has nothing to remark."""
    bot = server.login.signed_in
    assert bot
    bot.bot = False
    token = server.state.token(bot)
    done = await hearth(config, "mastodon", "login", "--token-stdin", "--mark", said=f"{token}\n")
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
