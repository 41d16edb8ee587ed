"""The words of a post: what its author wrote, from any server, and from anybody who means harm."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.mastodon.text import LONGEST, plain

ME = {"id": "1", "username": "hearth", "acct": "hearth", "url": "https://home.example/@hearth"}
BOB = {"id": "2", "username": "bob", "acct": "bob@far.example", "url": "https://far.example/@bob"}
PEOPLE = [ME, BOB]
US = (
    '<span class="h-card" translate="no"><a href="https://home.example/@hearth" class="u-url mention">'
    "@<span>hearth</span></a></span>"
)
HIM = (
    '<span class="h-card" translate="no"><a href="https://far.example/@bob" class="u-url mention">'
    "@<span>bob</span></a></span>"
)


def words(html: str, *, quoted: bool = False) -> str:
    return plain(html, PEOPLE, me_id="1", quoted=quoted)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        (f"<p>{US} hello!</p>", "hello!"),
        (f"<p>hello {US}</p>", "hello"),
        (f"<p>{US}: hello</p>", "hello"),
        (f"<p>{US}</p><p>hello</p>", "hello"),
        (f"<p>what does {US} say</p>", "what does @hearth say"),
        (f"<p>{HIM} {US} hello</p>", "@bob@far.example hello"),
        (f"<p>{US} {HIM} hello {HIM} {US}</p>", "@bob@far.example hello @bob@far.example"),
        (f"<p>{US} ask {HIM}</p>", "ask @bob@far.example"),
        (f"<p>{US}</p>", ""),
        (f"<p>{US} {US} {HIM}</p>", "@bob@far.example"),
        ("", ""),
    ],
)
def test_we_are_left_out_at_the_edges_only(html: str, expected: str) -> None:
    """Our mention in front or at the end is an address; inside a sentence it is a word; others stay."""
    assert words(html) == expected


def test_breaks_and_paragraphs_are_kept() -> None:
    """`<br>` is a line, a paragraph is a blank line, entities are characters."""
    assert words("<p>a<br>b<br/>c</p><p>d &amp; e &lt;f&gt; &#39;g&#39;</p>") == "a\nb\nc\n\nd & e <f> 'g'"


def test_hashtags_are_words() -> None:
    """A hashtag carries the class of a mention, and is none."""
    tag = '<a href="https://home.example/tags/cat" class="mention hashtag" rel="tag">#<span>cat</span></a>'
    assert words(f"<p>{US} {tag}</p>") == "#cat"


def test_a_shortened_link_is_whole() -> None:
    """What is hidden from the eye is there, and no dots are added."""
    html = (
        '<a href="https://e.example/long/path"><span class="invisible">https://</span>'
        '<span class="ellipsis">e.example/lo</span><span class="invisible">ng/path</span></a>'
    )
    assert words(f"<p>see {html}!</p>") == "see https://e.example/long/path!"


@pytest.mark.parametrize("tag", ["p", "span"])
def test_the_fallback_of_a_quote_goes_where_the_quote_is_there(tag: str) -> None:
    """`RE: link` repeats a quote that the post has; without one it is what somebody wrote."""
    html = f'<{tag} class="quote-inline">RE: <a href="https://x.example/1">x</a></{tag}><p>{US} why?</p>'
    assert words(html, quoted=True) == "why?"
    assert words(html).startswith("RE: x")


@pytest.mark.parametrize(
    ("name", "html", "expected"),
    [
        (
            "pleroma",
            (
                '<span class="h-card"><a class="u-url mention" href="https://home.example/users/hearth">'
                "@<span>hearth</span></a></span> hello<br/>there"
            ),
            "hello\nthere",
        ),
        (
            "misskey",
            (
                '<p><a href="https://home.example/@hearth" class="u-url mention">@hearth@home.example</a>'
                "<span> hello<br>there</span></p>"
            ),
            "hello\nthere",
        ),
        (
            "gotosocial",
            (
                '<p><span class="h-card"><a href="https://home.example/@hearth" class="u-url mention" '
                'rel="nofollow noreferrer noopener" target="_blank">@<span>hearth</span></a></span> hello</p>'
            ),
            "hello",
        ),
        (
            "takahe",
            '<p><a href="https://home.example/@hearth/">@hearth</a> hello</p>',
            "hello",
        ),
        ("lists", "<ul><li>one</li><li>two</li></ul><p>end</p>", "- one\n- two\n\nend"),
        ("code", "<pre><code>a\n  b</code></pre>", "a\n  b"),
        ("raw newlines", "<p>one\ntwo</p>\n\n<p>three</p>", "one two\n\nthree"),
        ("emoji", '<p>hi <img class="emoji" alt=":blob:" src="x"></p>', "hi :blob:"),
    ],
)
def test_other_servers_write_other_html(name: str, html: str, expected: str) -> None:
    """Pleroma, Misskey, GoToSocial and Takahe write mentions and lines each in their own way."""
    assert words(html) == expected


def test_a_link_that_only_looks_like_us_is_a_word() -> None:
    """Who is mentioned is told by `mentions`: a link somewhere else that reads `@hearth` is no mention."""
    html = '<p><a href="https://evil.example/@mallory" class="u-url mention">@<span>mallory</span></a> hi</p>'
    assert words(html) == "@mallory hi"
    assert plain(f"<p>{US} hi</p>", [], me_id="1", quoted=False) == "@hearth hi"


def test_a_hundred_mentions() -> None:
    """A post that mentions a hundred people says whom, and its words."""
    people = [
        {"id": str(n), "username": f"u{n}", "acct": f"u{n}@x.example", "url": f"https://x.example/@u{n}"}
        for n in range(2, 102)
    ]
    links = " ".join(
        f'<a href="{one["url"]}" class="mention">@<span>{one["username"]}</span></a>' for one in people
    )
    said = plain(f"<p>{US} {links} all of you</p>", [ME, *people], me_id="1", quoted=False)
    assert said.startswith("@u2@x.example @u3@x.example ")
    assert said.endswith("@u101@x.example all of you")
    assert said.count("@x.example") == 100


def test_script_and_style_are_not_words() -> None:
    """What no reader sees is not read."""
    assert words("<p>a</p><script>b<c</script><style>d{}</style><p>e</p>") == "a\n\ne"


def test_a_lone_smaller_than_is_a_word() -> None:
    """A server that does not escape costs no words that follow."""
    assert words("I <3 you <- see") == "I <3 you <- see"


@pytest.mark.parametrize(
    "bomb",
    [
        "<b>" * 100_000 + "deep" + "</b>" * 100_000,
        "<a " * 2_000_000,
        '<a b="' * 1_000_000,
        "<!--" * 1_000_000,
        "<" * 5_000_000,
        "&" * 5_000_000,
        "<p>" * 1_500_000,
        "<li>" * 1_000_000,
        "<script>" * 600_000,
        "<a href='x'>y" * 400_000,
        '<p class="quote-inline">' * 200_000,
        "word " * 1_000_000,
        "<plaintext><title><textarea>" * 100_000,
        f"<p {'a=b ' * 100_000}>x",
    ],
    ids=lambda bomb: bomb[:12],
)
def test_a_bomb_costs_little(bomb: str) -> None:
    """Five megabytes of hostile HTML are read in moments, without recursion, into bounded text."""
    started = time.process_time()
    assert len(words(bomb, quoted=True)) <= LONGEST
    assert time.process_time() - started < 2


@given(
    st.lists(
        st.sampled_from(
            ["<", ">", "</", "p", " ", '"', "a", "=", "&", "#", ";", "!--", "]]>", "br", "<p>", "x"]
        )
        | st.text(max_size=4)
        | st.just(US)
    ).map("".join),
    st.booleans(),
)
def test_any_string_is_words(html: str, quoted: bool) -> None:  # noqa: FBT001 - drawn, not called
    """Nothing raises, and what comes out can be stored: UTF-8, no NUL, trimmed, bounded."""
    said = words(html, quoted=quoted)
    said.encode()
    assert "\0" not in said
    assert said == said.strip()
    assert "\n\n\n" not in said
