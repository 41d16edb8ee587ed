"""Identity, secret storage and backup against a real Synapse: made once, kept, restored, never forced."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import vodozemac
from nio.crypto import InboundGroupSession, OutboundGroupSession

from bridge.matrix.client import Client
from bridge.matrix.crypto import recovery, vault
from bridge.matrix.crypto.backup import Backing
from bridge.matrix.crypto.keeper import PAUSE_FIRST
from bridge.matrix.crypto.ledger import Ledger
from bridge.matrix.crypto.storage import BACKUP, IDENTITY
from bridge.matrix.identity import Identity, Standing, public, unpadded
from bridge.platform import EventKind, Misconfigured
from tests.fakes.proxy import Fault, Proxy, Rule
from tests.matrix.other_client import OtherClient, bytes_of, identity_of
from tests.matrix.test_identity import chain, published, verify

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.matrix.crypto.backup import Backup
    from tests.matrix.conftest import Bot, World

WRONG = recovery.encode(bytes_of("wrong"))


def folder_of(world: World, account: str) -> Path:
    return world.folder / account.partition(":")[0][1:]


def recovery_key(world: World, account: str) -> str:
    return (folder_of(world, account) / "recovery-key").read_text()


async def refused(world: World, account: str, key: str) -> str:
    """What the operator is told of a recovery key with which the bot does not start."""
    bot = world.unstarted(account, recovery_key=key)
    with pytest.raises(Misconfigured) as caught:
        await bot.start()
    await bot.stop()
    assert caught.value.path == "matrix-recovery-key"
    return caught.value.remedy


def backup_of(bot: Bot) -> Backup:
    assert bot.platform._keeper is not None
    assert bot.platform._keeper.backup is not None
    return bot.platform._keeper.backup


class Wire:
    """Every request of every `Client`: method, path and body. `broken` fail as a cut connection would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[str, str, str]] = []
        self.broken = ""
        self.writes_left = 10**6
        send = Client.send

        async def recorded(client: Client, method: str, path: str, data: Any = None, *rest: Any) -> Any:
            self.requests.append((method, path, data.decode() if isinstance(data, bytes) else str(data)))
            if self.broken and self.broken in f"{method} {path}":
                raise aiohttp.ClientConnectionError(self.broken)
            if self.is_write(method, path):
                self.writes_left -= 1
                if self.writes_left < 0:
                    raise aiohttp.ClientConnectionError("no more")
            return await send(client, method, path, data, *rest)

        monkeypatch.setattr(Client, "send", recorded)

    @staticmethod
    def is_write(method: str, path: str) -> bool:
        kinds = ("account_data", "room_keys", "device_signing", "signatures")
        return method in {"PUT", "POST", "DELETE"} and any(kind in path for kind in kinds)

    @property
    def writes(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.requests if self.is_write(method, path)]

    def count(self, what: str) -> int:
        return sum(what in f"{method} {path}" for method, path, _ in self.requests)


# -- made ------------------------------------------------------------------------------------------


async def test_the_first_start_makes_all_of_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A recovery key on disk only; under it the identity and the backup's key; a backup signed by both."""
    ada, bot = await world.human(), await world.bot()
    logged = capsys.readouterr().out
    folder, other = folder_of(world, bot.id), await OtherClient.of(world, bot.id)
    shown = recovery_key(world, bot.id)
    key = recovery.decode(shown)
    data = await other.account_data()
    key_id = data["m.secret_storage.default_key"]["key"]
    assert vault.fits(key, data[f"m.secret_storage.key.{key_id}"])
    stored = {
        name: vault.unseal(key, name, data[name]["encrypted"][key_id])
        for name in (*IDENTITY.values(), BACKUP)
    }
    assert {usage: stored[name] for usage, name in IDENTITY.items()} == json.loads(
        (folder / "cross-signing.json").read_text()
    )
    assert data["m.key_backup"] == {"enabled": True}
    backup = await other.backup()
    assert (backup["algorithm"], backup["count"]) == ("m.megolm_backup.v1.curve25519-aes-sha2", 0)
    private = vodozemac.Curve25519SecretKey.from_bytes(base64.b64decode(stored[BACKUP] + "="))
    assert backup["auth_data"]["public_key"] == private.public_key().to_base64()
    told = await published(ada, bot.id)
    verify(backup["auth_data"], bot.id, chain(told, bot.id, bot.platform.device))
    device = told["device_keys"][bot.id][bot.platform.device]["keys"][f"ed25519:{bot.platform.device}"]
    by_device = backup["auth_data"]["signatures"][bot.id][f"ed25519:{bot.platform.device}"]
    renamed = {"signatures": {bot.id: {f"ed25519:{device}": by_device}}}
    verify({**backup["auth_data"], **renamed}, bot.id, device)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert "recovery_key_made" in logged
    for secret in (shown.strip(), shown.replace(" ", "").strip(), *stored.values()):
        assert secret not in logged


async def test_a_second_start_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to the server, and the files are the same."""
    bot = await world.bot()
    other, folder = await OtherClient.of(world, bot.id), folder_of(world, bot.id)
    await bot.stop()
    names = ("recovery-key", "cross-signing.json", "key-backup.json")
    before = (
        await other.account_data(),
        await other.backup(),
        [(folder / name).read_text() for name in names],
    )
    wire = Wire(monkeypatch)
    again = await world.bot(bot.id, bot.cursor)
    assert (again.platform.standing, backup_of(again).state) == (Standing.SIGNED, Backing.READY)
    assert wire.writes == []
    after = (
        await other.account_data(),
        await other.backup(),
        [(folder / name).read_text() for name in names],
    )
    assert after == before


@pytest.mark.parametrize("writes", range(2, 10))
async def test_a_start_that_breaks_off_anywhere_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Whichever request is the last that works: the bot runs, and the next start leaves all whole, once."""
    wire = Wire(monkeypatch)
    wire.writes_left = writes  # the first two publish and sign the identity, without which nobody starts
    bot = await world.bot()
    assert bot.platform.standing is Standing.SIGNED
    seen = recovery_key(world, bot.id)
    await bot.stop()
    wire.writes_left = 10**6
    again = await world.bot(bot.id, bot.cursor)
    assert backup_of(again).state is Backing.READY
    assert recovery_key(world, bot.id) == seen
    other, key = await OtherClient.of(world, bot.id), recovery.decode(seen)
    data = await other.account_data()
    key_id = data["m.secret_storage.default_key"]["key"]
    for name in (*IDENTITY.values(), BACKUP):
        assert vault.unseal(key, name, data[name]["encrypted"][key_id])
    assert (await other.backup())["version"] == "1"
    assert len(wire.writes) > writes


async def test_what_breaks_off_is_finished_without_a_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the pause a running bot goes on where it failed, and not before."""
    wire, now = Wire(monkeypatch), [1000.0]
    wire.broken = "PUT /_matrix/client/v3/user"
    ada, account = await world.human(), await world.account()
    bot = await world.bot(account, clock=lambda: now[0])
    room = await world.room(ada, bot)
    for text in ("one", "two", "three"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    assert wire.count("PUT /_matrix/client/v3/user") == 1
    assert bot.platform._keeper is not None
    assert bot.platform._keeper.backup is None
    wire.broken = ""
    now[0] += PAUSE_FIRST
    for text in ("four", "five"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    assert backup_of(bot).state is Backing.READY
    assert (await (await OtherClient.of(world, account)).backup())["count"] > 0


# -- restored --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["as credential", "in the folder"])
async def test_a_lost_disk_loses_no_conversation(world: World, kept: str) -> None:
    """With the recovery key alone the next start is the same identity, and reads what was said before."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    for text in ("the old words", "and more of them"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    await bot.say(room, "what I answered")
    await ada.say(room, "the last of them", mentions=[])
    await bot.heard("the last of them")
    master = chain(await published(ada, bot.id), bot.id, bot.platform.device)
    device, shown, folder = bot.platform.device, recovery_key(world, bot.id), folder_of(world, bot.id)
    await bot.stop()
    shutil.rmtree(folder)
    if kept == "in the folder":
        folder.mkdir()
        (folder / "recovery-key").write_text(shown)
    again = await world.bot(bot.id, recovery_key=shown if kept == "as credential" else None)
    assert again.platform.device != device
    assert chain(await published(ada, bot.id), bot.id, again.platform.device) == master
    for text in ("the old words", "and more of them", "what I answered", "the last of them"):
        assert (await again.heard(text)).context_only
    # What is said from now on works as before, both ways.
    await ada.say(room, "welcome back", mentions=[])
    await again.heard("welcome back")
    sent = await again.say(room, "here I am")
    assert (await ada.until(room, lambda said: said.id == sent)).text == "here I am"
    imported = await asyncio.to_thread(Ledger(folder).imported)
    assert imported
    assert all(map(backup_of(again).is_imported, imported))
    assert (await (await OtherClient.of(world, bot.id)).backup())["version"] == "1"


async def test_without_the_recovery_key_a_lost_disk_is_another_bot(world: World) -> None:
    """Nothing is forced: the identity stays, nothing is restored, and the log says what is missing."""
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    await ada.say(room, "the old words", mentions=[])
    await bot.heard("the old words")
    await bot.stop()
    shutil.rmtree(folder_of(world, bot.id))
    again = await world.bot(bot.id)
    assert again.platform.standing is Standing.FOREIGN
    assert "the old words" not in again.texts(room)


async def test_a_restore_that_fails_is_made_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server fails while the keys are read back: they come after the pause, also after a restart."""
    ada, bot, now = await world.human(), await world.bot(), [1000.0]
    room = await world.room(ada, bot)
    for text in ("the old words", "and more of them"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    shown, folder = recovery_key(world, bot.id), folder_of(world, bot.id)
    await bot.stop()
    shutil.rmtree(folder)
    wire = Wire(monkeypatch)
    wire.broken = "GET /_matrix/client/v3/room_keys/keys"
    lost = await world.bot(bot.id, recovery_key=shown, clock=lambda: now[0])
    await ada.say(room, "a new key comes in", mentions=[])
    await lost.heard("a new key comes in")
    old = [event for event in lost.events if event.kind is EventKind.SEALED]
    assert old
    await lost.stop()  # the store is not empty any more, and the restore still due
    again = await world.unstarted(bot.id, lost.cursor, clock=lambda: now[0]).start(tuple(old))
    await ada.say(room, "nothing yet", mentions=[])
    await again.heard("nothing yet")
    assert wire.count("GET /_matrix/client/v3/room_keys/keys") == 2
    wire.broken = ""
    now[0] += PAUSE_FIRST
    for text in ("soon", "now"):
        await ada.say(room, text, mentions=[])
        await again.heard(text)
    await again.until(lambda: {"the old words", "and more of them"} <= {event.text for event in again.opened})


async def test_one_key_is_looked_up_when_it_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fetch` brings one session back; what is not there is asked for once in a while only."""
    now = [1000.0]
    ada, account = await world.human(), await world.account()
    bot = await world.bot(account, clock=lambda: now[0])
    room = await world.room(ada, bot)
    for text in ("the old words", "and more of them"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    client, backup, wire = bot.platform._client, backup_of(bot), Wire(monkeypatch)
    assert client is not None
    (session,) = (
        key for key, one in client.olm.inbound_group_store._entries[room].popitem()[1].items() if one
    )
    messages = await client.call("GET", ("v3", "rooms", room, "messages"), query={"dir": "b"})
    raw = next(one for one in messages["chunk"] if one["type"] == "m.room.encrypted")
    assert client.opened(room, raw) is None
    assert await backup.fetch(room, session)
    clear = client.opened(room, raw)
    assert clear is not None
    assert clear["content"]["body"] == "and more of them"
    assert backup.is_imported(session)
    for _ in range(3):
        assert not await backup.fetch(room, "unknown")
    assert wire.count("room_keys/keys") == 2
    now[0] += 301
    assert not await backup.fetch(room, "unknown")
    assert wire.count("room_keys/keys") == 3


# -- wrong keys, foreign identities ----------------------------------------------------------------


@pytest.mark.parametrize("key", [WRONG, WRONG[:-1], "correct horse battery staple"])
async def test_a_wrong_recovery_key_is_said_and_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A key of another account, or none at all: the operator is told, the server and the files are left."""
    bot = await world.bot()
    await bot.stop()
    folder, wire = folder_of(world, bot.id), Wire(monkeypatch)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".db"}
    for lost in (False, True):
        if lost:
            (folder / "cross-signing.json").unlink()
            before.pop("cross-signing.json")
        assert key not in await refused(world, bot.id, key)
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".db"} == before
    assert wire.writes == []


async def test_a_recovery_key_for_an_identity_that_it_does_not_hold_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No storage, an empty one, or one with another identity: each is told apart, and nothing is written."""
    account = await world.account()
    other, key = await OtherClient.of(world, account), bytes_of("theirs")
    await other.set_identity(identity_of("theirs"))
    wire, shown = Wire(monkeypatch), recovery.encode(key)

    assert "not in secret storage" in await refused(world, account, shown)
    await other.set_storage(key, None)
    assert "no whole identity" in await refused(world, account, shown)
    await other.set_storage(key, identity_of("an older one"))
    assert "not the one that the homeserver tells" in await refused(world, account, shown)
    await other.put(IDENTITY["master"], {"encrypted": {other.key_id: {"iv": "AAAA"}}})
    assert "no whole identity" in await refused(world, account, shown)
    assert wire.writes == []


async def test_an_identity_of_another_client_is_joined_with_its_recovery_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the key nothing is touched; with it the device is signed by it, and its backup is used."""
    ada, account = await world.human(), await world.account()
    other, theirs, private = await OtherClient.of(world, account), identity_of("theirs"), bytes_of("backup")
    await other.set_identity(theirs)
    shown = await other.set_storage(bytes_of("theirs"), theirs, **{BACKUP: unpadded(private)})
    version = await other.set_backup(private, theirs)
    outbound = OutboundGroupSession()
    old = InboundGroupSession(outbound.session_key, "signing", "sender", "!gone:x")
    await other.back_up(private, version, old)
    before = await other.account_data()
    with monkeypatch.context() as patch:
        wire = Wire(patch)
        stranger = await world.bot(account)
        assert stranger.platform.standing is Standing.FOREIGN
        await stranger.stop()
        assert wire.writes == []
    bot = await world.bot(account, recovery_key=shown)
    assert bot.platform.standing is Standing.SIGNED
    assert chain(await published(ada, account), account, bot.platform.device) == public(theirs.master)
    folder = folder_of(world, account)
    assert json.loads((folder / "cross-signing.json").read_text()) == theirs.seeds()
    assert not (folder / "recovery-key").exists(), "it is the operator's, who keeps it"
    assert await other.account_data() == before
    assert (backup_of(bot).state, backup_of(bot).version) == (Backing.READY, version)
    assert bot.platform._client is not None
    assert bot.platform._client.olm.inbound_group_store.get("!gone:x", "sender", old.id) is not None
    room = await world.room(ada, bot)
    for text in ("in", "out"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    assert (await other.backup())["count"] == 2


async def test_an_identity_that_was_replaced_is_noticed_and_explained(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reset in another client is seen at the next start, nothing is undone; its recovery key joins it."""
    ada, bot = await world.human(), await world.bot()
    await bot.stop()
    folder, other, theirs = folder_of(world, bot.id), await OtherClient.of(world, bot.id), identity_of("new")
    ours = json.loads((folder / "cross-signing.json").read_text())
    await other.set_identity(theirs)
    shown = await other.set_storage(bytes_of("new"), theirs)
    with monkeypatch.context() as patch:
        wire = Wire(patch)
        foreign = await world.bot(bot.id, bot.cursor)
        assert foreign.platform.standing is Standing.FOREIGN
        await foreign.stop()
        assert wire.writes == []
    assert "has replaced the identity that Hearth made" in capsys.readouterr().out
    assert json.loads((folder / "cross-signing.json").read_text()) == ours
    joined = await world.bot(bot.id, bot.cursor, recovery_key=shown)
    assert chain(await published(ada, bot.id), bot.id, joined.platform.device) == public(theirs.master)
    assert json.loads((folder / "cross-signing.old.json").read_text()) == ours
    assert Identity.from_seeds(ours).publics() != theirs.publics()


async def test_a_storage_that_was_reset_is_left_alone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new recovery key made in another client: ours is not forced on it, and the log says what to do."""
    bot = await world.bot()
    await bot.stop()
    other = await OtherClient.of(world, bot.id)
    await other.set_storage(bytes_of("new"), None)
    before = await other.account_data()
    again = await world.bot(bot.id, bot.cursor)
    assert (again.platform.standing, backup_of(again).state) == (Standing.SIGNED, Backing.READY)
    assert await other.account_data() == before
    assert "was changed in another client" in capsys.readouterr().out


# -- the backup ------------------------------------------------------------------------------------


async def test_a_backup_of_somebody_else_gets_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that nobody of ours signed is not filled, not even after a start; ours goes on after it."""
    now = [1000.0]
    ada, account = await world.human(), await world.account()
    bot = await world.bot(account, clock=lambda: now[0])
    other, room = await OtherClient.of(world, account), await world.room(ada, bot)
    foreign = await other.set_backup(bytes_of("mallory"), identity_of("mallory"))
    for text in ("one", "two"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    assert backup_of(bot).state is Backing.UNKNOWN, "the server told that the version is another one"
    now[0] += PAUSE_FIRST
    for text in ("three", "four"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    assert backup_of(bot).state is Backing.FOREIGN
    await bot.stop()
    again = await world.bot(account, bot.cursor)
    assert backup_of(again).state is Backing.FOREIGN
    assert (await other.backup())["count"] == 0
    assert "delete this key backup" in capsys.readouterr().out
    await again.stop()
    await other.call("DELETE", ("v3", "room_keys", "version", foreign))
    third = await world.bot(account, again.cursor)
    assert (backup_of(third).state, (await other.backup())["count"] > 0) == (Backing.READY, True)


async def test_a_backup_that_was_deleted_is_made_again(world: World) -> None:
    """Somebody deleted it: the next start makes one under the same key, with all that there was."""
    ada, bot = await world.human(), await world.bot()
    other, room = await OtherClient.of(world, bot.id), await world.room(ada, bot)
    for text in ("one", "two"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
    first = await other.backup()
    assert first["count"] > 0
    await bot.stop()
    await other.call("DELETE", ("v3", "room_keys", "version", first["version"]))
    await world.bot(bot.id, bot.cursor)
    second = await other.backup()
    assert (second["version"] > first["version"], second["count"]) == (True, first["count"])
    assert second["auth_data"]["public_key"] == first["auth_data"]["public_key"]


async def test_a_backup_that_the_owner_switched_off_is_not_made(world: World) -> None:
    """MSC4287: `m.key_backup` says no, and so there is none."""
    account = await world.account()
    other = await OtherClient.of(world, account)
    await other.put("m.key_backup", {"enabled": False})
    bot = await world.bot(account)
    assert (bot.platform.standing, backup_of(bot).state) == (Standing.SIGNED, Backing.OFF)
    assert (await other.backup())["errcode"] == "M_NOT_FOUND"


async def test_an_upload_that_fails_goes_on_later_without_a_loop(world: World) -> None:
    """429 and 5xx: one try a pause, which grows; in the end, after a restart, all is there."""
    now = [1000.0]
    ada, account = await world.human(), await world.account()
    faults = (Fault.LIMIT, Fault.ERROR)  # aiohttp itself sends again what was LOST
    puts, rule = "PUT room_keys/keys", Rule("PUT room_keys/keys", faults, every=len(faults), seconds=5)
    async with Proxy(world.server.url, (rule,), seed=1) as proxy:
        bot = await world.bot(account, clock=lambda: now[0], homeserver=proxy.url)
        room, texts = await world.room(ada, bot), iter(map(str, range(1000)))

        async def talk(bot: Bot) -> None:
            """Three rounds of the loop, with a new room key in the first of them."""
            ada.client.invalidate_outbound_session(room)
            for text in (next(texts), next(texts), next(texts)):
                await ada.say(room, text, mentions=[], fresh=False)
                await bot.heard(text)

        for tried in (1, 2, 3):
            await talk(bot)
            assert proxy.requests[puts] == tried
            now[0] += PAUSE_FIRST * 2 ** (tried - 1) - 1
            await talk(bot)
            assert proxy.requests[puts] == tried, "not before the pause is over, which doubles"
            now[0] += 1
        assert {f"{fault} {puts}" for fault in faults} == set(proxy.faults)
        proxy._decks.clear()
        await bot.stop()
        again = await world.bot(account, bot.cursor, clock=lambda: now[0], homeserver=proxy.url)
        await talk(again)
        client = again.platform._client
        assert client is not None
        ours = sum(1 for _ in client.olm.inbound_group_store)
        assert (await (await OtherClient.of(world, account)).backup())["count"] == ours
        asked = proxy.requests[puts]
        await ada.say(room, "the same key", mentions=[], fresh=False)
        await again.heard("the same key")
        await ada.say(room, "once more", mentions=[], fresh=False)
        await again.heard("once more")
        assert proxy.requests[puts] == asked, "everything is there, and nothing is sent"


async def test_a_round_uploads_one_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long history goes up piece by piece, each session once."""
    monkeypatch.setattr("bridge.matrix.crypto.backup.BATCH", 3)
    ada, bot = await world.human(), await world.bot()
    room, wire = await world.room(ada, bot), Wire(monkeypatch)
    client = bot.platform._client
    assert client is not None
    for _ in range(7):
        outbound = OutboundGroupSession()
        old = InboundGroupSession(outbound.session_key, "signing", "sender", "!old:x")
        client.olm.inbound_group_store.add(old)
    for number in range(6):
        await ada.say(room, str(number), mentions=[], fresh=False)
        await bot.heard(str(number))
    sent = [
        json.loads(body) for method, path, body in wire.requests if "PUT" in method and "room_keys" in path
    ]
    sizes = [sum(len(room["sessions"]) for room in one["rooms"].values()) for one in sent]
    assert max(sizes) == 3
    ids = [session for one in sent for room in one["rooms"].values() for session in room["sessions"]]
    assert len(ids) == len(set(ids)) == sum(1 for _ in client.olm.inbound_group_store)


async def test_no_secret_leaves_in_clear(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the bot sends, and nothing that the server keeps, has a private key in any writing."""
    wire = Wire(monkeypatch)
    ada, bot = await world.human(), await world.bot()
    room = await world.room(ada, bot)
    for text in ("one", "two", "three"):
        await ada.say(room, text, mentions=[])
        await bot.heard(text)
        await bot.say(room, f"and {text}")
    folder, other = folder_of(world, bot.id), await OtherClient.of(world, bot.id)
    shown = recovery_key(world, bot.id).strip()
    raw = [recovery.decode(shown)]
    seeds = json.loads((folder / "cross-signing.json").read_text())
    kept = [*seeds.values(), json.loads((folder / "key-backup.json").read_text())["key"]]
    raw += [base64.b64decode(text + "=") for text in kept]
    secrets = {shown, shown.replace(" ", "")}
    for one in raw:
        secrets |= {one.hex(), unpadded(one), base64.urlsafe_b64encode(one).decode().rstrip("=")}
        secrets |= {recovery.encode(one), recovery.encode(one).replace(" ", "")}
    client = bot.platform._client
    assert client is not None
    for session in client.olm.inbound_group_store:
        secrets.add(session.export_session(session.first_known_index)[20:])
    kept_by_server = [await other.account_data(), await other.backup()]
    version = kept_by_server[1]["version"]
    kept_by_server.append(await other.call("GET", ("v3", "room_keys", "keys"), query={"version": version}))
    assert kept_by_server[2]["rooms"][room]["sessions"]
    everything = [*("".join(request) for request in wire.requests), *map(json.dumps, kept_by_server)]
    # The search would find them: the public halves are there.
    assert any(public(Identity.from_seeds(seeds).master) in text for text in everything)
    assert not [secret for secret in secrets for text in everything if secret in text]
