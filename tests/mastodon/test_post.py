"""What is posted, as the server has it: under a key, in reply, once, and never an orphan."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bots.conversation import Redact, Revise, Say
from bridge.mastodon.client import Client
from bridge.mastodon.limits import POSTS, Limits
from bridge.mastodon.post import OWN_POSTS, SKEW_MS, Poster
from bridge.platform import Broken, Found, Refused, Retryable, StoredAction, Unclear
from bridge.schedule import SystemClock
from tests.fakes.instance import LOST, LoopbackInstance
from tests.fakes.instance_state import GOTOSOCIAL, MASTODON, PLEROMA, TAKAHE, Differs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bots.conversation import Action
    from tests.fakes.instance_state import Status

PLACE = "place"
SERVERS = [pytest.param(MASTODON, id="mastodon"), pytest.param(GOTOSOCIAL, id="no keys")]


class Desk:
    """A poster at work for `hearth`, and a question by `ada`."""

    def __init__(self, server: LoopbackInstance) -> None:
        state = server.state
        self.server = server
        self.hearth, self.ada, self.ben = (state.account(name) for name in ("hearth", "ada", "ben"))
        clock = SystemClock()
        self.client = Client(server.url, state.token(self.hearth), clock=clock, rng=random.Random(1))
        self.gone: list[str] = []
        self.poster = Poster(
            self.client,
            clock=clock,
            language="en",
            gone=lambda status_id, _place: self.gone.append(status_id),
        )
        self.question = self.ada.post("@hearth tea?", visibility="direct", cw="food")

    def action(self, action: Action, key: str = "key-1", target: str | None = None) -> StoredAction:
        return StoredAction(key, PLACE, action, SystemClock().now(), target=target)

    def say(self, text: str, key: str = "key-1") -> StoredAction:
        return self.action(Say(text, reply_to=self.question.id), key)

    def said(self) -> list[Status]:
        return [one for one in self.server.state.statuses.values() if one.author is self.hearth]


@pytest.fixture
def differs() -> Differs:
    return MASTODON


@pytest.fixture
async def desk(differs: Differs) -> AsyncIterator[Desk]:
    async with LoopbackInstance(differs) as server:
        desk = Desk(server)
        await desk.client.open()
        yield desk
        await desk.client.close()


async def test_an_answer_is_addressed_narrow_and_marked(desk: Desk) -> None:
    """To its asker, as privately as asked, under the question's warning, in reply to it."""
    remote = await desk.poster.perform(desk.say("Yes, with @ben@far.example."))
    (posted,) = desk.said()
    assert posted.id == remote
    assert (posted.visibility, posted.spoiler, posted.reply_to) == ("direct", "re: food", desk.question)
    assert posted.text.startswith("@ada Yes")


async def test_one_key_is_one_post(desk: Desk) -> None:
    """The same action again is the same post, where the server remembers keys."""
    first = await desk.poster.perform(desk.say("Yes."))
    assert await desk.poster.perform(desk.say("Yes.")) == first
    assert len(desk.said()) == 1


@pytest.mark.parametrize("differs", SERVERS)
async def test_what_was_posted_and_not_heard_of_is_found(desk: Desk, differs: Differs) -> None:
    """A lost answer is doubt; looking finds the post, also where another one with other words stands."""
    await desk.poster.perform(desk.say("No.", "key-0"))
    desk.server.fail("/api/v1/statuses", LOST, method="POST")
    with pytest.raises(Unclear):
        await desk.poster.perform(desk.say("Yes, at **four**: https://tea.example/a"))
    found = await desk.poster.find(desk.say("Yes, at **four**: https://tea.example/a"))
    assert found == desk.said()[-1].id
    assert await desk.poster.find(desk.say("Perhaps.", "key-2")) is Found.ABSENT


@pytest.mark.parametrize("differs", SERVERS)
async def test_a_part_is_found_behind_its_part_only(desk: Desk, differs: Differs) -> None:
    """Two parts with the same words are told apart by what they reply to."""
    first = await desk.poster.perform(desk.say("Again."))
    follow = Say("Again.", reply_to=desk.question.id, follows="key-1")
    stored = desk.action(follow, "key-2", target=first)
    assert await desk.poster.find(stored) is Found.ABSENT
    second = await desk.poster.perform(stored)
    assert await desk.poster.find(stored) == second
    assert desk.said()[1].reply_to is desk.said()[0]


async def test_each_part_has_its_own_key_and_the_same_manners(desk: Desk) -> None:
    """Part two replies to part one, for the same eyes, under the same warning; each can be sent again."""
    first = await desk.poster.perform(desk.say("One. (1/2)"))
    follow = desk.action(Say("Two. (2/2)", reply_to=desk.question.id, follows="key-1"), "key-2", target=first)
    second = await desk.poster.perform(follow)
    assert await desk.poster.perform(follow) == second
    assert {key: status for (_, key), (status, _) in desk.server.state.keys.items()} == {
        "key-1": first,
        "key-2": second,
    }
    assert [(one.text, one.visibility, one.spoiler, one.reply_to) for one in desk.said()] == [
        ("@ada One. (1/2)", "direct", "re: food", desk.question),
        ("@ada Two. (2/2)", "direct", "re: food", desk.said()[0]),
    ]


@pytest.mark.parametrize("differs", SERVERS)
async def test_a_lost_part_is_found_also_where_its_thread_is_not_shown(desk: Desk, differs: Differs) -> None:
    """Among our own newest posts; where the part before is gone as well, and where the thread is refused."""
    desk.server.fail("/api/v1/statuses", LOST, method="POST")
    with pytest.raises(Unclear):
        await desk.poster.perform(desk.say("Yes."))
    desk.server.fail("/context", 404)
    assert await desk.poster.find(desk.say("Yes.")) == desk.said()[0].id
    desk.server.fail("/context", 403)
    assert await desk.poster.find(desk.say("Yes.")) is Found.UNKNOWN


async def test_what_may_be_further_down_is_not_called_absent(desk: Desk) -> None:
    """More posts of ours than one page since the action was stored: nobody can say that it is not there."""
    late = desk.say("Yes.")
    for number in range(OWN_POSTS):
        desk.hearth.post(f"number {number}")
    desk.ada.delete(desk.question)
    assert await desk.poster.find(late) is Found.UNKNOWN
    assert (
        await desk.poster.find(replace(late, created_at=late.created_at + SKEW_MS + 60_000)) is Found.ABSENT
    )


async def test_a_deleted_question_costs_no_post(desk: Desk) -> None:
    """The look before the answer is enough: nothing is sent, and the feed learns of it."""
    desk.ada.delete(desk.question)
    with pytest.raises(Refused, match="nothing is to be done"):
        await desk.poster.perform(desk.say("Yes."))
    assert desk.server.count("/api/v1/statuses", method="POST") == 0
    assert desk.gone == [desk.question.id]


@pytest.mark.parametrize(
    "differs", [pytest.param(TAKAHE, id="takahe"), pytest.param(MASTODON, id="mastodon")]
)
async def test_no_orphan_stays(desk: Desk, differs: Differs) -> None:
    """A question that goes between the look and the post leaves nothing behind, and is told as gone."""
    await desk.client.status(desk.question.id)  # the look
    desk.ada.delete(desk.question)
    with pytest.raises(Refused):
        await desk.poster.perform(desk.say("Yes."))
    assert desk.said() == []
    assert desk.gone == [desk.question.id]


async def test_a_question_that_turned_to_somebody_else_is_not_answered(desk: Desk) -> None:
    """Edited so that it mentions us no more: nothing is posted."""
    desk.ada.edit(desk.question, "@ben tea?")
    with pytest.raises(Refused):
        await desk.poster.perform(desk.say("Yes."))
    assert (desk.said(), desk.gone) == ([], [desk.question.id])


async def test_a_chain_ends_where_a_part_of_it_was_deleted(desk: Desk) -> None:
    """The question stands, the part before is gone: refused, and the question is not told as gone."""
    first = await desk.poster.perform(desk.say("One."))
    desk.hearth.delete(desk.said()[0])
    with pytest.raises(Refused, match="part before"):
        await desk.poster.perform(
            desk.action(Say("Two.", reply_to=desk.question.id, follows="key-1"), "key-2", target=first)
        )
    assert desk.gone == []


async def test_what_the_server_will_never_take_is_broken(desk: Desk) -> None:
    """Too long by the server's count: no retry would help, and none is counted as posted."""
    with pytest.raises(Broken, match="422"):
        await desk.poster.perform(desk.say("x" * 2000))
    assert desk.said() == []
    assert await desk.poster.find(desk.say("x" * 2000)) is Found.ABSENT


async def test_a_spent_budget_costs_no_request(desk: Desk) -> None:
    """Three hundred posts in three hours: the next one waits, and says how long."""
    now = SystemClock().now()
    for _ in range(POSTS):
        desk.client.limits.posted(desk.ada.id, now)
    before = desk.server.count("/api/v1/statuses", method="POST")
    with pytest.raises(Retryable) as late:
        await desk.poster.perform(desk.say("Yes."))
    assert late.value.after is not None
    assert 10_000 < late.value.after <= 10_800
    assert desk.server.count("/api/v1/statuses", method="POST") == before


async def test_a_nearly_spent_budget_is_told_with_the_answer(desk: Desk) -> None:
    """The last answers say when there will be more, within the length of a post."""
    desk.client.limits = Limits(posts=40)
    now = SystemClock().now()
    assert "hour" not in desk.poster.parts("Yes.", desk.question.id).shown[0]
    for _ in range(38):
        desk.client.limits.posted(desk.ada.id, now)
    (told,) = desk.poster.parts("Yes.", desk.question.id).shown
    assert "hour" in told
    assert all(len(part) <= 500 for part in desk.poster.parts("yes " * 900, desk.question.id).shown)


async def test_taking_back_what_is_gone_is_done(desk: Desk) -> None:
    """A redaction ends in the same state however often it is performed."""
    remote = await desk.poster.perform(desk.say("Yes."))
    redact = desk.action(Redact("key-1"), "key-2", target=remote)
    assert await desk.poster.find(redact) is Found.ABSENT
    await desk.poster.perform(redact)
    assert desk.said() == []
    assert await desk.poster.perform(redact) == remote
    assert await desk.poster.find(redact) == remote


async def test_a_revision_keeps_its_address_and_its_warning(desk: Desk) -> None:
    """What was said is replaced; whom it is for and what it is marked with is not."""
    remote = await desk.poster.perform(desk.say("Yes."))
    revise = desk.action(Revise("key-1", "No."), "key-2", target=remote)
    assert await desk.poster.find(revise) is Found.ABSENT
    await desk.poster.perform(revise)
    (posted,) = desk.said()
    assert (posted.text, posted.spoiler) == ("@ada No.", "re: food")
    assert await desk.poster.find(revise) == remote


async def test_a_revision_of_what_was_deleted_is_refused(desk: Desk) -> None:
    """Somebody took our answer away: it does not come back in other words."""
    remote = await desk.poster.perform(desk.say("Yes."))
    desk.hearth.delete(desk.said()[0])
    revise = desk.action(Revise("key-1", "No."), "key-2", target=remote)
    with pytest.raises(Refused, match="was deleted"):
        await desk.poster.perform(revise)
    assert await desk.poster.find(revise) is Found.ABSENT
    assert desk.said() == []


@pytest.mark.parametrize("differs", [pytest.param(PLEROMA, id="pleroma")])
async def test_a_visibility_that_only_one_server_knows_is_answered_in_private(desk: Desk) -> None:
    """Pleroma's `local` is not in the documentation: nobody is told more than one person."""
    desk.question = desk.ada.post("@hearth tea?", visibility="local")
    await desk.poster.perform(desk.say("Yes."))
    assert desk.said()[0].visibility == "direct"


async def test_nothing_is_said_to_nobody(desk: Desk) -> None:
    """An action that replies to nothing, or refers to what was never posted, is a bug and is told so."""
    for action in (Say("Hello, world."), Redact("key-9"), Revise("key-9", "No.")):
        with pytest.raises(Broken):
            await desk.poster.perform(desk.action(action))
