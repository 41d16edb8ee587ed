"""`hearth check` on links over HTTPS: one line each, with what to do; nobody is asked anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.accounts import check_links
from bridge.credentials import A2A_FROM, A2A_TO, peer_token
from bridge.report import State
from bridge.settings import load
from tests.a2a.conftest import TOKEN, app, served
from tests.bridge.city import CITY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest

    from bridge.homeserver_pair import Certificates
    from bridge.report import Line
    from tests.a2a.conftest import House

    Family = Callable[..., Awaitable[House]]

MATRIX = '[matrix]\nhomeserver = "http://localhost"\nuser = "@hearth:home"\n'


async def _lines(folder: Path, text: str) -> list[Line]:
    config = folder / "hearth.toml"
    config.write_text(f"{MATRIX}{text}")
    settings = await asyncio.to_thread(load, config)
    return [line async for line in check_links(settings)]


def _secret(folder: Path, name: str, text: str) -> None:
    credentials = folder / "hearth-data" / "credentials"
    credentials.mkdir(mode=0o700, parents=True, exist_ok=True)
    (credentials / name).write_text(text)


async def test_who_answers_at_an_address(
    family: Family, tls: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that takes our token, one that does not, and one that is not there."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))
    house = await family()
    peer = peer_token(A2A_TO, CITY)
    async with served(lambda url: app(house, url, {CITY: TOKEN}), tls) as url:
        text = f'[[a2a_peers]]\npeer = "{CITY}"\nurl = "{url}"\n'
        _secret(tmp_path, peer, TOKEN)
        (good,) = await _lines(tmp_path, text)
        _secret(tmp_path, peer, "another")
        (bad,) = await _lines(tmp_path, text)
    (gone,) = await _lines(tmp_path, text)
    assert [line.state for line in (good, bad, gone)] == [State.OK, State.PROBLEM, State.LATER]
    assert peer in bad.found
    assert "another" in bad.remedy


async def test_what_is_missing_to_be_asked(tls: Certificates, tmp_path: Path) -> None:
    """No token for a peer that asks us, and a certificate that is none."""
    listens = '[a2a]\nlisten = "127.0.0.1:8780"\nurl = "https://hearth.example"\n'
    peers = f'[[a2a_peers]]\npeer = "{CITY}"\n'
    proxied, none = await _lines(tmp_path, listens + peers)
    assert (proxied.state, none.state) == (State.OK, State.NOTE)
    assert none.remedy == f"hearth links token {CITY}"
    _secret(tmp_path, peer_token(A2A_FROM, CITY), TOKEN)
    own = f'certificate = "{tls.server}"\nprivate_key = "{tls.key}"\n'
    certified, shown = await _lines(tmp_path, listens + own + peers)
    assert (certified.state, shown.state) == (State.OK, State.OK)
    (tmp_path / "no.pem").write_text("no certificate")
    wrong = f'certificate = "no.pem"\nprivate_key = "{tls.key}"\n'
    (broken, _) = await _lines(tmp_path, listens + wrong + peers)
    assert broken.state is State.PROBLEM
    assert "certificate" in broken.found
