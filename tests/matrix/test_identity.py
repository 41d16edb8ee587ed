"""The bot's device is vouched for: verified by a second account from what the server publishes."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bridge.matrix.identity import Identity, Standing, canonical, is_signed_by, public, sign
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from tests.human import Human
    from tests.matrix.conftest import World


async def published(person: Human, user: str) -> dict[str, Any]:
    """What `/keys/query` tells `person` about `user`."""
    answer = await person.client.send(
        "POST",
        "/_matrix/client/v3/keys/query",
        json.dumps({"device_keys": {user: []}}),
        {"Authorization": f"Bearer {person.client.access_token}"},
    )
    told: dict[str, Any] = await answer.json()
    return told


def verify(value: dict[str, Any], user: str, key: str) -> None:
    """Check a signature as the spec has it, with nothing of the code under test; raises if it is bad."""
    signature = value["signatures"][user][f"ed25519:{key}"]
    assert "=" not in signature
    bare = {name: item for name, item in value.items() if name not in ("signatures", "unsigned")}
    signed = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    raw = base64.b64decode(key + "=")
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature + "=="), signed)


def chain(told: dict[str, Any], user: str, device: str) -> str:
    """Verify master -> self-signing -> device; the master key."""
    master = told["master_keys"][user]
    (master_key,) = master["keys"].values()
    lower = told["self_signing_keys"][user]
    (lower_key,) = lower["keys"].values()
    assert (master["usage"], lower["usage"]) == (["master"], ["self_signing"])
    verify(lower, user, master_key)
    verify(told["device_keys"][user][device], user, lower_key)
    return str(master_key)


async def test_a_second_account_can_verify_the_device(world: World) -> None:
    """From /keys/query alone: master signs self-signing, self-signing the device; kept over a restart."""
    ada, bot = await world.human(), await world.bot()
    assert bot.platform.standing is Standing.SIGNED
    first = await published(ada, bot.id)
    master = chain(first, bot.id, bot.platform.device)
    await bot.stop()
    again = await world.bot(bot.id, bot.cursor)
    second = await published(ada, bot.id)
    assert chain(second, bot.id, again.platform.device) == master
    assert second["device_keys"] == first["device_keys"]


async def test_a_new_device_is_signed_by_the_same_identity(world: World) -> None:
    """When the session is made anew, the kept identity vouches for the new device too."""
    ada, bot = await world.human(), await world.bot()
    master = chain(await published(ada, bot.id), bot.id, bot.platform.device)
    await bot.stop()
    (world.folder / bot.id.partition(":")[0][1:] / "session.json").unlink()
    again = await world.bot(bot.id)
    assert again.platform.device != bot.platform.device
    assert chain(await published(ada, bot.id), bot.id, again.platform.device) == master


async def test_an_identity_of_somebody_else_is_not_replaced(world: World) -> None:
    """Where the account has an identity that we have no keys of, it stays, and the standing says so."""
    ada, bot = await world.human(), await world.bot()
    master = chain(await published(ada, bot.id), bot.id, bot.platform.device)
    await bot.stop()
    path = world.folder / bot.id.partition(":")[0][1:] / "cross-signing.json"
    path.with_name("recovery-key").unlink()
    for content in (None, json.dumps(Identity.generate().seeds())):
        path.unlink()
        if content is not None:
            path.write_text(content)
        other = await world.bot(bot.id, bot.cursor)
        assert other.platform.standing is Standing.FOREIGN
        await other.stop()
        path.touch()
        assert chain(await published(ada, bot.id), bot.id, bot.platform.device) == master
    path.write_text("{}")
    with pytest.raises(Misconfigured, match="damaged"):
        await world.unstarted(bot.id).start()


async def test_an_identity_without_its_lower_keys_is_completed(world: World) -> None:
    """A publication that broke off half-way is finished at the next start, with the password."""
    ada, bot = await world.human(), await world.bot()
    await bot.stop()
    path = world.folder / bot.id.partition(":")[0][1:] / "cross-signing.json"
    seeds = json.loads(path.read_text())
    path.write_text(json.dumps({**seeds, "self_signing": Identity.generate().seeds()["self_signing"]}))
    again = await world.bot(bot.id, bot.cursor)
    assert again.platform.standing is Standing.SIGNED
    chain(await published(ada, bot.id), bot.id, again.platform.device)


async def test_the_files_of_an_account_are_private(world: World) -> None:
    """The folder is ours alone and so is every file in it: keys, tokens, identity."""
    bot = await world.bot()
    folder = world.folder / bot.id.partition(":")[0][1:]
    assert folder.stat().st_mode & 0o777 == 0o700
    names = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {"session.json", "cross-signing.json", "lock"} < set(names)
    assert any(name.endswith(".db") for name in names)
    assert set(names.values()) == {0o600}


def test_signatures_are_those_of_the_spec() -> None:
    """Signing covers canonical JSON without signatures and unsigned; a changed object fails."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    value: dict[str, Any] = {"b": "ü", "a": [1, {"y": None, "x": True}], "unsigned": {"age": 1}}
    assert canonical(value) == '{"a":[1,{"x":true,"y":null}],"b":"ü"}'.encode()
    sign(value, "@a:b", public(key), key)
    verify(value, "@a:b", public(key))
    assert is_signed_by(value, "@a:b", public(key))
    assert is_signed_by({**value, "unsigned": {}}, "@a:b", public(key))
    assert not is_signed_by({**value, "b": "u"}, "@a:b", public(key))
    assert not is_signed_by(value, "@c:b", public(key))
    with pytest.raises(InvalidSignature):
        verify({**value, "b": "u"}, "@a:b", public(key))


def test_seeds_make_the_same_identity() -> None:
    """What is kept is enough to make the same three keys again."""
    identity = Identity.generate()
    again = Identity.from_seeds(identity.seeds())
    assert again.published("@a:b") == identity.published("@a:b")
    with pytest.raises((ValueError, KeyError)):
        Identity.from_seeds({"master": "AA", "self_signing": "AA", "user_signing": "AA"})
