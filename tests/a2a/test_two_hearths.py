"""Two real Hearths that share no link room: a question over HTTPS, set up as docs/links.md tells."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from bridge.credentials import A2A_TO, peer_token
from bridge.homeserver import free_port
from tests.federation.test_links import POOL, Side
from tests.hearth import Hearth
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.homeserver import Homeserver
    from bridge.homeserver_pair import Certificates

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def hearth_cli(side: Side, *words: str) -> str:
    """What a command of `hearth` prints for that household."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bridge", "--config", str(side.hearth.config), *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@asynccontextmanager
async def side(server: Homeserver, folder: Path, name: str, bot: str, more: str) -> AsyncIterator[Side]:
    """One household whose Hearth does not run yet, and somebody who moderates its room."""
    folder.mkdir()
    who = await server.register(f"{name}human{secrets.token_hex(3)}", "pw")
    async with Human(server.url, who, "pw") as human:
        room = await human.create_room(name, invite=[bot])
        settings = f'[links]\nhome_room = "{room}"\nwait = "2m"\n{more}'
        yield Side(Hearth(folder, server.url, bot, settings=settings), human, room)


async def joined(side: Side) -> None:
    await side.human.until_joined(side.room, side.bot)
    levels = (await side.human.client.room_get_state_event(side.room, "m.room.power_levels")).content
    levels["users"] = levels.get("users", {}) | {side.bot: 100}
    await side.human.put_state(side.room, "m.room.power_levels", levels)


async def test_a_question_over_https(
    synapse: Homeserver, tls: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set up as an operator would, allowed by both rooms, asked, answered from the city's notes, recorded."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))
    bots = {
        name: await synapse.register(f"{name}{secrets.token_hex(3)}", "pw") for name in ("family", "city")
    }
    port = free_port()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "pool.md").write_text(POOL)
    listens = (
        f'[notes]\nlocal = "{tmp_path / "notes"}"\n[policy]\nnotes = ["*"]\n'
        f'[a2a]\nlisten = "127.0.0.1:{port}"\nurl = "https://localhost:{port}"\n'
        f'certificate = "{tls.server}"\nprivate_key = "{tls.key}"\n'
        f'[[a2a_peers]]\npeer = "{bots["family"][1:]}"\n'
    )
    asks = f'[[a2a_peers]]\npeer = "{bots["city"][1:]}"\nurl = "https://localhost:{port}"\n'
    async with AsyncExitStack() as stack:
        city = await stack.enter_async_context(
            side(synapse, tmp_path / "city", "city", bots["city"], listens)
        )
        family = await stack.enter_async_context(
            side(synapse, tmp_path / "family", "family", bots["family"], asks)
        )
        token = await hearth_cli(city, "links", "token", bots["family"][1:])
        kept = family.hearth.folder / "data" / "credentials" / peer_token(A2A_TO, bots["city"][1:])
        kept.touch(mode=0o600)
        kept.write_text(token)
        for one in (city, family):
            await stack.enter_async_context(one.hearth)
            await joined(one)
        for one, other in ((family, city), (city, family)):
            for _ in range(20):  # the two have to hear of each other, which takes a moment
                told = await one.asks(f"!link {other.bot}")
                if "key of" in told.text:
                    break
            assert other.bot[1:] in told.text
            assert "by phone" in told.text
        await city.asks("!policy set notes local")
        await city.asks(
            f"!policy allow answer {family.bot} classes=local-knowledge notes=local until=30 days"
        )
        await family.asks(f"!policy allow ask {city.bot} classes=local-knowledge until=30 days")
        await family.hears("has decided about us", "we may ask them")
        preview = await family.asks("!ask city When does the pool open?", "It would read")
        await family.human.react(family.room, preview.id, "👍")
        answer = await family.hears("not from our bot", "pool.md")
        proof = await family.says("!proof", reply_to=answer.id)
        await family.hears("asks", "answers", "the signature is right", reply_to=proof)
        for one in (family, city):
            await hearth_cli(one, "links", "verify")  # it ends with 1 where the chain is broken
            audit = json.loads(await hearth_cli(one, "links", "audit", "--json"))
            assert {"card", "grant", "ask", "answer"} <= {
                entry["kind"] for entry in audit if entry["allowed"]
            }
            seen = await hearth_cli(one, "doctor")
            assert "ok\tcross-signing" in seen
            assert "every message has its key" in seen
            assert "opens with the recovery key" in await hearth_cli(one, "matrix", "verify")
        rooms = (await family.human.client.joined_rooms()).rooms
        assert rooms == [family.room]
