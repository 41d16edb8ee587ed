"""Comparing keys with `hearth run` on a real Synapse: what people see and say, what a room makes of it."""

from __future__ import annotations

import re
import secrets
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from bots import wording
from bridge.matrix.crypto.emoji import signs
from policies.document import STATE_TYPE
from policies.verdict import Code
from tests.hearth import Hearth, answer_to
from tests.human import Human
from tests.matrix.crypto.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.homeserver import Homeserver
    from tests.human import Said


class House:
    """Ada, an admin of the bot with a room of her own; Ben, with another; Hearth in both."""

    def __init__(self, ada: Human, ben: Human, hearth: Hearth) -> None:
        self.ada, self.ben, self.hearth = ada, ben, hearth
        self.rooms: dict[str, str] = {}

    async def settle(self) -> None:
        for who in (self.ada, self.ben):
            room = await who.create_room("Home", invite=[self.hearth.user], direct=True)
            await who.until_joined(room, self.hearth.user)
            self.rooms[who.user_id] = room

    async def ask(self, who: Human, words: str) -> Said:
        room = self.rooms[who.user_id]
        asked = await who.say(room, words)
        return await who.until(room, lambda said: said.reply_to == asked)

    async def told(self, who: Human, words: str) -> Said:
        bot, room = self.hearth.user, self.rooms[who.user_id]
        return await who.until(room, lambda said: said.sender == bot and words in said.text)


@pytest.fixture
async def house(synapse: Homeserver, tmp_path: Path) -> AsyncIterator[House]:
    mark = secrets.token_hex(3)
    bot, *users = [await synapse.register(f"{name}{mark}", "pw") for name in ("hearth", "ada", "ben")]
    async with AsyncExitStack() as stack:
        ada, ben = [await stack.enter_async_context(Human(synapse.url, one, "pw")) for one in users]
        hearth = Hearth(tmp_path, synapse.url, bot, matrix=f'admins = ["{users[0]}"]')
        await stack.enter_async_context(hearth)
        house = House(ada, ben, hearth)
        await house.settle()
        yield house


async def test_verified_askers(house: House) -> None:
    """A room for verified people refuses Ben, says what to do, and answers once an admin said yes."""
    ada, ben, bot = house.ada, house.ben, house.hearth.user
    home = house.rooms[ben.user_id]
    await ben.put_state(home, STATE_TYPE, {"v": 1, "asker_trust": "verified"})
    await house.told(ben, "What must vouch for who asks: those keys, compared with me by an admin of mine")
    asked = await ben.say(home, "is it raining?")
    refused = await ben.until(home, lambda said: said.reply_to == asked)
    assert wording.VERDICTS[Code.NOT_VOUCHED] in refused.text
    assert wording.REMEDIES["be_verified"] in refused.text
    why = await ben.say(home, "!why", reply_to=asked)
    assert "`room.asker_trust`" in (await ben.until(home, lambda said: said.reply_to == why)).text

    his = Verifier(ben, bot)
    await his.cross_sign()
    await his.ask(home)
    await his.until(lambda _, came: "ready" in came)
    await his.start()
    await his.until(lambda side, _: side.shown is not None)
    assert his.side is not None
    shown = await house.told(ben, "compare keys")
    names = ", ".join(f"{sign} {name}" for sign, name in signs(his.side.shown[0]))
    assert names in shown.text
    numbers = re.findall(r"\b\d{4}\b", shown.text.partition("numbers")[2])
    assert numbers == [str(one) for one in his.side.shown[1]]
    assert ada.user_id in shown.text
    assert "verification_shows" in house.hearth.log.read_text()

    # Ben himself is no admin; and what Ada's unsigned device says could be the server's word.
    assert wording.VERDICTS[Code.NOT_AN_ADMIN] in (await house.ask(ben, "!verify yes")).text
    assert wording.VERDICTS[Code.NOT_VOUCHED] in (await house.ask(ada, "!verify yes")).text
    assert not his.side.proven
    hers = Verifier(ada, bot)
    await hers.cross_sign()
    listed = (await house.ask(ada, "!verify")).text
    assert ben.user_id in listed
    assert names in listed
    assert "As soon as" in (await house.ask(ada, f"!verify yes {ben.user_id}")).text
    await his.until(lambda side, _: bool(side.proven))
    await his.confirm()
    await his.until(lambda side, _: side.done)
    await house.told(ben, "I have compared keys. From now on I know")

    name = ben.user_id[1:].partition(":")[0].capitalize()
    assert (await house.ask(ben, "is it raining?")).text == answer_to(name, "is it raining?")
    assert "Nobody compares keys with me now" in (await house.ask(ada, "!verify")).text
    assert "Nobody compares keys with me now" in (await house.ask(ada, "!verify no")).text
