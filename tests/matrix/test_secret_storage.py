"""The identity on the server under a recovery key: kept, restored, joined, and never in clear."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from bridge.credentials import MATRIX_RECOVERY_KEY as CREDENTIAL
from bridge.matrix.crypto import recovery
from bridge.matrix.identity import Identity, Standing
from bridge.matrix.secret_storage import DEFAULT, SECRETS, Kept, SecretStorage
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from pathlib import Path

    from tests.matrix.conftest import Bot, World


@dataclass
class Note:
    """Where an operator keeps the key."""

    text: str | None = None

    def get(self) -> str | None:
        return self.text

    def put(self, text: str) -> None:
        self.text = text


def storage(bot: Bot, note: Note) -> SecretStorage:
    client = bot.platform._client
    assert client is not None
    return SecretStorage(client.call, bot.id, note, secrets.token_bytes)


async def data(bot: Bot, kind: str) -> dict[str, Any]:
    client = bot.platform._client
    assert client is not None
    return await client.call("GET", ("v3", "user", bot.id, "account_data", kind), accept=frozenset({404}))


def seeds(bot: Bot) -> dict[str, str]:
    kept: dict[str, str] = json.loads((bot.platform._session.folder / "cross-signing.json").read_text())
    return kept


async def test_the_first_start_makes_a_recovery_key(world: World) -> None:
    """The three secrets lie there under it, encrypted; the next start changes nothing."""
    note = Note()
    bot = await world.bot(recovery=note)
    assert note.text is not None
    assert len(recovery.decode(note.text)) == 32
    assert await storage(bot, note).state() is Kept.HERE
    assert await storage(bot, note).restored() == seeds(bot)
    there = {kind: await data(bot, kind) for kind in (DEFAULT, *SECRETS.values())}
    wire = json.dumps(there)
    assert all(seed not in wire for seed in seeds(bot).values())
    await bot.stop()
    again = await world.bot(bot.id, bot.cursor, recovery=note)
    assert {kind: await data(again, kind) for kind in there} == there


async def test_a_lost_disk_loses_no_identity(world: World, tmp_path: Path) -> None:
    """With the recovery key a new folder has the same identity, and its new device is signed by it."""
    note = Note()
    bot = await world.bot(recovery=note)
    before = seeds(bot)
    await bot.stop()
    found = await world.bot(bot.id, recovery=note, store=tmp_path / "new disk")
    assert seeds(found) == before
    assert found.platform.standing is Standing.SIGNED
    ada = await world.human()
    room = await world.room(ada, found)
    await ada.say(room, "who are you?", mentions=[])
    await found.heard("who are you?")


async def test_without_the_recovery_key_it_is_a_stranger(world: World, tmp_path: Path) -> None:
    """Nothing is replaced: the account has an identity, and it is not ours."""
    note = Note()
    bot = await world.bot(recovery=note)
    there = await data(bot, SECRETS["master"])
    await bot.stop()
    found = await world.bot(bot.id, recovery=Note(), store=tmp_path / "new disk")
    assert found.platform.standing is Standing.FOREIGN
    assert await data(found, SECRETS["master"]) == there
    assert await storage(found, Note()).state() is Kept.OTHERS


@pytest.mark.parametrize("text", [recovery.encode(bytes(32)), "EsTj 3yST", "my password"])
async def test_a_wrong_recovery_key_is_said_and_changes_nothing(
    world: World, tmp_path: Path, text: str
) -> None:
    """Another's, half of one, none at all: which file to correct, and never what stands in it."""
    note = Note()
    bot = await world.bot(recovery=note)
    there = await data(bot, SECRETS["master"])
    await bot.stop()
    with pytest.raises(Misconfigured, match=CREDENTIAL) as error:
        await world.bot(bot.id, recovery=Note(text), store=tmp_path / "new disk")
    assert text not in str(error.value)
    again = await world.bot(bot.id, bot.cursor, recovery=note)
    assert await data(again, SECRETS["master"]) == there


async def test_secrets_that_are_not_the_servers_identity_are_not_believed(
    world: World, tmp_path: Path
) -> None:
    """Whoever has the account's password can store others there; the public keys decide."""
    note = Note()
    bot = await world.bot(recovery=note)
    await storage(bot, note).keep(Identity.generate().seeds())
    await bot.stop()
    found = await world.bot(bot.id, recovery=note, store=tmp_path / "new disk")
    assert found.platform.standing is Standing.FOREIGN
    assert not (tmp_path / "new disk" / "cross-signing.json").exists()


async def test_what_others_keep_there_stays(world: World) -> None:
    """A storage that was made with another client: its key and its secrets are as they were."""
    bot = await world.bot()
    theirs = Note()
    other = dict.fromkeys(SECRETS, "A" * 43)
    assert await storage(bot, theirs).keep(other) is Kept.HERE
    there = await data(bot, SECRETS["master"])
    await bot.stop()
    ours = Note()
    again = await world.bot(bot.id, bot.cursor, recovery=ours)
    assert again.platform.standing is Standing.SIGNED
    assert ours.text is None
    assert await data(again, SECRETS["master"]) == there
    assert await storage(again, theirs).restored() == other
