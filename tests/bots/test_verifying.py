"""`!verify`: who may say that signs match, which ones are meant, and what people are told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bots import wording, wording_verify
from bots.base import Comparing
from bots.conversation import TurnKind
from bots.steward import Steward
from bots.verifying import chosen
from policies.room import Trust
from policies.verdict import Code
from tests.bots.fakes import ADA, BEN, FakeTools, last_of, said, turn_of

SIGNS = (("\U0001f436", "Dog"), ("\U0001f4cc", "Pin"))
HERE = Comparing("$1", BEN.id, "room", SIGNS, (1234, 5678, 9012))
THERE = Comparing("$2", "@cleo:home", "elsewhere", SIGNS, (1, 2, 3))


def tools(*comparing: Comparing, trust: Trust = Trust.SIGNED) -> FakeTools:
    return FakeTools(admins=(ADA.id,), trust=trust, comparing=comparing)


async def verify(words: str, using: FakeTools, who: object = ADA) -> str:
    turn = turn_of(said(1, BEN if who is BEN else ADA, f"!verify {words}"))
    return (await last_of(Steward(), turn, using)).text


@pytest.mark.parametrize(("word", "matches"), [("yes", True), ("JA", True), ("no", False), ("nee", False)])
async def test_an_admin_says_it(word: str, *, matches: bool) -> None:
    """The only one that is compared is meant, in whatever room it is said."""
    for one in (HERE, THERE):
        using = tools(one)
        assert await verify(word, using) == wording_verify.said(one, matches=matches)
        assert using.said == [(one.id, matches)]


async def test_nobody_else_says_it() -> None:
    """A member is no admin; what nothing vouches for may be the server's word; both are told so."""
    using = tools(HERE)
    assert wording.VERDICTS[Code.NOT_AN_ADMIN] in await verify("yes", using, BEN)
    using = tools(HERE, trust=Trust.UNSIGNED)
    assert wording.VERDICTS[Code.NOT_VOUCHED] in await verify("yes", using)
    assert wording.REMEDIES["be_signed"] in await verify("", using)
    assert using.said == []


async def test_what_is_not_clear_is_listed() -> None:
    """Nothing is said of a verification where it is not clear which, or what."""
    for words in ("", "maybe", "yes @ada:home", "yes @ben:home and more"):
        using = tools(HERE, THERE)
        listed = await verify(words, using)
        assert BEN.id in listed
        assert "\U0001f436 Dog" in listed
        assert "`9012`" in listed
        assert "Name whom you mean" in listed
        assert using.said == []
    assert "Nobody compares keys" in await verify("yes", tools())
    assert "Name whom" not in await verify("", tools(HERE))


async def test_what_has_ended_meanwhile_is_said() -> None:
    """Between the list and the word, ten minutes may be over."""
    using = tools(HERE)
    using.ended = True
    assert await verify("yes", using) == wording_verify.gone()


def test_which_one_is_meant() -> None:
    """That of the named person, else the only one of the room, else the only one."""
    assert chosen([HERE, THERE], "room", "") is HERE
    assert chosen([HERE, THERE], "third", "") is None
    assert chosen([HERE, THERE], "room", "@cleo:home") is THERE
    assert chosen([HERE, replace(HERE, id="$3")], "room", BEN.id) is None
    assert chosen([HERE], "room", "@cleo:home") is None
    assert chosen([], "room", "") is None


async def news(text: str) -> str:
    turn = replace(turn_of(said(1, BEN, text)), kind=TurnKind.VERIFICATION)
    reply = await last_of(Steward(), turn, tools(HERE))
    assert reply.notice
    return reply.text


async def test_the_signs_are_shown_with_who_compares_them() -> None:
    """Every sign with its name, every number, the admins, and how; nothing pings anybody."""
    shown = await news(json.dumps({"stage": "shown", "signs": SIGNS, "numbers": [1234, 5678, 9012]}))
    for part in ("\U0001f436 Dog, \U0001f4cc Pin", "`1234` `5678` `9012`", f"`{ADA.id}`", f"`{BEN.id}`"):
        assert part in shown
    assert "!verify yes" in shown


@pytest.mark.parametrize("stage", sorted(wording_verify.ENDS))
async def test_how_it_ended_is_said(stage: str) -> None:
    """Each end has its words, and names the person."""
    told = await news(json.dumps({"stage": stage}))
    assert f"`{BEN.id}`" in told
    assert told.startswith(wording_verify.ENDS[stage].format(who=f"`{BEN.id}`"))


async def test_why_it_ended_is_said() -> None:
    """By the code of the cancellation; one that is not known is shown, and pings nobody."""
    for code, words in wording_verify.CANCELLED.items():
        assert words in await news(json.dumps({"stage": "cancelled", "code": code, "by_us": False}))
    assert "`@ room`" in await news(json.dumps({"stage": "cancelled", "code": "@room"}))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
async def test_what_was_erased_is_told_all_the_same(text: str) -> None:
    """Its words may be gone before it is said."""
    assert BEN.id in await news(text)
