"""Just before the answer: the question as it stands, and what the asker could read above it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bots.conversation import Place, PlaceKind, Turn, TurnKind
from bridge.mastodon.thread import LONGEST, MOST, WHOLE, refresh
from bridge.mastodon.translate import message
from bridge.platform import EventKind, Fresh, Retryable
from tests.fakes.clock import VirtualClock
from tests.mastodon.posts import ADA, BEN, EVE, HOME, ME, US, account, media, status
from tests.mastodon.stub import StubClient

NOBODY: frozenset[str] = frozenset()


@pytest.fixture
def client() -> StubClient:
    return StubClient(VirtualClock())


def turn(asked: dict[str, Any], kind: TurnKind = TurnKind.MESSAGE) -> Turn:
    said = message(asked, HOME, ME, NOBODY)
    place = Place(ME.address, asked["account"]["id"], PlaceKind.DIRECT)
    return Turn(1, kind, place, said.id, said, "chat")


async def fresh(client: StubClient, asked: dict[str, Any], *above: dict[str, Any]) -> Fresh:
    """Refresh `asked` below `above` (oldest first, each a reply to the one before)."""
    previous = None
    for one in (*above, asked):
        one["in_reply_to_id"], previous = previous, one["id"]
    client.posts[asked["id"]] = asked
    client.contexts[asked["id"]] = list(above)
    return await refresh(cast("Any", client), turn(asked), admins=NOBODY)


async def test_a_question_of_its_own_takes_one_request(client: StubClient) -> None:
    """Top-level: the post is read again, there is no thread, and no memory of other threads."""
    assert await fresh(client, status("7")) == Fresh(context=())
    assert [name for name, _ in client.calls] == ["status"]


async def test_a_thread_takes_one_request_more(client: StubClient) -> None:
    """What was said above it, oldest first, ours marked as ours."""
    found = await fresh(client, status("9"), status("7", "first"), status("8", "answer", by=US, to=(ADA,)))
    assert [(one.id, one.own) for one in found.context or ()] == [("7", False), ("8", True)]
    assert [name for name, _ in client.calls] == ["status", "status_context"]


async def test_a_question_that_is_gone_is_withdrawn(client: StubClient) -> None:
    """Deleted, or mentioning us no more: a redaction of it, in its author's place."""
    for now in (None, status("7", to=(BEN,))):
        asked = status("7")
        client.posts = {} if now is None else {"7": now}
        found = (await refresh(cast("Any", client), turn(asked), admins=NOBODY)).changed
        assert found is not None
        assert (found.id, found.kind, found.relates_to, found.place) == (
            "gone:7",
            EventKind.REDACTION,
            "7",
            "2",
        )


async def test_an_edited_question_is_told_as_edited(client: StubClient) -> None:
    """The new words are what is answered, after the journal has them."""
    client.posts["7"] = status("7", "two", edited_at="2027-01-15T08:01:00Z")
    found = (await refresh(cast("Any", client), turn(status("7", "one")), admins=NOBODY)).changed
    assert found is not None
    assert (found.kind, found.relates_to, found.text) == (EventKind.EDIT, "7", "two")


@pytest.mark.parametrize(
    "hidden",
    [
        status("7", "secret", by=EVE, visibility="direct", to=(US,)),
        status("7", "secret", by=EVE, visibility="private", to=()),
        status("7", "secret", by=US, visibility="direct", to=(EVE,)),
        status("7", "secret", by=EVE, visibility="local", to=()),
        status("7", "secret", by=account("66", "other@bots.example", bot=True)),
    ],
    ids=["private mention", "followers", "our own to another", "unknown", "a bot"],
)
async def test_nobody_elses_private_words_are_read(client: StubClient, hidden: dict[str, Any]) -> None:
    """What the asker could not see is left out, though we can, and what is above it is still read."""
    found = await fresh(client, status("9"), status("6", "open"), hidden, status("8", "also open", by=BEN))
    assert [one.text for one in found.context or ()] == ["open", "also open"]


async def test_only_the_chain_above_is_read(client: StubClient) -> None:
    """A post that nothing replies to is not part of the thread, whatever the server puts there."""
    asked, parent = status("9", in_reply_to_id="8"), status("8", "parent", in_reply_to_id="7")
    client.posts["9"] = asked
    client.contexts["9"] = [status("1", "stray"), parent]
    found = await refresh(cast("Any", client), turn(asked), admins=NOBODY)
    assert [one.text for one in found.context or ()] == ["parent"]


async def test_a_circle_ends(client: StubClient) -> None:
    """Posts that reply to each other are read once each."""
    asked = status("9", in_reply_to_id="8")
    client.posts["9"] = asked
    client.contexts["9"] = [status("8", in_reply_to_id="7"), status("7", in_reply_to_id="8")]
    found = await refresh(cast("Any", client), turn(asked), admins=NOBODY)
    assert len(found.context or ()) == 2


async def test_a_thread_that_cannot_be_read_is_none(client: StubClient) -> None:
    """404 for the context: the question is answered without it. An outage is not: it is tried again."""
    asked = status("9", in_reply_to_id="8")
    client.posts["9"] = asked
    assert await refresh(cast("Any", client), turn(asked), admins=NOBODY) == Fresh(context=())
    client.down = Retryable("503")
    with pytest.raises(Retryable):
        await refresh(cast("Any", client), turn(asked), admins=NOBODY)


async def test_a_long_thread_is_capped(client: StubClient) -> None:
    """The newest posts count, each and all of them up to a limit."""
    above = [status(f"a{number}", "word " * 1_000) for number in range(60)]
    found = (await fresh(client, status("z"), *above)).context or ()
    assert found[-1].id == "a59"
    assert len(found) <= MOST
    assert all(len(one.text) <= LONGEST for one in found)
    assert sum(len(one.text) for one in found) <= WHOLE


@pytest.mark.parametrize(
    ("text", "author", "visibility", "heard"),
    [
        ("!transcribe", BEN, "public", True),
        ("!alt", BEN, "public", True),
        ("!summary", ADA, "public", True),
        ("what do you think?", BEN, "public", False),
        ("what did I say?", ADA, "public", True),
        ("!transcribe", BEN, "private", False),
        ("!transcribe", BEN, "direct", False),
    ],
)
async def test_a_recording_is_heard_for_its_author_or_on_command(
    client: StubClient,
    text: str,
    author: dict[str, Any],
    visibility: str,
    heard: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Somebody else's public recording needs a command; what the asker cannot see is never heard."""
    recording = status(
        "8", "listen", by=author, to=(), visibility=visibility, media_attachments=[media("audio")]
    )
    found = await fresh(client, status("9", text), recording)
    assert (found.about is not None) is heard
    if found.about is not None:
        assert found.about.id == "8"
        assert found.about.attachments[0].has_sound


async def test_a_parent_without_sound_is_not_heard(client: StubClient) -> None:
    """A command that points at mere words has nothing to listen to."""
    assert (await fresh(client, status("9", "!transcribe"), status("8", "words"))).about is None


async def test_a_plain_command_reads_no_thread(client: StubClient) -> None:
    """`!status` needs no context."""
    await fresh(client, status("9", "!status"), status("8", "words"))
    assert [name for name, _ in client.calls] == ["status"]


async def test_a_deadline_asks_nothing(client: StubClient) -> None:
    """Turns that no post asked for are as they are."""
    found = await refresh(cast("Any", client), turn(status("7"), TurnKind.DEADLINE), admins=NOBODY)
    assert found == Fresh(context=())
    assert client.calls == []
