"""Markdown to contents: nothing is lost by cutting, nobody is pinged by accident, nothing unsafe is shown."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.conversation import Revise, Say
from bridge.matrix.render import (
    CONTENT_LIMIT,
    cut,
    parts,
    progress_content,
    revise_content,
    say_content,
    to_html,
    words,
)

ADA, BEN = "@ada:home.org", "@ben:away.org"
MARKDOWN = st.lists(
    st.text(max_size=40)
    | st.sampled_from(
        [
            "```\n",
            "```python\n",
            "~~~\n",
            "\n\n",
            "\n",
            "- item\n",
            "> quote\n",
            "| a | b |\n",
            "@room",
            "👩‍👩‍👧",
            "🇫🇷🇩🇪",
            "e\u0301",
            "&<>\"'",
        ]
    )
    | st.text("word \n.", max_size=200),
    max_size=40,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(MARKDOWN, st.integers(600, 3000))
def test_cutting_keeps_every_character_and_every_part_fits(text: str, limit: int) -> None:
    """The kernels of the parts join to the text, and each part's content is below the limit."""
    pieces = cut(text, limit)
    assert "".join(piece.kernel for piece in pieces) == text
    assert len(pieces) >= 1
    for piece in pieces:
        assert len(json.dumps(words(piece.text))) <= limit or len(piece.kernel) <= 1
        assert piece.kernel or len(pieces) == 1


def test_code_blocks_are_closed_and_opened_again() -> None:
    """A block that is cut goes on in the next part with its language, and lines stay whole."""
    code = "".join(f"line {number} = '{'x' * 60}'\n" for number in range(3000))
    text = f"Here:\n\n```python\n{code}```\n\nDone."
    pieces = parts(text)
    assert len(pieces) > 3
    for piece in pieces:
        fences = re.findall(r"^```.*$", piece, re.MULTILINE)
        assert len(fences) % 2 == 0
        assert len(json.dumps(words(piece))) <= CONTENT_LIMIT
    assert all(piece.startswith("```python\nline ") for piece in pieces[1:-1])
    assert all(piece.endswith("'\n```") for piece in pieces[:-1])


@pytest.mark.parametrize(
    "mark", ["👩‍👩‍👧‍👦", "🇫🇷", "e\u0301\u0323", "👍🏽", "\U0001f3f4\U000e0067\U000e0062\U000e007f"]
)
def test_characters_as_people_see_them_are_not_cut(mark: str) -> None:
    """A text without any space is cut between its characters, never inside of one."""
    for piece in cut(mark * 3000, 20_000):
        assert piece.kernel == mark * (len(piece.kernel) // len(mark))


def test_paragraphs_are_preferred() -> None:
    """Where paragraphs fit, cuts fall between them."""
    text = "\n\n".join(f"Paragraph {number}. " + "word " * 200 for number in range(100))
    pieces = parts(text)
    assert len(pieces) > 1
    assert all(piece.startswith("Paragraph ") for piece in pieces)


def test_a_short_text_is_one_part() -> None:
    """Usual answers, also the empty one, are not cut."""
    assert parts("") == ("",)
    assert parts("hello\n\nthere") == ("hello\n\nthere",)


@given(st.text() | MARKDOWN)
def test_html_has_only_what_clients_may_show(text: str) -> None:
    """Whatever is written, no script, handler, image or unknown scheme comes out."""
    shown = to_html(text)
    tags = {name.lower() for name in re.findall(r"</?([a-zA-Z][a-zA-Z0-9]*)", shown)}
    assert tags <= {
        *(
            "a",
            "b",
            "blockquote",
            "br",
            "code",
            "del",
            "em",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "li",
            "ol",
        ),
        *("p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"),
    }
    for href in re.findall(r'href="([^"]*)"', shown):
        assert re.match(r"(https?|ftp|mailto|magnet):", href)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;"),
        ("<img src=x onerror=alert(1)>", "&lt;img"),
        ("![i](https://evil/x.png)", None),
        ("[x](javascript:alert(1))", None),
        ("a **b** `c`", "<p>a <strong>b</strong> <code>c</code></p>"),
        ("```py\nx<1\n```", '<pre><code class="language-py">x&lt;1\n</code></pre>'),
        ("3. c", '<ol start="3">'),
    ],
)
def test_markdown_is_shown_and_markup_is_not(text: str, shown: str | None) -> None:
    """Markdown becomes HTML; HTML in the text is shown as text."""
    html = to_html(text)
    assert shown is None or shown in html
    assert "<img" not in html
    assert "<script" not in html
    assert "javascript:" not in html.replace("[x](javascript:alert(1))", "")


def test_words_ping_only_whom_they_should() -> None:
    """Pills of others lose their link, the whole room is not called, `m.mentions` is always there."""
    text = (
        f"@room [Ada](https://matrix.to/#/{ADA}) [Ben](https://matrix.to/#/{BEN}) [b](matrix:u/ben:away.org)"
    )
    content = words(text, mentions=(ADA,))
    assert content["m.mentions"] == {"user_ids": [ADA]}
    assert f'href="https://matrix.to/#/{ADA}"' in content["formatted_body"]
    assert "away.org" not in content["formatted_body"]
    assert not re.search(r"@room\b", content["body"] + content["formatted_body"])
    assert words("hello")["m.mentions"] == {}
    assert words("hello") == {"msgtype": "m.text", "body": "hello", "m.mentions": {}}


def test_unsendable_characters_are_replaced() -> None:
    """NUL and lone surrogates, which servers refuse, do not reach the wire."""
    content = words("a\x00b\ud800c")
    assert content["body"] == "a\ufffdb\ufffdc"
    json.dumps(content, ensure_ascii=False).encode()


def test_relations_of_a_message() -> None:
    """A reply is a reply, a thread answer falls back to one for old clients, our mark is always there."""
    plain = say_content(Say("hi"), "k")
    assert "m.relates_to" not in plain
    assert plain["community.hearth"] == {"bot": True, "key": "k"}
    reply = say_content(Say("hi", reply_to="$q", mentions=(ADA,)), "k")
    assert reply["m.relates_to"] == {"m.in_reply_to": {"event_id": "$q"}}
    thread = say_content(Say("hi", thread="$t"), "k")["m.relates_to"]
    assert thread == {
        "rel_type": "m.thread",
        "event_id": "$t",
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": "$t"},
    }
    both = say_content(Say("hi", thread="$t", reply_to="$q"), "k")["m.relates_to"]
    assert (both["is_falling_back"], both["m.in_reply_to"]["event_id"]) == (False, "$q")
    assert say_content(Say("hi", notice=True), "k")["msgtype"] == "m.notice"


def test_an_edit_mentions_only_inside() -> None:
    """The outer mentions of an edit are empty, those of the new content are the answer's."""
    edit = revise_content(Revise("t", "**new**", mentions=(ADA,)), "k", "$e")
    assert edit["m.mentions"] == {}
    assert edit["m.new_content"]["m.mentions"] == {"user_ids": [ADA]}
    assert edit["m.relates_to"] == {"rel_type": "m.replace", "event_id": "$e"}
    assert edit["body"] == "* **new**"
    assert edit["community.hearth"] == edit["m.new_content"]["community.hearth"] == {"bot": True, "key": "k"}
    assert progress_content("x", "$e")["community.hearth"] == {"bot": True, "progress": True}
    long = revise_content(Revise("t", "word " * 8000), "k", "$e")
    assert len(long["body"]) < 600
    assert long["m.new_content"]["body"] == "word " * 8000
