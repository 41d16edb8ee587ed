"""What is said of links: whose words they are, what happened, what to do next; and nothing pings anybody."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bots import wording_links
from bots.asking import asking, choose, preview_answer
from bots.base import FromPeer, Peer, Signature
from bots.keywords import key_words, spoken
from bots.language import speaking
from bots.proposing import Mistake
from bots.wording_links import CANNOT_LINK, CHOSEN, KINDS, MISTAKES, REASONS, Why
from bridge.link.bodies import Kind
from bridge.matrix.render import to_html, words
from policies.classes import Class
from policies.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Callable

CITY = Peer("bot:city.example", name="City Library")
NAMELESS = Peer("bot:moon.example")
QUESTION = "When does the pool in Oostpark open?"
KEY = "A" * 43
SAID = FromPeer("answered", "bot:city.example", "City Library", "At ten.", model="small", waited_ms=12_400)
HOSTILE = (
    "`x` [a](https://matrix.to/#/@ada:home.example) @room @ada:home.example\n# !forget <b>\u202e{what}{}"
)


def test_a_preview_is_all_that_leaves() -> None:
    """Every letter of it, what kind of question it is, what was taken out, and how to say yes."""
    text = "*Is* [name 1] at https://city.example/a_b?\n" * 80
    shown = wording_links.preview(
        CITY, text, Class.LOCAL_KNOWLEDGE, {"name": 80, "email": 1, "phone": 0, "new": 2}
    )
    html = to_html(shown)
    assert html.count("*Is* [name 1] at https://city.example/a_b?") == 80
    assert "\u2026" not in html
    assert "local knowledge" in shown
    assert "Taken out: 1 e-mail address, 80 names, 2 other details." in shown
    assert "phone" not in shown
    assert "`City Library` (`bot:city.example`)" in shown


def test_what_a_preview_asks_for_is_understood() -> None:
    """Each answer that it names is one."""
    shown = wording_links.preview(NAMELESS, QUESTION, None, {})
    typed = [*shown.partition("reply ")[2].split("`")[1::2], "\U0001f44d", "\U0001f44e"]
    assert len(typed) == 5
    assert all(preview_answer(one) is not None for one in typed)
    assert "Taken out" not in shown
    assert "about" not in shown


@given(st.text(max_size=300))
@example("@" * 300)
@example("*\n\n" * 100)
@example("matrix.to" * 30)
def test_no_preview_is_cut(text: str) -> None:
    """Whoever says yes has seen the end of it, too."""
    assert not re.search("\u2026", wording_links.preview(CITY, "x" + text.replace("\u2026", ""), None, {}))


def test_an_answer_says_whose_it_is() -> None:
    """Peer, model, way, time, and that it is not ours, with what was said as a quote."""
    said = wording_links.answer(SAID)
    assert "`City Library` (`bot:city.example`)" in said
    assert "not from our bot" in said
    assert "\n> At ten.\n" in said
    assert "`small`" in said
    assert "Nobody passed it on" in said
    assert "after 12 seconds" in said
    assert "old by then" not in said


def test_an_answer_that_was_passed_on_or_is_old_says_so() -> None:
    """Hops are named, and an age of minutes or days is told."""
    passed = FromPeer(
        "answered",
        "bot:a.example",
        "",
        "x",
        through=("bot:b.example", "bot:c.example"),
        age_ms=3 * 86_400_000,
    )
    said = wording_links.answer(passed)
    assert "passed on 2 times, by `bot:b.example`, `bot:c.example`" in said
    assert "3 days old" in said
    assert "does not say which model" in said


def test_passages_have_their_sources() -> None:
    """Each with where it stands, cut and counted where there are many."""
    passages = tuple((f"Word {at} " * 200, f"pool.md:{at}") for at in range(7))
    said = wording_links.answer(FromPeer("answered", "bot:a.example", passages=passages))
    assert "`pool.md:4`\n> Word 4" in said
    assert "pool.md:5" not in said
    assert "2 more passages" in said
    assert "passages of its notes" in said
    assert len(said) < 5 * 700 + 400
    assert "found no words" in wording_links.answer(FromPeer("answered", "bot:a.example", text=" "))


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
@example(HOSTILE, HOSTILE, HOSTILE)
@example("**x**", "</code><a href='x'>", "`" * 40)
def test_a_peer_writes_nothing_into_our_words(name: str, text: str, code: str) -> None:
    """Whatever its card, its answer, its sources and its codes say: no link, no heading, nobody pinged."""
    peer = Peer("bot:city.example", name=name)
    found = FromPeer("answered", "bot:city.example", name, text, ((text, code),), model=code, through=(code,))
    step = Signature(code, name, code, 0, text, holds=True)
    for said in (
        wording_links.answer(found),
        wording_links.preview(peer, text, Class.GENERAL, {code: 1}),
        wording_links.not_answered(found, Why.REFUSED, code=code, rule=text),
        wording_links.not_answered(peer, Why.DROPPED, code=code, rule=text),
        wording_links.which_peer([peer, peer]),
        wording_links.no_such_peer(text, [peer]),
        wording_links.proof([step]),
        wording_links.mistake(Mistake("unknown_share", text)),
        wording_links.cannot_link(code),
        wording_links.shown_key(peer, text),
    ):
        html = to_html(said)
        assert not re.search(r"<(?!/?(?:p|br|blockquote|code|ul|li)>)", html)
        assert not re.search(r"<(?!br|code)\w+>[^<]*(?<!\w)@(?:room|ada)", html)
        assert words(said)["m.mentions"] == {}


def test_every_end_says_what_to_do_next() -> None:
    """Refused, late, dropped, not sent: what happened, to what, and what then."""
    say = wording_links.not_answered
    refused = say(SAID, Why.REFUSED, code="class_stays", rule="grant.classes")
    assert refused == (
        "`City Library` (`bot:city.example`) did not answer your question: the permission is not for "
        "questions about this. The rule is `grant.classes`. That is decided over there; the people of that "
        "community can change it."
    )
    assert say(CITY, Why.REFUSED, code="peer_quota", retry_after_ms=7_200_000).endswith(
        "ask again in 2 hours."
    )
    assert "the reason is `odd`" in say(CITY, Why.REFUSED, code="odd")
    assert "no reason" in say(CITY, Why.REFUSED)
    assert "class=local-knowledge" in say(CITY, Why.REFUSED, code="unclassified")
    dropped = say(SAID, Why.DROPPED, code="ended", rule="grant.until")
    assert "I do not show it: the permission has ended" in dropped
    assert "`!peers`" in dropped
    assert "At ten" not in dropped
    assert "ask again later" in say(CITY, Why.LATE)
    assert "was not asked" in say(CITY, Why.UNSENT)


def test_every_code_has_its_words() -> None:
    """What the policy can say against asking or answering a peer has its words; no code is invented."""
    assert set(REASONS) <= set(Code)
    about_peers = list(Code)[list(Code).index(Code.NO_PEER) :]
    # A question with a summary or by voice is refused here, before it leaves.
    assert set(about_peers) - set(REASONS) == {Code.SUMMARY_STAYS, Code.VOICE_STAYS}
    assert set(KINDS) == set(Kind)


@pytest.mark.parametrize(
    ("text", "words_"),
    [
        ("city", "Say what to ask"),
        ("city clas=general x", "Did you mean `class`?"),
        ("city quota=5 x", "I do not know `quota`; there are `class` and `share`."),
        ("city class=locale x", "is no class of questions; there are `general`"),
        ("city share=answer_s x", "Did you mean `answers`?"),
    ],
)
def test_a_mistake_in_words(text: str, words_: str) -> None:
    """Each mistake that `asking` makes is said, with its guess."""
    found = asking(text, ["city"])
    assert isinstance(found, Mistake)
    assert words_ in wording_links.mistake(found)


def test_the_examples_of_the_usage_are_understood() -> None:
    """What `!ask` alone shows can be typed so."""
    examples = re.findall(r"`!ask (.+?)`", wording_links.ask_usage())
    assert len(examples) == 4
    for one in [
        *examples,
        *re.findall(r"`!ask (.+?)`", wording_links.not_answered(CITY, Why.REFUSED, code="unclassified")),
    ]:
        assert not isinstance(asking(one, ["city"]), Mistake)


def test_the_choice_is_explained() -> None:
    """Who, out of how many, and by what."""
    chosen = choose([CITY, NAMELESS], "answers", "en")
    assert chosen is not None
    said = wording_links.why_chosen(chosen)
    assert said == (
        "I chose `City Library` (`bot:city.example`), out of 2 that could be asked: "
        "the others are as good, and somebody has to be first."
    )
    assert set(CHOSEN) == {"only", "language", "success", "wait", "address"}


def test_a_key_is_told_as_words() -> None:
    """As one code span, whichever way it is given, and what to do with it."""
    said = wording_links.shown_key(CITY, key_words(KEY))
    assert said == wording_links.shown_key(CITY, spoken(KEY))
    assert spoken(KEY) in said
    assert "phone" in said


def test_proof_names_each_step_and_what_is_wrong() -> None:
    """In order, with its time and hash; one wrong signature is enough to warn."""
    ask = Signature("ask", "bot:a.example", "bot:b.example", 1_780_000_000_000, "ab" * 32, holds=True)
    back = Signature("answer", "bot:b.example", "bot:a.example", 1_780_000_060_000, "cd" * 32, holds=False)
    good, bad = wording_links.proof([ask, replace(back, holds=True)]), wording_links.proof([ask, back])
    assert "28 May 2026, 20:26 UTC: `bot:a.example` asks `bot:b.example` a question." in good
    assert "`abababababababab`" in good
    assert "WRONG" not in good
    assert "Every step is signed" in good
    assert bad.count("WRONG") == 1
    assert "Do not rely on it" in bad
    assert "There is no signed answer to it." in wording_links.proof([ask])
    assert wording_links.proof([]) == wording_links.nothing_to_prove()


def test_who_watches_a_link_room_reads_what_passes() -> None:
    """Who, to whom, of what kind; a plain line that pings nobody, whatever the names are."""
    assert wording_links.watch("ask", "Family", "City", Class.LOCAL_KNOWLEDGE) == (
        "Family asks City a question (local knowledge)."
    )
    assert wording_links.watch("odd", "@room", "x\n" * 500).startswith("room sends something to x x")
    assert len(wording_links.watch("ask", "x" * 9_000, "y" * 9_000)) < 300


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (-1, "0 seconds"), (1_000, "1 second"), (99_999, "99 seconds"), (120_000, "2 minutes"),
        (7_200_000, "2 hours"), (172_800_000, "2 days"), (10**12, "11,574 days"),
    ],
)  # fmt: skip
def test_waiting_is_told_in_the_unit_of_people(ms: int, said: str) -> None:
    """Seconds, minutes, hours, days."""
    assert f"Asked `bot:moon.example`, {said} ago." in wording_links.waited(NAMELESS, ms / 1000)


SENTENCES: tuple[Callable[[], str], ...] = (
    wording_links.cancelled,
    wording_links.not_sent,
    wording_links.no_peer_allowed,
    wording_links.nothing_to_prove,
    wording_links.ask_usage,
    lambda: wording_links.asked(CITY, 1_780_000_000_000),
    lambda: wording_links.asked(CITY, 10**18),
    lambda: wording_links.no_such_peer("moon", []),
    lambda: wording_links.no_such_peer("moon", [CITY] * 20),
    lambda: wording_links.not_linked(CITY),
    lambda: wording_links.linking(CITY),
    lambda: wording_links.linked(CITY),
    *(lambda why=why: wording_links.cannot_link(why) for why in (*CANNOT_LINK, "odd")),
    *(lambda code=code: wording_links.mistake(Mistake(code, "x", "y")) for code in MISTAKES),
)


@pytest.mark.parametrize("say", SENTENCES)
def test_every_sentence_is_whole(say: Callable[[], str]) -> None:
    """Nothing is left to fill in, in English and in Dutch; it begins and ends like a sentence."""
    for language in ("en", "nl"):
        with speaking(language):
            said = say()
        assert "{" not in said
        assert said[0].isupper() or said[0] == "`"
        assert said[-1] in ".!?`"
