"""Mentions answered end to end on a loopback instance: who sees what, what is read, what goes with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bots import wording
from bridge.mastodon import audience
from bridge.platform import Misconfigured
from policies.room import RoomPolicy
from tests.fakes.instance import HTML
from tests.fakes.instance_state import GOTOSOCIAL, MASTODON, PIXELFED, PLEROMA, TAKAHE, Differs

if TYPE_CHECKING:
    from tests.mastodon.world import World

OTHERS = [
    pytest.param(differs, id=name)
    for name, differs in (
        ("gotosocial", GOTOSOCIAL),
        ("takahe", TAKAHE),
        ("pleroma", PLEROMA),
        ("pixelfed", PIXELFED),
    )
]


async def test_a_private_mention_is_answered_privately(world: World) -> None:
    """The answer replies to the question, is seen by its author and by nobody else, and comes once."""
    await world.start()
    question = world.ask("when does the plumber come?", cw="house", language="de")
    answer = await world.answer(question)
    assert answer.text == "@ada [] house\nwhen does the plumber come?"
    assert (answer.visibility, answer.spoiler, answer.language) == ("direct", "re: house", "de")
    assert not world.server.state.sees(world.ben, answer)
    await world.settled(1)
    assert len(world.said()) == 1


@pytest.mark.parametrize("differs", OTHERS)
async def test_other_servers_are_answered_too(world: World, differs: Differs) -> None:
    """Whatever the server lacks: a mention is answered once, and what waited while we were away, too."""
    await world.start()
    first = await world.answer(world.ask("one"))
    assert "one" in first.text
    await world.stop()
    waiting = [world.ask(f"number {number}", by=world.ben) for number in range(3)]
    await world.start()
    await world.settled(4)
    assert [len(world.answers(one)) for one in waiting] == [1, 1, 1]
    assert len(world.said()) == 4


@pytest.mark.parametrize(
    "differs", [pytest.param(MASTODON, id="events"), pytest.param(GOTOSOCIAL, id="websocket")]
)
async def test_the_stream_rings(world: World, differs: Differs) -> None:
    """Long before the next poll, by server-sent events or by the websocket that a server has instead."""
    await world.start(poll_every=600.0)
    await world.answer(world.ask("one"))
    await world.answer(world.ask("two"))
    assert world.server.count("/streaming") == 1


@pytest.mark.parametrize("days", [-2, 2])
async def test_a_clock_that_is_days_off_changes_nothing(world: World, days: int) -> None:
    """The age of a question is told by the server's clock alone, whichever of the two is wrong."""
    world.server.state.skew = days * 86_400_000
    await world.start()
    await world.answer(world.ask("one"))
    await world.stop()
    waiting = world.ask("two")
    await world.start()
    await world.answer(waiting)
    await world.settled(2)
    assert len(world.said()) == 2


async def test_somebody_on_another_server_is_answered(world: World) -> None:
    """The mention in the answer carries their domain, so that it reaches them."""
    await world.start()
    answer = await world.answer(world.ask("hello", by=world.far))
    assert answer.text.startswith("@carol@far.example ")
    assert [one.id for one in answer.mentions] == [world.far.id]


# -- the thread ------------------------------------------------------------------------------------


async def test_what_was_said_before_is_read_as_far_as_the_asker_could(world: World) -> None:
    """Public posts and the asker's own are context; another person's private words to the bot are not."""
    await world.start()
    note = world.ben.post("The plumber comes on Tuesday.", visibility="public")
    secret = world.ask("my secret", by=world.ben, reply_to=note)
    await world.answer(secret)
    question = world.ask("when?", reply_to=note)
    assert "[The plumber comes on Tuesday.] when?" in (await world.answer(question)).text
    overheard = world.ben.post("@ada @hearth see?", visibility="direct", reply_to=world.answers(secret)[0])
    follow = world.ask("and now?", reply_to=overheard)
    answer = await world.answer(follow)
    assert "my secret" not in answer.text
    assert "The plumber comes on Tuesday." in answer.text


async def test_nothing_of_others_is_kept(world: World) -> None:
    """What third parties wrote in the thread is read for one answer, and not stored."""
    await world.start()
    world.bot.says = lambda _read: "Fine."
    note = world.ben.post("A thought of mine.", visibility="public")
    await world.answer(world.ask("what do you think?", reply_to=note))
    await world.settled(1)
    await world.house.journal.checkpoint()
    stored = await asyncio.to_thread((world._folder / "journal.db").read_bytes)
    assert b"A thought of mine." not in stored
    assert b"what do you think?" in stored


# -- edits and deletions ---------------------------------------------------------------------------


async def test_an_edit_before_the_answer_counts(world: World) -> None:
    """The edited words are answered, once; an edit after the answer is not answered again."""
    await world.start(options={"at_once": 1})
    world.bot.waits = asyncio.Event()
    world.ask("hold the line", by=world.ben)
    await world.until(lambda: world.bot.turns == 1)
    question = world.ask("Tuesday?")
    await asyncio.sleep(0.2)
    world.ada.edit(question, "@hearth Friday?")
    world.bot.waits.set()
    assert (await world.answer(question)).text == "@ada [] Friday?"
    await world.settled(2)
    world.ada.edit(question, "@hearth Sunday?")
    await asyncio.sleep(0.8)
    assert len(world.answers(question)) == 1


async def test_a_deleted_question_is_not_answered(world: World) -> None:
    """Deleted before or while it is thought about: nothing is posted, and its words are erased."""
    await world.start()
    world.bot.waits = asyncio.Event()
    question = world.ask("never mind me")
    await world.until(lambda: world.bot.turns == 1)
    world.ada.delete(question)
    world.platform.client.forget(question.id)
    world.bot.waits.set()
    await world.settled(1)
    await world.until(lambda: world.server.count("/statuses") > 1)
    assert world.said() == []
    (turn,) = await world.house.journal.turns()
    assert turn.outcome == "withdrawn"


async def test_an_answer_goes_with_its_question(world: World) -> None:
    """Deleted after the answer: the next look takes the answer back; also after a restart."""
    await world.start()
    one, two = world.ask("one"), world.ask("two", by=world.ben)
    await world.answer(one)
    await world.answer(two)
    await world.settled(2)
    await world.stop()
    world.ada.delete(one)
    await world.start(look_every=0.2)
    await world.until(lambda: len(world.said()) == 1)
    assert world.answers(two)


# -- manners ---------------------------------------------------------------------------------------


async def test_who_may_not_ask_is_told_once_a_day(world: World) -> None:
    """Three questions of somebody who is not allowed: one polite refusal, three verdicts."""
    world.policy = RoomPolicy(askers=frozenset({world.ben.address}))
    await world.start()
    first = world.ask("one")
    await world.answer(first)
    world.ask("two")
    world.ask("three")
    await world.settled(3)
    assert len(world.said()) == 1
    assert {turn.code for turn in await world.house.journal.turns()} == {"not_an_asker"}


async def test_admins_of_the_settings_decide_for_the_account(world: World) -> None:
    """What one of them sets in private holds for everybody there, also after a restart, and can be undone."""
    admins = frozenset({world.ben.address})
    await world.start(admins=admins)
    await world.answer(world.ask("hello"))
    refused = await world.answer(world.ask("!policy set per_person_day 1"))
    assert "whoever runs me" in refused.text
    await world.answer(world.ask("!policy set per_person_day 1", by=world.ben))
    limited = await world.answer(world.ask("again"))
    assert "1 answer" in limited.text
    history = await world.answer(world.ask("!policy history", by=world.ben))
    assert history.text.count("per_person_day") == 1
    await world.stop()
    await world.start(admins=admins)
    await world.answer(world.ask("one", by=world.far))
    assert "1 answer" in (await world.answer(world.ask("two", by=world.far))).text
    vote = await world.answer(world.ask("!policy set mode consent", by=world.ben))
    assert "how it is already" in vote.text
    await world.answer(world.ask("!policy undo", by=world.ben))
    assert "three" in (await world.answer(world.ask("three", by=world.far))).text


async def test_who_wants_no_bots_is_answered_and_otherwise_left_alone(world: World) -> None:
    """`#nobot` in a profile: what was asked is answered, a refusal is not said."""
    world.policy = RoomPolicy(askers=frozenset({world.ada.address}))
    world.ada.note = world.ben.note = "Tea. #NoBots"
    await world.start()
    await world.answer(world.ask("hello"))
    refused = world.ask("me too", by=world.ben)
    await world.settled(2)
    assert world.answers(refused) == []
    assert len(world.said()) == 1


@pytest.mark.parametrize("words", ["help", "!help", "Help"])
async def test_commands_work_in_private_without_a_sign(world: World, words: str) -> None:
    """One word that is a command is one, in a private mention; in public it is a question."""
    await world.start()
    answer = await world.answer(world.ask(words))
    assert wording.help_words()[:40] in answer.text
    public = await world.answer(world.ask("help", by=world.ben, visibility="public"))
    assert public.text == "@ben [] help"


async def test_a_mention_without_words_gets_help(world: World) -> None:
    """Somebody who only writes the handle is told what can be asked."""
    await world.start()
    assert wording.help_words()[:40] in (await world.answer(world.ask(""))).text


async def test_forget_erases_everything_of_a_person(world: World) -> None:
    """What was said privately and in public goes, in one command."""
    await world.start()
    world.bot.says = lambda _read: "Fine."
    for visibility in ("public", "direct"):
        await world.answer(world.ask("remember the blue pot", visibility=visibility))
    await world.answer(world.ask("forget"))
    await world.settled(3)
    await world.house.journal.checkpoint()
    stored = await asyncio.to_thread((world._folder / "journal.db").read_bytes)
    assert b"blue pot" not in stored


# -- recordings ------------------------------------------------------------------------------------


async def test_a_recording_is_written_down_and_answered(world: World) -> None:
    """A private mention with sound is heard, shown and answered, without the words ever being a command."""
    await world.start()
    sound = world.server.upload(world.ada, b"when does it open", "audio/mpeg", duration=3.0)
    question = world.ask("", media=[sound])
    answer = await world.answer(question)
    assert "when does it open" in answer.text
    assert "[] when does it open" in answer.text


async def test_somebody_elses_recording_is_heard_only_when_asked_for(world: World) -> None:
    """A mention below another's recording does not hear it; `!transcribe` does, for the asker alone."""
    await world.start()
    sound = world.server.upload(world.ben, b"meet me at ten", "audio/mpeg", duration=3.0)
    post = world.ben.post("listen", visibility="public", media=[sound])
    answer = await world.answer(world.ask("what is this?", reply_to=post))
    assert "meet me" not in answer.text
    files = world.server.count("/files/")
    assert files == 0
    written = await world.answer(world.ask("!transcribe", reply_to=post))
    assert "meet me at ten" in written.text
    assert written.visibility == "direct"
    described = await world.answer(world.ask("!alt", reply_to=post))
    assert "\u201cmeet me at ten\u201d" in described.text
    assert world.told(world.ben) == 0


# -- accounts --------------------------------------------------------------------------------------


async def test_a_revoked_token_ends_with_one_clear_line(world: World) -> None:
    """The account stops, with what to do; nothing is asked again and again."""
    await world.start()
    await world.answer(world.ask("hello"))
    world.server.state.revoke(world.token)
    with pytest.raises(Misconfigured, match="hearth mastodon login"):
        await asyncio.wait_for(world.serving, 10)
    refused = [one for one in world.server.log if one.status == 401]
    assert len(refused) <= 3


async def test_an_instance_that_is_down_at_the_start_is_waited_for(world: World) -> None:
    """A proxy's page instead of an answer costs patience and few requests, and nothing is lost."""
    world.server.fail("/api/v2/instance", HTML, times=2)
    starting = asyncio.create_task(world.start())
    await world.until(lambda: world.server.count("/api/v2/instance") >= 2)
    await starting
    question = world.ask("still there?")
    await world.answer(question)
    assert world.server.count("instance") <= 6


async def test_a_base_that_redirects_is_told(world: World) -> None:
    """The token is not sent elsewhere; the operator is told the address to set."""
    world.server.redirect = "https://moved.example"
    await world.start()
    with pytest.raises(Misconfigured, match=r"moved\.example"):
        await asyncio.wait_for(world.serving, 10)


def test_every_visibility_of_the_documentation_has_its_reply() -> None:
    """https://docs.joinmastodon.org/entities/Status/#visibility."""
    assert set(audience.REPLIES) == {"public", "unlisted", "private", "direct"}
