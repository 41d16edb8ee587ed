"""A room's own policy on a real Synapse: set by a moderator's client, held by `hearth run`, explained."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from bots import wording
from policies.document import STATE_TYPE
from tests.hearth import Hearth, answer_to
from tests.human import Human
from tests.models.voice import pack, tone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.homeserver import Homeserver


class Family:
    """Ada, who made the room, Ben, and Hearth; its state is set as with any client's developer tools."""

    def __init__(self, ada: Human, ben: Human, hearth: Hearth, room: str) -> None:
        self.ada, self.ben, self.hearth, self.room = ada, ben, hearth, room

    async def rule(self, content: dict[str, Any]) -> str:
        return await self.ada.put_state(self.room, STATE_TYPE, content)

    async def news(self, words: str) -> str:
        """What the bot says to everybody after a change."""
        bot = self.hearth.user
        said = await self.ada.until(
            self.room, lambda one: one.sender == bot and one.reply_to is None and words in one.text
        )
        return said.text

    async def answer(self, asked: str) -> str:
        bot = self.hearth.user
        return (await self.ada.until(self.room, lambda one: one.sender == bot and one.reply_to == asked)).text

    async def ask(self, who: Human, words: str = "is it raining?") -> str:
        return await self.answer(await who.say(self.room, words, mentions=[self.hearth.user]))


@pytest.fixture
async def family(synapse: Homeserver, tmp_path: Path) -> AsyncIterator[Family]:
    mark = secrets.token_hex(3)
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "pool.md").write_text("# Pool\nThe pool opens at nine.\n")
    bot, *users = [await synapse.register(f"{name}{mark}", "pw") for name in ("hearth", "ada", "ben")]
    async with (
        Human(synapse.url, users[0], "pw") as ada,
        Human(synapse.url, users[1], "pw") as ben,
        Hearth(tmp_path, synapse.url, bot, settings='[notes]\ncity = "notes"') as hearth,
    ):
        room = await ada.create_room("Family", invite=[bot, ben.user_id])
        await ben.join(room)
        await ada.until_joined(room, bot)
        yield Family(ada, ben, hearth, room)


def name_of(who: Human) -> str:
    return who.user_id[1:].partition(":")[0].capitalize()


async def test_each_field_holds_and_says_whose_rule_it_is(family: Family) -> None:
    """Only the field is changed, and the room sees its effect; `!policy` and `!why` say why."""
    ada, ben = family.ada, family.ben
    assert await family.ask(ben) == answer_to(name_of(ben), "is it raining?")
    assert "no rules of its own" in await family.ask(ben, "!policy")

    await family.rule({"v": 1, "askers": [ada.user_id]})
    news = await family.news("changed what I may do in this room")
    assert news.startswith(f"`{name_of(ada)}`")
    assert f"- Whom I answer: `{ada.user_id}` (was: everybody here)" in news
    refused = await ben.say(family.room, "and now?", mentions=[family.hearth.user])
    told = await family.answer(refused)
    assert "is not among those whom I may answer here" in told
    assert wording.REMEDIES["room_policy"] in told
    assert await family.ask(ada) == answer_to(name_of(ada), "is it raining?")
    why = await ada.say(family.room, "!why", reply_to=refused)
    assert "`room.askers`" in await family.answer(why)
    card = await family.ask(ada, "!policy")
    assert f"Whom I answer: `{ada.user_id}`" in card
    assert f"this room's own rules were set by `{ada.user_id}`" in card

    await family.rule({"v": 1, "per_person_day": 1})
    assert "1 answers of the last 24 hours" in await family.ask(ben)
    await family.rule({"v": 1, "per_place_day": 1})
    assert "This room has had its" in await family.ask(ben)

    await family.rule({"v": 1, "voice": "off"})
    note = await ben.send_voice(
        family.room,
        pack(tone(1.2), "wav", "pcm_s16le"),
        mentions=[family.hearth.user],
        media_type="audio/wav",
    )
    assert "I do not listen to voice messages" in await family.answer(note)
    assert await family.ask(ben) == answer_to(name_of(ben), "is it raining?")


async def test_who_when_and_which_messages(family: Family) -> None:
    """The power that asking takes, quiet times, and what is answered: each refuses by its own rule."""
    ada, ben = family.ada, family.ben
    await family.rule({"v": 1, "min_power": 50})
    assert "This takes the power level 50 in this room, and yours is 0." in await family.ask(ben)
    assert await family.ask(ada) == answer_to(name_of(ada), "is it raining?")
    await family.rule({"v": 1, "quiet": ["00:00-12:00", "12:00-00:00"]})
    assert "It is quiet time here until" in await family.ask(ben)
    await family.rule({"v": 1, "answers": "direct"})
    assert "I answer only in rooms of two" in await family.ask(ben)
    await family.rule({"v": 1, "answers": "all"})
    unaddressed = await ben.say(family.room, "nobody in particular", mentions=[])
    assert await family.answer(unaddressed) == answer_to(name_of(ben), "nobody in particular")


async def test_how_it_answers(family: Family) -> None:
    """How much it reads and writes, its manner, its language: what the model is given, and what is said."""
    ben = family.ben
    await ben.say(family.room, "the first thing", mentions=[])
    given = await family.ask(ben, "echo:prompt")
    assert not given.startswith("Echo: 0 lines before.")
    await family.rule({"v": 1, "memory_messages": 0, "persona": "Speak like a pirate.", "answer_words": 500})
    given = await family.ask(ben, "echo:prompt")
    assert given.startswith("Echo: 0 lines before.")
    assert "Speak like a pirate. Answer in at most 500 words." in given
    await family.rule({"v": 1, "memory_hours": 0})
    assert (await family.ask(ben, "echo:prompt")).startswith("Echo: 0 lines before.")
    await family.rule({"v": 1, "answer_words": 5})
    cut = await family.ask(ben, "one two three four five six")
    assert cut == f"Echo: {name_of(ben)}: one two three …"
    await family.rule({"v": 1})
    pool = "when does the pool open?"
    read = f"{answer_to(name_of(ben), pool)}\n\nFrom: `pool.md:1-2`"
    assert await family.ask(ben, pool) == read
    await family.rule({"v": 1, "notes": []})
    assert await family.ask(ben, pool) == answer_to(name_of(ben), pool)
    await family.rule({"v": 1, "language": "nl"})
    assert 'Answer in the language "nl".' in await family.ask(ben, "echo:prompt")
    assert "Wat ik hier mag:" in await family.ask(ben, "!policy")


async def test_whoever_may_redact_can_stop(family: Family) -> None:
    """A redacted document denies and says so; commands go on; a new document mends it, restart or not."""
    document = await family.rule({"v": 1})
    assert await family.ask(family.ben) == answer_to(name_of(family.ben), "is it raining?")
    await family.ada.redact(family.room, document)
    await family.news("I answer nothing here until it is mended")
    told = await family.ask(family.ben)
    assert "I cannot read the policy of this room" in told
    assert "it is empty" in told
    assert "I answer nothing in this room" in await family.ask(family.ben, "!policy")
    await family.hearth.stop()
    await family.hearth.start()
    assert "it is empty" in await family.ask(family.ben)
    await family.rule({"v": 1, "later": True})
    assert "later" in await family.ask(family.ben)
    await family.rule({"v": 1})
    assert await family.ask(family.ben) == answer_to(name_of(family.ben), "is it raining?")


async def test_a_mere_member_cannot_write_it(family: Family) -> None:
    """The homeserver holds who may: what Ben sends is refused there, and what we allow does not change."""
    with pytest.raises(AssertionError, match="M_FORBIDDEN"):
        await family.ben.put_state(family.room, STATE_TYPE, {"v": 1, "askers": []})
    assert await family.ask(family.ben) == answer_to(name_of(family.ben), "is it raining?")
