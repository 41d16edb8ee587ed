"""`parse` and `strip_mention`: any text in, a command or nothing out."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bots.commands import (
    EAR,
    FORMS,
    Command,
    CommandName,
    is_ear,
    parse,
    strip_mention,
    strip_spoken_name,
    visible,
    wants_more,
)

OWN_ID = "@hearth:home.example"
OWN_NAME = "Hearth"


def read(text: str) -> Command | None:
    return parse(text, own_id=OWN_ID, own_name=OWN_NAME)


texts = st.text() | st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            [
                "!",
                "help",
                "forget",
                " room",
                "Hearth",
                OWN_ID,
                ":",
                ",",
                " ",
                "\n",
                "\u200b",
                "\u202e",
                "!stop",
            ]
        )
        | st.text(max_size=5),
        max_size=8,
    ),
)


@given(texts, texts, texts)
@example("!" * 60_000, "", "")
@example("Hearth " * 10_000, "Hearth ", "Hearth")
@example("\ud800!help", "\ud800", "\ud800")
def test_any_text_is_read(text: str, own_id: str, own_name: str) -> None:
    """Whatever is typed, and whatever the bot is called, reading it raises nothing."""
    command = parse(text, own_id=own_id, own_name=own_name)
    assert command is None or (command.name is CommandName.UNKNOWN) <= (len(command.word) <= 32)
    assert isinstance(strip_mention(text, own_id, own_name), str)


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("!ask city  When does\nthe Pool open?", CommandName.ASK, "city When does the Pool open?"),
        ("Hearth: !Vraag stad Hoe laat?", CommandName.ASK, "stad Hoe laat?"),
        ("!ask", CommandName.ASK, ""),
        ("!link @bot:city.example", CommandName.LINK, "@bot:city.example"),
        ("!audit city", CommandName.AUDIT, "city"),
        ("!proof please", CommandName.PROOF, ""),
        ("!bewijs", CommandName.PROOF, ""),
    ],
)
def test_what_concerns_other_communities_keeps_its_words(text: str, name: CommandName, argument: str) -> None:
    """As they were typed, on one line; two of them have a Dutch word, too."""
    command = read(text)
    assert command is not None
    assert (command.name, command.argument) == (name, argument)


@pytest.mark.parametrize(
    "lead",
    [
        "",
        "Hearth: ",
        "Hearth, ",
        "hearth : ",
        "HEARTH ",
        "@Hearth ",
        "@hearth: ",
        "@hearth:home.example ",
        "@hearth:home.example: ",
        "[Hearth](https://matrix.to/#/@hearth:home.example): ",
        "[Hearth](https://matrix.to/#/%40hearth%3Ahome.example) ",
        "\u200bHea\u200brth: ",
        "  \n",
        "Hearth - ",
    ],
)
@pytest.mark.parametrize("name", [name for name in CommandName if name is not CommandName.UNKNOWN])
def test_a_command_may_follow_a_mention(lead: str, name: CommandName) -> None:
    """Every way in which clients and people write a leading mention leads to the same command."""
    command = read(f"{lead}!{name.value}")
    assert command is not None
    assert command.name is name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("!HELP", CommandName.HELP),
        ("!help me please", CommandName.HELP),
        ("\uff01\uff48\uff45\uff4c\uff50", CommandName.HELP),
        ("!he\u200dlp", CommandName.HELP),
        ("\u202e!stop\u202c", CommandName.STOP),
        ("!Forget  Room", CommandName.FORGET_ROOM),
        ("!forget\troom.", CommandName.FORGET_ROOM),
        ("!forget me", CommandName.FORGET),
        ("!forget the milk", CommandName.UNKNOWN),
        ("!forget room 12", CommandName.UNKNOWN),
    ],
)
def test_spelling_does_not_matter(text: str, name: CommandName) -> None:
    """Case, spaces, full-width and invisible characters make no difference; more words to erase by do."""
    command = read(text)
    assert command is not None
    assert command.name is name


@pytest.mark.parametrize(
    "text", ["", "!", "!!!", "! help", "what is !help", "!?", "!5", "Hearth", "Hearth: hello", "help"]
)
def test_what_is_not_a_command_is_a_question(text: str) -> None:
    """Only a word right after a leading `!` is a command."""
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "guess"),
    [("!hlep", "help"), ("!sttus", "status"), ("!forgte", "forget"), ("!stopp", "stop"), ("!xyzzy", None)],
)
def test_an_unknown_command_comes_with_a_guess(text: str, guess: str | None) -> None:
    """A slip of the finger is named with what was probably meant."""
    assert read(text) == Command(CommandName.UNKNOWN, text[1:], guess)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Hearth: what time?", "what time?"),
        ("Hearth what time?", "Hearth what time?"),
        ("Hearthstone: a game", "Hearthstone: a game"),
        ("@Hearth what time?", "what time?"),
        ("@hearth:other.example hi", "@hearth:other.example hi"),
        ("@hearth:home.example.org hi", "@hearth:home.example.org hi"),
        ("[Ben](https://matrix.to/#/@ben:home) hi", "[Ben](https://matrix.to/#/@ben:home) hi"),
        ("Ben: Hearth: hi", "Ben: Hearth: hi"),
        ("Hearth:", ""),
    ],
)
def test_only_a_leading_mention_of_the_bot_goes(text: str, rest: str) -> None:
    """Other people's names, longer names and the name as a word stay."""
    assert strip_mention(text, OWN_ID, OWN_NAME) == rest


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("!transcript", "md"),
        ("!transcript  SRT", "srt"),
        ("!transcript .vtt please", "vtt"),
        ("!transcript txt.", "txt"),
        ("!transcript docx", "docx"),
        ("!transcript " + "x" * 90, "x" * 31 + "\u2026"),
    ],
)
def test_a_transcript_has_a_form(text: str, argument: str) -> None:
    """The word after `!transcript` is the form; alone it means the first of them."""
    assert read(text) == Command(CommandName.TRANSCRIPT, "transcript", argument=argument)
    assert argument in FORMS or argument not in ("md", "txt", "srt", "vtt")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Hearth, when?", "when?"),
        ("Hearth when?", "when?"),
        ("hearth. When?", "When?"),
        (" \u201cHearth: when?", "when?"),
        ("Hey Hearth, when?", "when?"),
        ("OK. Hearth! When?", "When?"),
        ("Hearth?", ""),
        ("Hearth's door", None),
        ("Hearth\u2019s door", None),
        ("Hearths", None),
        ("Hearthstone", None),
        ("The hearth is warm", None),
        ("When, Hearth?", None),
        ("Heyhearth", None),
        ("", None),
    ],
)
def test_a_spoken_name_needs_no_comma(text: str, rest: str | None) -> None:
    """The name at the very start counts in any case and with any sign after it; a longer word does not."""
    assert strip_spoken_name(text, OWN_NAME) == rest


@given(texts, texts)
def test_any_name_may_be_spoken(text: str, name: str) -> None:
    """No text and no name raises, and what is left is the end of what was said."""
    rest = strip_spoken_name(text, name)
    assert rest is None or text.endswith(rest)
    assert strip_spoken_name(text, "!?") is None


@pytest.mark.parametrize("tone", ["", *map(chr, range(0x1F3FB, 0x1F400))])
@pytest.mark.parametrize("variation", ["", "\ufe0e", "\ufe0f"])
def test_an_ear_of_any_skin(tone: str, variation: str) -> None:
    """The ear in every tone and presentation asks for a transcript; two ears or another sign do not."""
    assert is_ear(EAR + tone + variation)
    assert is_ear(f" {EAR}{tone}{variation} ")
    assert not is_ear(2 * (EAR + tone + variation))
    assert not is_ear("\U0001f441" + tone + variation)


@given(st.text())
def test_most_reactions_are_no_ear(text: str) -> None:
    """Whatever people react with, only the ear is one."""
    assert is_ear(text) <= (EAR in text)


@given(st.text())
def test_nothing_invisible_is_left(text: str) -> None:
    """`visible` keeps every printable character in order and is idempotent."""
    seen = visible(text)
    assert visible(seen) == seen
    assert [char for char in text if char.isprintable() and char.isascii()] == [
        char for char in seen if char.isprintable() and char.isascii()
    ]
    assert not set(seen) & set("\u200b\u202e\u2066\ufeff\x00\x1b\u2028")


def test_joiners_stay_where_scripts_need_them() -> None:
    """Persian and emoji keep their joiners; between Latin letters they are a trick."""
    assert (
        visible("\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f467")
        == "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f467"
    )
    assert visible("ro\u200dom") == "room"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("more", True),
        ("More, please", False),
        (" Go on! ", True),
        ("continue\u2026", True),
        ("mo\u200bre", True),
        ("no more", False),
        ("", False),
        ("x" * 100_000, False),
    ],
)
def test_only_a_word_that_asks_for_more_gets_more(text: str, *, expected: bool) -> None:
    """Signs and case make no difference; any other word makes it a question."""
    assert wants_more(text) is expected


def test_a_name_on_either_network_is_stripped() -> None:
    """`@hearth` is the bot's own mention on a network whose addresses have two signs too."""
    assert parse("@hearth !help", own_id="@hearth@example.social") == Command(CommandName.HELP, "help")
