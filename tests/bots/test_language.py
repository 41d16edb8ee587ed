"""Languages: every sentence is in every catalogue, and no language breaks a turn."""

from __future__ import annotations

import asyncio
import io
import string
import tempfile
from dataclasses import replace
from gettext import GNUTranslations
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

import bots
from bots import language, wording, wording_public, wording_voice
from bots.base import Decided
from bots.conversation import TurnKind
from bots.language import PACKAGED, _, languages, ngettext, number, placeholders, problems, speaking
from bots.steward import Steward
from models.transcript import Segment, Transcript
from policies.verdict import Code, Verdict
from tests.bots.fakes import ADA, OWN, FakeTools, last_of, said, turn_of

if TYPE_CHECKING:
    from babel.messages.catalog import Message

COMMITTED = sorted(PACKAGED.glob("*/LC_MESSAGES/hearth.po"))
UNHEARD_OF = "a sentence that nobody translates"


def _in_code() -> dict[str, str | None]:
    """Every sentence that the bots mark, and its plural."""
    found: dict[str, str | None] = {}
    for _file, _line, words, _comments, _context in extract_from_dir(Path(bots.__file__).parent):
        one, many = words if isinstance(words, tuple) else (words, None)
        found[one] = many
    return found


def _entries(po: Path) -> list[Message]:
    with po.open("rb") as file:
        return [one for one in read_po(file, abort_invalid=True) if one.id]


def _forms(entry: Message) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The English forms of an entry, and the translated ones."""
    ids = (entry.id,) if isinstance(entry.id, str) else entry.id
    said = entry.string or ""
    strings = (said,) if isinstance(said, str) else said
    return tuple(ids), tuple(one or "" for one in strings)


def _shout(text: str) -> str:
    """`text` in capitals, its placeholders as they are."""
    shouted = ""
    for literal, name, form, conversion in string.Formatter().parse(text):
        shouted += literal.upper()
        if name is not None:
            shouted += f"{{{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
    return shouted


def _compiled(words: dict[str, str | tuple[str, str]], plurals: dict[str, str]) -> bytes:
    catalogue = Catalog(charset="utf-8")
    for one, translation in words.items():
        catalogue.add((one, plurals[one]) if one in plurals else one, translation)
    file = io.BytesIO()
    write_mo(file, catalogue)
    return file.getvalue()


def _put(folder: Path, tag: str, content: bytes) -> Path:
    """`folder` with a catalogue of these bytes."""
    place = folder / tag / "LC_MESSAGES"
    place.mkdir(parents=True)
    (place / "hearth.mo").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def shouting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one made-up language in which every sentence is shouted."""
    code = _in_code()
    words = {one: (_shout(one), _shout(many)) if many else _shout(one) for one, many in code.items()}
    plurals = {one: many for one, many in code.items() if many}
    return _put(tmp_path_factory.mktemp("locale"), "x-shout", _compiled(words, plurals))


# -- the catalogues that ship ----------------------------------------------------------------------


def test_dutch_ships() -> None:
    """What is committed is what can be spoken, and nothing of it is broken."""
    assert languages() == ("en", *(po.parent.parent.name for po in COMMITTED)) == ("en", "nl")
    assert problems() == {}


@pytest.mark.parametrize("po", COMMITTED, ids=str)
def test_a_catalogue_has_every_sentence_of_the_code_and_no_other(po: Path) -> None:
    """Whoever changes a sentence runs `make words` and translates it."""
    told = {ids[0]: ids[1] if len(ids) > 1 else None for ids, _ in map(_forms, _entries(po))}
    assert told == _in_code()


@pytest.mark.parametrize("po", COMMITTED, ids=str)
def test_no_translation_is_empty_or_guessed(po: Path) -> None:
    """A fuzzy entry is Babel's guess; a reader would see it, or English in the middle of it."""
    for entry in _entries(po):
        assert not entry.fuzzy, entry.id
        assert all(_forms(entry)[1]), entry.id


@pytest.mark.parametrize("po", COMMITTED, ids=str)
def test_a_translation_has_the_placeholders_of_its_source(po: Path) -> None:
    """None is missing, none is misspelt; commands and settings stand in it as they are typed."""
    for entry in _entries(po):
        ids, strings = _forms(entry)
        for text in (*ids, *strings):
            assert placeholders(text) == placeholders(ids[-1]), entry.id
            assert sorted(text.split("`")[1::2]) == sorted(ids[-1].split("`")[1::2]), entry.id


@pytest.mark.parametrize("po", COMMITTED, ids=str)
def test_what_is_compiled_is_what_is_written(po: Path) -> None:
    """The committed .mo says what Babel makes of the .po (but for Babel's own version in its header)."""
    made = io.BytesIO()
    with po.open("rb") as file:
        write_mo(made, read_po(file))
    made.seek(0)
    with po.with_suffix(".mo").open("rb") as file:
        committed, expected = GNUTranslations(file), GNUTranslations(made)
    for entry in _entries(po):
        ids, _strings = _forms(entry)
        for n in range(200):
            assert committed.ngettext(ids[0], ids[-1], n) == expected.ngettext(ids[0], ids[-1], n)
        assert committed.gettext(ids[0]) == expected.gettext(ids[0])
    ignored = {"generated-by": ""}
    assert committed.info() | ignored == expected.info() | ignored


# -- the language of a turn ------------------------------------------------------------------------


@given(st.text())
def test_speaking_anything_is_total(tag: str) -> None:
    """Whatever is given as a language, something that there is is spoken, and afterwards what was before."""
    with speaking(tag) as spoken:
        assert spoken in languages()
        assert wording.stopped()
        assert wording.waiting(2)
    assert wording.stopped() == "Stopped. Ask again whenever you like."


@pytest.mark.parametrize(
    ("tag", "spoken"),
    [
        ("nl", "nl"),
        ("NL", "nl"),
        ("nl-BE", "nl"),
        ("nl_BE.UTF-8@euro", "nl"),
        ("nl-Latn-BE-x-hill", "nl"),
        (f"nl-{'x' * 100_000}", "nl"),
        ("nlx", "en"),
        ("en-GB", "en"),
        ("tlh", "en"),
        ("", "en"),
        ("../../nl", "en"),
        ("\x00", "en"),
    ],
)
def test_a_tag_finds_its_language(tag: str, spoken: str) -> None:
    """Exact first, then without its last part, then English (RFC 4647, section 3.4)."""
    with speaking(tag) as language_:
        assert language_ == spoken
        assert wording.stopped().startswith("Gestopt" if spoken == "nl" else "Stopped")


def test_the_longest_tag_that_there_is_wins(tmp_path: Path) -> None:
    """A regional catalogue is taken before that of the language; the folder may be named as gettext does."""
    for tag in ("pt", "pt_BR"):
        _put(tmp_path, tag, _compiled({UNHEARD_OF: tag}, {}))
    assert languages(tmp_path) == ("en", "pt", "pt-br")
    for tag, words in (("pt-BR", "pt_BR"), ("pt-br-x-y", "pt_BR"), ("pt-PT", "pt"), ("p", UNHEARD_OF)):
        with speaking(tag, tmp_path):
            assert _(UNHEARD_OF) == words


async def test_turns_at_one_time_speak_each_its_own() -> None:
    """What another task speaks changes nothing; a language inside another ends with its block."""
    order: list[str] = []
    dutch, english = asyncio.Event(), asyncio.Event()

    async def in_dutch() -> None:
        with speaking("nl"):
            order.append(wording.progress())
            dutch.set()
            await english.wait()
            with speaking("tlh"):
                order.append(wording.progress())
            order.append(await asyncio.to_thread(wording.progress))

    async def in_english() -> None:
        await dutch.wait()
        order.append(wording.progress())
        english.set()

    await asyncio.gather(in_dutch(), in_english())
    assert order == [
        "Ik denk erover na.",
        "I am thinking about it.",
        "I am thinking about it.",
        "Ik denk erover na.",
    ]


def test_numbers_are_written_as_the_language_does() -> None:
    """The sign between thousands is the catalogue's."""
    assert [number(n) for n in (0, 999, 12_345, 1_234_567)] == ["0", "999", "12,345", "1,234,567"]
    with speaking("nl"):
        assert number(1_234_567) == "1.234.567"


# -- a made-up language, and broken ones -----------------------------------------------------------


def test_another_folder_can_be_spoken(shouting: Path) -> None:
    """A new language needs its catalogue and nothing else, and then every sentence is in it."""
    assert languages(shouting) == ("en", "x-shout")
    verdict = Verdict(False, Code.PERSON_QUOTA, "policy.per_person_day", {"limit": 5}, "tomorrow")
    with speaking("x-shout", shouting):
        assert wording.waiting(1) == "1 QUESTION IS BEFORE YOURS. I ANSWER AS SOON AS I CAN."
        assert wording.waiting(12) == "12 QUESTIONS ARE BEFORE YOURS. I ANSWER AS SOON AS I CAN."
        for words in (
            wording.help_words(),
            wording.refusal(verdict),
            *map(wording.failed, wording.Failure),
            *map(wording_voice.hearing_failed, wording_voice.HEARING),
            wording.too_long(60_000, 11_000),
            wording.welcome("", retention_days=1, encrypted=True, direct=True, hears=True).replace(
                "Hearth", ""
            ),
            wording_voice.nothing_heard(bundled=True),
            wording_voice.summary("1:02", ["A"], bundled=True),
            wording_public.more(),
            wording_public.posts_nearly_spent(100),
            wording_public.alt(Transcript((Segment(0, 1, "A"),), duration=9)),
        ):
            assert words == words.upper()
            assert words.strip()


def test_what_a_user_wrote_is_not_translated(shouting: Path) -> None:
    """A placeholder in somebody's words is shown as it was typed, and the words stay theirs."""
    with speaking("x-shout", shouting):
        assert wording_voice.unknown_form("a{b}") == (
            "I CANNOT WRITE A TRANSCRIPT AS `a{b}`. PLEASE ASK FOR `MD`, `TXT`, `SRT` OR `VTT`."
        )


@pytest.mark.parametrize(
    "bad",
    [
        "{cuont} left",
        "{count",
        "count}",
        "{}",
        "{0}",
        "{count.real}",
        "{count!r}",
        "{count:,}",
        "{count:{x}}",
        "",
    ],
)
def test_a_translation_that_would_break_is_not_said(bad: str, tmp_path: Path) -> None:
    """A placeholder that the English does not have would be an error in the middle of a turn."""
    one, many = "{count} leaf", "{count} leaves"
    _put(tmp_path, "xx", _compiled({one: (bad, bad), many: bad}, {one: many}))
    with speaking("xx", tmp_path) as spoken:
        assert spoken == "xx"
        assert [ngettext(one, many, n) for n in (1, 2)] == [one, many]
        assert _(many) == many


def test_nothing_is_nothing_in_every_language() -> None:
    """The empty text is the key of gettext's header, which nobody wants to read."""
    with speaking("nl"):
        assert _("") == ""


@given(st.data())
def test_a_broken_catalogue_is_told_and_english_is_spoken(data: st.DataObject) -> None:
    """Whatever stands in a file, it is a catalogue or a problem, and never an error."""
    whole = bytearray(COMMITTED[0].with_suffix(".mo").read_bytes()[:4096])
    for _number in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    content = data.draw(st.just(bytes(whole)) | st.binary(max_size=60))
    with tempfile.TemporaryDirectory() as name:
        folder = _put(Path(name), "xx", content)
        assert (languages(folder) == ("en",)) == ("xx" in problems(folder))
        with speaking("xx", folder):
            assert wording.stopped()


def test_the_problem_says_what_is_wrong(tmp_path: Path) -> None:
    """It names the folder and what the parser said; what has no catalogue is no language and no problem."""
    _put(tmp_path, "xx_YY", b"no catalogue")
    (tmp_path / "README").write_text("", encoding="utf-8")
    (tmp_path / "yy").mkdir()
    assert dict(problems(tmp_path)) == {
        "xx-yy": "xx_YY: OSError: [Errno 0] Bad magic number: "
        + repr(str(tmp_path / "xx_YY" / "LC_MESSAGES" / "hearth.mo"))
    }
    assert languages(tmp_path / "nowhere") == ("en",)


def test_a_folder_is_read_once(tmp_path: Path) -> None:
    """No turn waits for the disk: what was read stays, and the package's own is read at import."""
    before = language._read.cache_info().misses
    assert languages() == languages()
    assert language._read.cache_info().misses == before
    assert languages(tmp_path) == ("en",)
    _put(tmp_path, "xx", _compiled({UNHEARD_OF: "x"}, {}))
    assert languages(tmp_path) == ("en",)


# -- Dutch, as it is read --------------------------------------------------------------------------


async def test_the_steward_speaks_dutch() -> None:
    """The words of a turn are in the language of its place, commands and quotes as they were typed."""
    refused = Decided(
        "settled", Verdict(False, Code.PLACE_QUOTA, "policy.per_place_day", {"limit": 9}), "refused"
    )
    tools = FakeTools(known={"q": refused})
    with speaking("nl-NL"):
        assert (await last_of(Steward(), turn_of(said(1, ADA, "!hlep")), tools)).text == (
            "`!hlep` ken ik niet. Bedoelde je `!help`? `!help` laat zien wat ik begrijp."
        )
        assert (await last_of(Steward(), turn_of(said(1, ADA, "!why", reply_to="q")), tools)).text == (
            "Het is niet beantwoord. Het mocht niet volgens de regel `policy.per_place_day`. "
            "Deze kamer heeft haar 9 antwoorden van de laatste 24 uur gehad."
        )
        status = (await last_of(Steward(), turn_of(said(1, ADA, "!status")), tools)).text
        assert "- model: `tiny.gguf` (klaar voor gebruik)" in status
        assert "- tekst wordt 30 dagen bewaard en daarna gewist" in status
        welcome = turn_of(said("join", OWN, ""), kind=TurnKind.WELCOME)
        text = (await last_of(Steward("Emma"), welcome, tools)).text
        assert text.startswith("Hallo, ik ben Emma. Als je me noemt of op me reageert, antwoord ik")
        assert len(text) < 700


def test_dutch_has_its_plurals_and_numbers() -> None:
    """One day and two, and the point between thousands."""
    with speaking("nl"):
        kept = [
            wording.welcome("E", retention_days=n, encrypted=False, direct=True).partition("bewaar ik ")[2][
                :7
            ]
            for n in (1, 2)
        ]
        assert kept == ["1 dag; ", "2 dagen"]
        assert "60.000 tekens" in wording.too_long(60_000, 11_000)
        assert wording_public.posts_nearly_spent(3600 * 2).endswith("over 2 uur.)")
        delivered = Decided("settled", None, "answered", ("sent", "sent", "parked", "odd"))
        assert wording.why(delivered) == (
            "Het is beantwoord. Berichten van mij: 2 verstuurd, 1 geweigerd door de server, 1 odd."
        )
        assert wording.why(replace(delivered, deliveries=(), outcome=None, state="odd")) == (
            "De toestand is `odd`."
        )


@given(
    st.text(alphabet=st.sampled_from("abc \u3042"), min_size=1, max_size=3_000), st.sampled_from(["en", "nl"])
)
def test_a_description_is_as_long_as_it_may_be(text: str, tag: str) -> None:
    """What is said is cut at a word, inside its quotation marks, also where words have no spaces."""
    with speaking(tag):
        words = wording_public.alt(Transcript((Segment(0, 1, text),), duration=700))
    assert len(words) <= wording_public.ALT_LENGTH
    assert words.endswith("\u201d")
    whole = " ".join(text.split())
    assert whole in words or "\u2026\u201d" in words
    if " " not in whole and len(whole) > wording_public.ALT_LENGTH:
        assert len(words) == wording_public.ALT_LENGTH
