"""Voice in the journal: what a turn is about, what was heard, files, and what erasing takes along."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from bots.conversation import Attachment, Keyed, Person, Place, PlaceKind, Role, Say, Upload, action_key
from bridge.journal import LONG, Admission, Journal, Outcome, Settlement
from bridge.platform import Batch, Event, EventKind, PlaceFacts
from models.transcript import Segment, Transcript, Word
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.journal import Claimed, Known

OWN = "@hearth:home"
ADA = Person("@ada:home", "Ada")
BEN = Person("@ben:home", "Ben")
FACTS = PlaceFacts(Place(OWN, "!r", PlaceKind.GROUP, "Family"), (ADA, BEN))
ALLOWED = Verdict(True, Code.ALLOWED, "policy.askers")
VOICE = Attachment('{"url":"mxc://home/secret"}', "audio/ogg", 900, "note.ogg", 1500, voice=True)
HEARD = Transcript(
    (Segment(0.0, 1.5, "Where is the key?", doubtful=True, words=(Word(0.0, 0.4, "Where", 0.9),)),), "en", 1.5
)


def judge(event: Event, known: Known) -> Admission:
    wanted = known.about is not None or event.text.startswith("!")
    return Admission("scribe", f"{event.place}{event.thread or ''}") if wanted else Admission()


def voice(event_id: str, *, by: Person = ADA) -> Event:
    return Event(event_id, "!r", EventKind.MESSAGE, by, 1, attachments=(VOICE,))


def said(event_id: str, text: str, *, by: Person = BEN, reply_to: str | None = None) -> Event:
    return Event(event_id, "!r", EventKind.MESSAGE, by, 1, text=text, reply_to=reply_to)


def redaction(of: str, *, by: Person = ADA) -> Event:
    return Event(f"{of}x", "!r", EventKind.REDACTION, by, 1, relates_to=of)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal.db")
    yield journal
    await journal.close()


async def admit(journal: Journal, *events: Event) -> None:
    await journal.admit(Batch(OWN, "c", events, (FACTS,)), judge, 1)


async def claim(journal: Journal) -> Claimed:
    (claimed,) = await journal.claim(OWN, 2, 1, 9)
    return claimed


async def transcribed(journal: Journal, claimed: Claimed, text: str = "heard", now: int = 3) -> str:
    """Settle with what was heard, and deliver the words as event `$said`; their key."""
    action = Keyed(Say(text, claimed.turn.message.id), Role.ANSWER)
    settlement = Settlement(Outcome.ANSWERED, ALLOWED, (action,), heard=HEARD)
    assert await journal.settle(claimed, settlement, "D", now)
    (sent,) = await journal.due(OWN, now, 9, frozenset())
    await journal.acknowledge(sent.key, f"$said{claimed.turn.id}", now)
    return sent.key


async def dump(journal: Journal) -> str:
    """Everything that stands in events, transcripts and actions."""

    def rows(db: sqlite3.Connection) -> list[list[object]]:
        tables = ("events", "transcripts", "actions")
        return [list(row) for table in tables for row in db.execute(f"SELECT * FROM {table}")]

    return json.dumps(await journal._store.read(rows))


async def test_what_was_heard_becomes_the_words_of_the_message(journal: Journal) -> None:
    """The transcript comes back whole, and the conversation that follows reads it like any message."""
    await admit(journal, voice("$v"))
    claimed = await claim(journal)
    assert claimed.turn.about == claimed.turn.message
    assert claimed.turn.about is not None
    assert claimed.turn.about.attachments == (VOICE,)
    assert claimed.turn.heard is None
    await transcribed(journal, claimed)
    await admit(journal, said("$q", "!transcript srt", reply_to="$v"))
    again = await claim(journal)
    assert again.turn.heard == HEARD
    assert [one.text for one in again.turn.context] == ["Where is the key?"]


@pytest.mark.parametrize("kind", [EventKind.MESSAGE, EventKind.REACTION])
async def test_a_turn_is_about_the_sound_that_it_points_at(journal: Journal, kind: EventKind) -> None:
    """A reply or a reaction to a voice message, or to what we said about it, is about that message."""
    await admit(journal, voice("$v"))
    await transcribed(journal, await claim(journal))
    for number, target in enumerate(("$v", "$said1")):
        event = said(f"$p{number}", "👂", reply_to=target)
        if kind is EventKind.REACTION:
            event = dataclasses.replace(event, kind=kind, reply_to=None, relates_to=target)
        await admit(journal, event)
        claimed = await claim(journal)
        assert claimed.turn.about is not None
        assert claimed.turn.about.id == "$v"
        assert claimed.turn.message.text == "👂"
        assert await journal.settle(claimed, Settlement(Outcome.ANSWERED, ALLOWED), "D", 4)


async def test_a_command_that_points_at_nothing_is_about_nothing(journal: Journal) -> None:
    """`!transcribe` as a reply to words still is a turn, which can say what to do."""
    await admit(journal, said("$w", "words"), said("$q", "!transcribe", reply_to="$w"))
    assert (await claim(journal)).turn.about is None


async def test_taking_back_a_voice_message_takes_back_what_was_heard(journal: Journal) -> None:
    """Transcript, keys to the file and every answer made from it go, also what somebody else asked for."""
    await admit(journal, voice("$v"))
    await transcribed(journal, await claim(journal), "own words")
    await admit(journal, said("$q", "!transcript", reply_to="$v"))
    await transcribed(journal, await claim(journal), "others' words")
    await admit(journal, redaction("$v"))
    targets = []
    while due := await journal.due(OWN, 9, 9, frozenset()):
        for action in due:
            assert action.action.kind == "redact"
            targets.append(action.target)
            await journal.acknowledge(action.key, f"$r{len(targets)}", 9)
    assert targets == ["$said1", "$said2"]
    left = await dump(journal)
    for secret in ("Where is the key?", "mxc://home/secret", "own words", "others' words"):
        assert secret not in left


async def test_nothing_is_kept_of_a_message_taken_back_meanwhile(journal: Journal) -> None:
    """A transcript that comes after the redaction is refused, together with its turn."""
    await admit(journal, voice("$v"))
    claimed = await claim(journal)
    await admit(journal, redaction("$v"))
    settlement = Settlement(Outcome.ANSWERED, ALLOWED, heard=HEARD)
    assert not await journal.settle(claimed, settlement, "D", 3)
    assert "Where is the key?" not in await dump(journal)


async def test_forgetting_while_listening_leaves_no_transcript(journal: Journal) -> None:
    """Words erased by a moderator's `!forget room` do not come back with a turn that still ran."""
    await admit(journal, voice("$v"), said("$f", "!forget room"))
    listening, forgetting = await claim(journal), None
    await journal._store.write(
        lambda db: db.execute("UPDATE turns SET state = 'settled' WHERE id = ?", [listening.turn.id])
    )
    forgetting = await claim(journal)
    assert await journal.settle(forgetting, Settlement(Outcome.ANSWERED, ALLOWED, forget="room"), "D", 3)
    await journal._store.write(
        lambda db: db.execute("UPDATE turns SET state = 'running' WHERE id = ?", [listening.turn.id])
    )
    await journal.settle(listening, Settlement(Outcome.ANSWERED, ALLOWED, heard=HEARD), "D", 4)
    assert "Where is the key?" not in await dump(journal)


async def test_retention_erases_transcripts(journal: Journal) -> None:
    """What was heard lives as long as what was written."""
    await admit(journal, voice("$v"))
    await transcribed(journal, await claim(journal))
    await journal.expire(1)
    assert "Where is the key?" in await dump(journal)
    await journal.expire(2)
    left = await dump(journal)
    assert "Where is the key?" not in left
    assert "mxc://home/secret" not in left


async def test_a_message_that_shows_a_file_waits_for_its_upload(journal: Journal) -> None:
    """The upload goes first; the message is handed out with what the upload became."""
    await admit(journal, voice("$v"))
    claimed = await claim(journal)
    turn = claimed.turn
    key = action_key(OWN, "!r", turn.bot, turn.cause, Role.FILE, 0)
    actions = (
        Keyed(Upload("transcript.md", "text/markdown", "# Words"), Role.FILE),
        Keyed(Say("transcript.md", "$v", upload=key), Role.ANSWER),
    )
    await journal.settle(claimed, Settlement(Outcome.ANSWERED, ALLOWED, actions), "D", 3)
    (upload,) = await journal.due(OWN, 3, 9, frozenset())
    assert upload.action == actions[0].action
    assert upload.key == key
    await journal.acknowledge(key, '{"url":"mxc://home/file"}', 3)
    (shown,) = await journal.due(OWN, 3, 9, frozenset())
    assert shown.action == actions[1].action
    assert shown.target == '{"url":"mxc://home/file"}'
    await journal.acknowledge(shown.key, "$file", 3)
    await admit(journal, redaction("$v"))
    (taken,) = await journal.due(OWN, 9, 9, frozenset())
    assert taken.target == "$file"  # the upload itself is no event that could be redacted
    left = await dump(journal)
    assert "# Words" not in left
    assert "mxc://home/file" not in left


async def test_long_work_leaves_room_for_talk(journal: Journal) -> None:
    """Of the long lanes only as many run as are allowed; what is short goes past them."""

    def lanes(event: Event, _known: Known) -> Admission:
        long = event.id.startswith("$long")
        return Admission("scribe", f"{event.id}{LONG if long else ''}")

    events = [said(f"$long{n}", "!") for n in range(3)] + [said(f"$talk{n}", "!") for n in range(2)]
    await journal.admit(Batch(OWN, "c", tuple(events), (FACTS,)), lanes, 1)
    first = await journal.claim(OWN, 2, 9, 9, long_at_once=2)
    assert [one.turn.cause for one in first] == ["$long0", "$long1", "$talk0", "$talk1"]
    assert [one.long for one in first] == [True, True, False, False]
    assert await journal.claim(OWN, 2, 9, 9, long_at_once=2) == []
    assert await journal.settle(first[0], Settlement(Outcome.ANSWERED, ALLOWED), "D", 3)
    assert [one.turn.cause for one in await journal.claim(OWN, 3, 9, 9, long_at_once=2)] == ["$long2"]
