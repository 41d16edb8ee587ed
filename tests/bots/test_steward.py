"""The steward: one reply to every turn, and nothing erased that was not asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots import wording, wording_links
from bots.base import Decided, Forget
from bots.conversation import Person, PlaceKind, TurnKind
from bots.steward import Steward
from policies.document import Standing
from policies.verdict import Code, Verdict
from tests.bots.fakes import ADA, OWN, FakeTools, last_of, own, said, turn_of

REFUSED = Decided(
    "settled", Verdict(False, Code.PLACE_QUOTA, "policy.per_place_day", {"limit": 9}, "tomorrow"), "refused"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!help", wording.help_words()),
        ("Hearth, !HELP", wording.help_words()),
        ("what?", wording.help_words()),
        ("!why", wording.why_usage()),
        ("!stop", wording.nothing_to_stop()),
        ("!transcribe", wording.nothing_to_hear()),
        ("!transcript srt", wording.nothing_to_hear()),
        ("!summary", wording.nothing_to_hear()),
        ("!vraag stad Hoe laat?", wording_links.ask_usage()),
        ("!bewijs", wording_links.nothing_to_prove()),
        ("!link @bot:city.example", wording_links.cannot_link("off")),
        ("!audit", wording_links.cannot_link("off")),
        ("!hlep", "I do not know `!hlep`. Did you mean `!help`? `!help` shows what I understand."),
    ],
)
async def test_a_command_gets_its_words(text: str, expected: str) -> None:
    """Each command that changes nothing is answered, and nothing is forgotten by it."""
    reply = await last_of(Steward(), turn_of(said(1, ADA, text)), FakeTools())
    assert reply.text == expected
    assert reply.forget is None


async def test_status_says_what_runs() -> None:
    """`!status` is what the bridge says of itself, the toy model included."""
    reply = await last_of(Steward(), turn_of(said(1, ADA, "!status")), FakeTools())
    assert reply.text == wording.status(await FakeTools().status())
    assert "toy" in reply.text


async def test_why_explains_the_message_replied_to() -> None:
    """`!why` as a reply says what was decided; an answer of ours stands for its question."""
    tools = FakeTools(known={"q": REFUSED})
    for replied_to in ("q", "a"):
        turn = turn_of(said(3, ADA, "!why", reply_to=replied_to), [own("a", "No.", "q")])
        assert (await last_of(Steward(), turn, tools)).text == wording.why(REFUSED)
    turn = turn_of(said(3, ADA, "!why", reply_to="other"))
    assert (await last_of(Steward(), turn, tools)).text == wording.why_unknown()


async def test_forget_is_the_askers_own() -> None:
    """Everybody may have what is remembered of them erased."""
    reply = await last_of(Steward(), turn_of(said(1, ADA, "!forget")), FakeTools())
    assert (reply.forget, reply.text) == (Forget.MINE, wording.forgot_mine())


@pytest.mark.parametrize(
    ("power", "place", "forget"),
    [
        (0, PlaceKind.GROUP, None),
        (49, PlaceKind.GROUP, None),
        (50, PlaceKind.GROUP, Forget.ROOM),
        (0, PlaceKind.DIRECT, Forget.ROOM),
    ],
)
async def test_forget_room_is_for_moderators(power: int, place: PlaceKind, forget: Forget | None) -> None:
    """A whole room is forgotten for a moderator, or between two; others hear the rule's words."""
    asker = Person(ADA.id, ADA.name, power)
    reply = await last_of(Steward(), turn_of(said(1, asker, "!forget room"), place=place), FakeTools())
    assert reply.forget is forget
    assert ("moderator" in reply.text) == (forget is None)


async def test_the_welcome_is_a_notice() -> None:
    """On joining there is one message, and it rings nobody's phone."""
    reply = await last_of(Steward("Emma"), turn_of(said("join", OWN, ""), kind=TurnKind.WELCOME), FakeTools())
    assert reply.notice
    assert reply.text == wording.welcome("Emma", retention_days=30, encrypted=True, direct=False, hears=True)


@given(st.text(), st.text(max_size=20))
async def test_any_text_gets_one_reply(text: str, own_name: str) -> None:
    """Whatever reaches the steward, it answers once, and erases only on `!forget`."""
    reply = await last_of(Steward(own_name), turn_of(said(1, ADA, text)), FakeTools())
    assert reply.text
    assert reply.forget is None


async def test_the_policy_card_says_what_holds_and_who_set_it() -> None:
    """The stricter of ceiling and room; an unreadable document stops, and says where and by whom."""

    async def card(text: str | None) -> str:
        standing = None if text is None else Standing(text, "@ben:home", 1_800_000_000_000)
        asked = turn_of(said(1, ADA, "!policy"))
        asked = replace(asked, place=replace(asked.place, policy=standing))
        return (await last_of(Steward(), asked, FakeTools())).text

    assert "no rules of its own" in await card(None)
    own = await card('{"v": 1, "askers": ["@ada:home"], "per_person_day": 1, "voice": "off"}')
    by = "`@ben:home` on 15 January 2027"
    for words in ("`@ada:home`", "1 answer a day for each person", "I listen to: nothing", by):
        assert words in own
    assert "everybody here" in await card('{"v": 1}')
    stopped = await card("{}")
    assert "I answer nothing in this room" in stopped
    assert "it is empty" in stopped


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        (
            None,
            '{"v": 1, "askers": ["@ada:home"]}',
            "`Ada` changed what I may do in this room:\n- Whom I answer: `@ada:home` (was: everybody here)",
        ),
        (
            '{"v": 1, "per_person_day": 1}',
            '{"v": 1, "per_person_day": 2, "voice": "off"}',
            (
                "`Ada` changed what I may do in this room:\n"
                "- How often: 2 answers a day for each person (was: 1 answer a day for each person)\n"
                "- What I listen to: nothing (was: only what I am asked to hear)"
            ),
        ),
        ('{"v": 1}', "{}", "So I answer nothing here until it is mended."),
        ("{}", '{"v": 1}', "- Whom I answer: everybody here"),
        (None, '{"v": 1}', "`Ada` changed this room's policy; what I may do here stays the same."),
    ],
)
async def test_a_change_of_policy_is_told_in_one_look(was: str | None, now: str, told: str) -> None:
    """Who did it, what is different, and what it was before; nothing else."""
    news = said(1, ADA, json.dumps({"was": was, "now": now}))
    reply = await last_of(Steward(), turn_of(news, kind=TurnKind.POLICY), FakeTools())
    assert told in reply.text
    assert reply.notice


async def test_a_change_whose_words_are_erased_is_told_all_the_same() -> None:
    """`!forget` may come between."""
    reply = await last_of(Steward(), turn_of(said(1, ADA, ""), kind=TurnKind.POLICY), FakeTools())
    assert "`!policy` shows it" in reply.text
