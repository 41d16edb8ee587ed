"""Screens: what is sensitive is found however it is typed, ordinary questions stay clean, nothing hangs."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies import screens, words
from policies.classes import SENSITIVE, Class
from policies.folded import fold
from policies.screens import redact, screen

HEALTH, CHILDREN, LOCATION = Class.HEALTH, Class.CHILDREN, Class.LOCATION

FOUND = [
    # Health
    ("I have been coughing for two weeks, is that bad?", {HEALTH}),
    ("Which antibiotics help against a bladder infection?", {HEALTH}),
    ("My GP said that my blood pressure is too high", {HEALTH}),
    ("Am I pregnant?", {HEALTH}),
    ("She was diagnosed with depression last year", {HEALTH}),
    ("What helps against chest pain?", {HEALTH}),
    ("Who takes over for the doctor on Sunday?", {HEALTH}),
    ("Ik ben al drie dagen ziek, mag ik komen?", {HEALTH}),
    ("Welke huisarts neemt nog patiënten aan?", {HEALTH}),
    ("Wat helpt tegen hoofdpijn?", {HEALTH}),
    ("Is deze pil te combineren met alcohol?", {HEALTH}),
    ("Mijn moeder heeft dementie", {HEALTH}),
    ("Welcher Zahnarzt hat am Samstag offen?", {HEALTH}),
    ("Meine Rückenschmerzen werden schlimmer", {HEALTH}),
    ("Ich bin seit drei Wochen krank", {HEALTH}),
    ("Was tun bei Uebelkeit?", {HEALTH}),
    ("Mir tut der Bauch weh", {HEALTH}),
    ("J'ai mal au dos depuis hier", {HEALTH}),
    ("Je suis enceinte de trois mois", {HEALTH}),
    ("Quel médicament contre la fièvre ?", {HEALTH}),
    ("Où est l'hôpital le plus proche ?", {HEALTH}),
    # Children
    ("What present would my son like?", {CHILDREN}),
    ("My daughter's school is closed on Friday", {CHILDREN}),
    ("She is 6 years old, is that film for her?", {CHILDREN}),
    ("Games for a seven-year-old on a rainy day", {CHILDREN}),
    ("Who can babysit on Saturday?", {CHILDREN}),
    ("What does the school of my nephew do about bullying?", {CHILDREN}),
    ("Help me with my homework", {CHILDREN}),
    ("Is het zwembad open voor kinderen?", {CHILDREN}),
    ("Mijn dochtertje wil op voetbal", {CHILDREN}),
    ("Waar kan ons kind leren schaatsen?", {CHILDREN}),
    ("Hij is 8 jaar oud", {CHILDREN}),
    ("Mein Sohn sucht einen Verein", {CHILDREN}),
    ("Gibt es einen Kurs für unser Kind?", {CHILDREN}),
    ("Ein 9-jähriger will Schach lernen", {CHILDREN}),
    ("Unsere Töchter singen im Chor", {CHILDREN}),
    ("Mon fils cherche un club", {CHILDREN}),
    ("Quelle école de la ville a une cantine ?", {CHILDREN}),
    ("Elle a 5 ans et veut nager", {CHILDREN}),
    ("Un cadeau pour un bébé", {CHILDREN}),
    # Location
    ("I live at the corner behind the station", {LOCATION}),
    ("Is 221b Baker Street a museum?", {LOCATION}),
    ("Deliver it to 12 Acacia Drive please", {LOCATION}),
    ("What is the tide at SW1A 1AA?", {LOCATION}),
    ("Which district is 90210-1234?", {LOCATION}),
    ("Send it to Springfield, IL 62704", {LOCATION}),
    ("My zip code is 60601, who collects?", {LOCATION}),
    ("What can be seen at 52.3702, 4.8952?", {LOCATION}),
    ("Meet at 52°22'N 4°53'E", {LOCATION}),
    ("What is our home address?", {LOCATION}),
    ("Wanneer komt de vuilniswagen in de Kerkstraat 12?", {LOCATION}),
    ("Ik woon op de derde verdieping, wie helpt?", {LOCATION}),
    ("Hoort 1011 AB bij het centrum?", {LOCATION}),
    ("Wat is er te doen rond 3512jk?", {LOCATION}),
    ("Burgemeester de Vlugtlaan 125 is dat ver?", {LOCATION}),
    ("Wann wird in der Hauptstraße 7 geleert?", {LOCATION}),
    ("Welcher Bus fährt nach 10115 Berlin?", {LOCATION}),
    ("Ich wohne in der Nähe vom Markt", {LOCATION}),
    ("Is er een markt in 9000 Gent?", {LOCATION}),
    ("Que se passe-t-il au 12 rue de la Paix ?", {LOCATION}),
    ("Rue de la Loi 16, c'est quel bureau ?", {LOCATION}),
    ("J'habite à côté de la gare", {LOCATION}),
    # More than one
    ("My son has a fever and we live in Utrecht", {HEALTH, CHILDREN, LOCATION}),
    ("Mijn kind is ziek", {HEALTH, CHILDREN}),
    ("Welcher Kinderarzt ist in der Lindenallee 4?", {HEALTH, CHILDREN, LOCATION}),
    ("Notre fille est malade", {HEALTH, CHILDREN}),
]

CLEAN = [
    "When does the library open?",
    "What is the capital of France?",
    "When is the bulky waste collected?",
    "What kind of waste goes into the green bin?",
    "How do I renew my passport?",
    "Where can I park on market day?",
    "Is the swimming pool open on 24 December 2026?",
    "Who won the world cup in 1998?",
    "How many people fit into the hall, 120 or 150?",
    "The stadium has 54321 seats, is that right?",
    "Translate 'good morning' into Turkish",
    "Write a short invitation to the summer party",
    "Where is the arts centre?",
    "Is the road closed at 5 pm?",
    "Can I park on the street 24 hours a day?",
    "In 2024 it was free, is it still?",
    "How long is the A4 between Delft and Leiden?",
    "Which train goes at 14:05 from platform 3?",
    "What does an iPad 9 cost?",
    "How do I cook kidney beans?",
    "Does the museum lend tablets?",
    "When is the Mendelssohn concert?",
    "Wanneer is de bibliotheek open?",
    "Hoe laat gaat de laatste bus?",
    "Wanneer wordt het grofvuil opgehaald?",
    "Is de markt enkel op maandag?",
    "Hoe isoleer je een huis?",
    "In 2024 is het feest op 3 mei, en nu?",
    "Wat kost een vergunning voor 1000 mensen?",
    "De temperatuur steeg 3 graden, klopt dat?",
    "Waar is het dichtstbijzijnde postkantoor?",
    "Wie organiseert het buurtfeest?",
    "Wann öffnet das Rathaus?",
    "Wann wird der Sperrmüll abgeholt?",
    "Welche Züge fahren vom Bahnhof 10 Minuten später?",
    "Wie wird das Wetter morgen?",
    "Wer sucht ein Fahrrad?",
    "Was kostet der Eintritt am 12.06.2026?",
    "Wie viele Einwohner hat Köln?",
    "Wo gibt es junge Bäume zu kaufen?",
    "À quelle heure ouvre la mairie ?",
    "Où acheter du pain le dimanche ?",
    "Combien de pains au chocolat faut-il ?",
    "Il a son chapeau, où est le mien ?",
    "Le prix est-il élevé ?",
    "Quelle est la capitale de l'Italie ?",
    "Reste-t-il 1 place pour le concert ?",
    "Les encombrants passent quand ?",
    "Quels sont les horaires du marché ?",
    "¿A qué hora abre la biblioteca?",
    "Chi ha vinto nel 2006?",
    "",
    "?!",
    "123",
]

CYRILLIC = "\u0430\u0435\u043e\u0440\u0441\u0443"
"""What looks like `aeopcy`."""

SAID = [text for text, _ in FOUND] + CLEAN

# Words, the shapes that patterns look for, and what could make them slow or fall over.
PIECES = [
    *(
        "a",
        "my",
        "son",
        "I",
        "live",
        "at",
        "12",
        "3",
        "0",
        "06",
        "1234",
        "12345",
        "the",
        "rue",
        "de",
        "street",
    ),
    *(
        "Kerkstraat",
        "1011",
        "AB",
        "@",
        "@ada",
        "ada",
        "example.org",
        ":",
        ".",
        ",",
        "-",
        "+31",
        "(",
        ")",
        "NL91",
    ),
    *("[", "]", "[email]", "://", "u:p@h", "?key=", "#", "!", "°", "'", "52.3702", "4.8952", " at ", " dot "),
    *("\u200b", "\u0301", "\ud83d", "\x00", "\n", "\u3000", "ﷺ", "ß", "ABNA", "0417", "1643", "00"),
]
anything = st.text(st.characters(codec=None, exclude_categories=()))
shaped = st.lists(st.sampled_from(PIECES) | st.sampled_from(SAID), max_size=25).flatmap(
    lambda parts: st.sampled_from(["", " "]).map(lambda between: between.join(parts))
)
texts = anything | shaped


@pytest.mark.parametrize(("text", "classes"), FOUND)
def test_what_is_sensitive_is_found(text: str, classes: set[Class]) -> None:
    """Each example names all the classes that it belongs to."""
    assert screen(text) >= classes


@pytest.mark.parametrize("text", CLEAN)
def test_ordinary_questions_stay_clean(text: str) -> None:
    """What people ask a community's bot every day can still leave."""
    assert screen(text) == frozenset()


def test_the_table_is_large_enough_and_of_several_languages() -> None:
    """At least sixty examples, about half of each."""
    assert min(len(FOUND), len(CLEAN)) >= 30


@pytest.mark.parametrize(("text", "classes"), FOUND)
@pytest.mark.parametrize(
    "typed",
    [
        pytest.param(str.upper, id="upper case"),
        pytest.param(str.lower, id="lower case"),
        pytest.param("\u200b".join, id="zero width"),
        pytest.param(lambda text: text.replace(" ", "\u200b"), id="zero width for spaces"),
        pytest.param(lambda text: text.replace(" ", " \n\t\u3000"), id="white space"),
        pytest.param(lambda text: "".join(char + "\u0336\u0301" for char in text), id="marks"),
        pytest.param(
            lambda text: "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text),
            id="full width",
        ),
        pytest.param(lambda text: text.translate(str.maketrans("aeopcy", CYRILLIC)), id="look-alikes"),
        pytest.param(lambda text: text.replace("'", "\u2019"), id="apostrophe"),
    ],
)
def test_how_it_is_typed_does_not_matter(text: str, classes: set[Class], typed: object) -> None:
    """Neither case nor accents nor characters that look the same or like nothing hide a class."""
    assert callable(typed)
    assert screen(typed(text)) >= classes


@given(texts)
@example("\ud800")
@example("\ufdfa" * 50)
def test_screen_is_total(text: str) -> None:
    """Any text has an answer, always the same one, and it names sensitive classes only."""
    found = screen(text)
    assert found <= SENSITIVE
    assert screen(text) == found


@given(texts, texts, texts)
@example("", "12345", "people")
@example("€", "10115 Berlin", "")
@example("", "1011 AB", "\u0301")
def test_more_words_take_no_class_away(before: str, text: str, after: str) -> None:
    """Words before and after only add."""
    assert screen(f"{before} {text} {after}") >= screen(text)


@given(st.lists(st.sampled_from(["please", "tell", "12", "?", "\u200b", "de", "+", "°"])), st.data())
def test_words_in_between_do_not_hide_a_single_word(more: list[str], data: st.DataObject) -> None:
    """A word that suggests a class does so wherever it stands."""
    said = ["what", "about", data.draw(st.sampled_from(["illness", "daughter", "Kinder", "wohnhaft"]))]
    mixed = data.draw(st.permutations(said + more))
    assert screen(" ".join(mixed)) >= screen(said[-1])


@pytest.mark.parametrize("lists", [words.HEALTH, words.CHILDREN, words.LOCATION])
def test_every_listed_word_and_phrase_is_found(lists: dict[str, words.Words]) -> None:
    """No entry is dead: each, as it would be typed, raises some class; each is in lower case."""
    for listed in lists.values():
        for word in listed.single.split():
            assert word == word.lower()
            assert word.count("*") <= 1
            assert screen(word.strip("*")), word
        for line in listed.phrases.splitlines():
            alternatives = [each.split("/") for each in line.split()]
            for place, options in enumerate(alternatives):
                for option in options:
                    row = [one[0] for one in alternatives]
                    row[place] = option
                    assert screen(" ".join(row)), row


REDACTED = [
    ("Write to ada@example.org.", "Write to [email].", {"email": 1}),
    ("ADA.B+c@Mail.Example.ORG, ben@localhost", "[email], [email]", {"email": 2}),
    ("mail ada\uff20example\uff0eorg", "mail [email]", {"email": 1}),
    ("a\u200bda@exa\u200bmple.org", "[email]", {"email": 1}),
    ("ada (at) example (dot) org", "[email]", {"email": 1}),
    ("ada at example dot org", "[email]", {"email": 1}),
    ("call +31 6 1234 5678 now", "call [phone] now", {"phone": 1}),
    ("(020) 123 45 67 or (020 1234567)", "[phone] or ([phone])", {"phone": 2}),
    ("0049 (0)30 123456", "[phone]", {"phone": 1}),
    ("030/1234567", "[phone]", {"phone": 1}),
    ("01 23 45 67 89", "[phone]", {"phone": 1}),
    ("01.23.45.67.89", "[phone]", {"phone": 1}),
    ("555-123-4567", "[phone]", {"phone": 1}),
    ("room 12 020 1234567", "room [phone]", {"phone": 1}),
    ("٠٦١٢٣٤٥٦٧٨", "[phone]", {"phone": 1}),
    ("pay NL91 ABNA 0417 1643 00 today", "pay [iban] today", {"iban": 1}),
    ("de89370400440532013000", "[iban]", {"iban": 1}),
    ("BE68 5390 0754 7034 from here", "[iban] from here", {"iban": 1}),
    ("ask @ada:example.org", "ask [handle]", {"handle": 1}),
    ("ask @ada", "ask [handle]", {"handle": 1}),
    ("@ada@mastodon.social, #room:example.org", "[handle], [handle]", {"handle": 2}),
    ("https://matrix.to/#/@ada:example.org", "[handle]", {"handle": 1}),
    ("https://matrix.to/#/%40ada%3Aexample.org?via=x", "[handle]", {"handle": 1}),
    ("mailto:ada%40example.org", "[email]", {"email": 1}),
    ("https://ada:pw@example.org/x", "[url]", {"url": 1}),
    ("https://example.org/x?a=1&token=abc", "[url]", {"url": 1}),
    ("see Kerkstraat 12a, please", "see [address], please", {"address": 1}),
    ("Lange Straat 5", "[address]", {"address": 1}),
    ("221b Baker Street", "[address]", {"address": 1}),
    ("12 rue de la Paix", "[address]", {"address": 1}),
    ("1011 AB, SW1A 1AA, 10115 Berlin", "[address], [address], [address]", {"address": 3}),
    ("52.3702, 4.8952", "[address]", {"address": 1}),
]

KEPT = [
    "The library opens at 9:00 and closes at 17:30.",
    "On 03-05-2024 and on 2024-05-03 14:00",
    "03.05.2024, 3/5/2024",
    "between 2019 and 2024, or 2019-2024",
    "17 500 000 people, 1 000 000 000 stars, 0.12345678",
    "https://example.org/page?id=12",
    "it costs 12,50 at most",
    "5 apples @ 3 euro",
    "meet me @ noon. Thanks",
    "(a) [b] {c} <d> #tag !now",
    "What is the capital of France?",
]


@pytest.mark.parametrize(("text", "shown", "counts"), REDACTED)
def test_what_identifies_is_taken_out(text: str, shown: str, counts: dict[str, int]) -> None:
    """Each kind is replaced by its own placeholder, and counted; the words around it stay."""
    assert redact(text) == (shown, counts)


@pytest.mark.parametrize("text", KEPT)
def test_what_identifies_nobody_is_kept(text: str) -> None:
    """Dates, times, amounts and plain links are what a question is about."""
    assert redact(text) == (text, {})


@given(texts)
@example("ada@example.org")
def test_redact_is_idempotent_and_total(text: str) -> None:
    """What has been redacted has nothing left to redact; nothing found means nothing changed."""
    once, counts = redact(text)
    assert redact(once) == (once, {})
    assert (once == text) == (not counts)
    assert all(f"[{name}]" in once for name in counts)


@given(shaped)
def test_nothing_whole_survives(text: str) -> None:
    """An address of mail or of Matrix that stands by itself is gone, whatever stands around it."""
    shown, _ = redact(f"{text} grace@hopper.example @alan:turing.example {text}")
    assert "grace" not in shown
    assert "turing" not in shown


def test_what_does_not_come_to_rest_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that shows something new each time it is looked at does not leave at all."""
    monkeypatch.setattr(screens, "ROUNDS", 0)
    assert redact("ada@example.org") == ("[withheld]", {"withheld": 1})
    assert redact("nothing here") == ("nothing here", {})


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            " ",
            "1",
            "0",
            "@",
            "a@",
            "a.",
            "1 ",
            "1.",
            "1-",
            "0 ",
            "#a",
            "://",
            "/",
            "+1",
            "(",
            "NL91",
            "nl91 a",
        ),
        *(
            "1 a ",
            "12 rue de ",
            "rue a ",
            "straat",
            "straat1",
            "a straat 1 ",
            "my ",
            "i live ",
            "mal de ",
            "at ",
        ),
        *(
            "1 aaaaaaaaaaaaaaaaaaaa ",
            "a at a ",
            "a(at)a(",
            "1.1111",
            "postcode a ",
            "12345 ",
            "\u0301",
            "\ufdfa",
        ),
        *("\u0315\u0300", "\u200b", "\ud800", "b.@b@", "!a:", "?key", "[email]", "-", "'", "0 1 ", "x@y.zz "),
        *(
            "2222+",
            "geo:",
            "lat ",
            "///aa.",
            "a.a.a@a.a.a ",
            "\u0345a",
            "6 years ",
            "eleven",
            "1 a1 a1 a1 a1",
        ),
    ],
)
def test_a_long_text_of_any_shape_takes_no_long_time(unit: str) -> None:
    """100,000 characters take seconds at the very most; one quadratic pattern would take minutes."""
    text = (unit * (100_000 // len(unit) + 1))[:100_000]
    start = time.process_time()
    screen(text)
    redact(text)
    assert time.process_time() - start < 10


@given(texts, texts)
def test_folding_is_of_each_character_alone(one: str, other: str) -> None:
    """What a text is folded to does not depend on what follows it."""
    assert fold(f"{one} {other}").low.startswith(fold(one).low)


@given(texts)
def test_a_folded_text_knows_where_it_comes_from(text: str) -> None:
    """Every character has a place in the original, in order, and one in lower case."""
    folded = fold(text)
    assert len(folded.cased) == len(folded.low) == len(folded.at)
    assert folded.at == sorted(folded.at)
    assert all(0 <= place < len(text) for place in folded.at)
