"""Patterns of what identifies somebody in a text: addresses of all kinds, and numbers. Pure.

Every pattern is matched against a folded text (`policies/folded.py`: lower case, one space at a time) and
is at most linear in it: what repeats without a bound is possessive and is entered at one place of a run
only; everything else has a bound. None looks past a space to refuse a match, so that words added before or
after never undo one. An address (a street with a number, a postcode, coordinates) also tells where
somebody is; the others only who.

Sources: postcodes of the Netherlands (no SA, SD, SS), Belgium, Germany and France, the United States
(ZIP and ZIP+4) and the United Kingdom (BS 7666: areas as listed by Royal Mail, no C I K M O V in the
inward part); IBAN lengths of the SWIFT registry; phone numbers of E.164 (7 to 15 digits); Matrix
identifiers, appendices of the specification.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.folded import Folded


class Trace(StrEnum):
    """What somebody can be found by; of two that overlap, the first one here names both."""

    URL = "url"
    """With a password or a token in it."""
    HANDLE = "handle"
    EMAIL = "email"
    IBAN = "iban"
    ADDRESS = "address"
    PHONE = "phone"


class Span(NamedTuple):
    """Where a trace stands in a folded text: `start` to before `end`."""

    start: int
    end: int
    trace: Trace


def spans(text: Folded) -> list[Span]:
    """Every trace in `text`, in no order; they may overlap."""
    return [*_written(text.low), *_ibans(text.low), *addresses(text), *_phones(text.low)]


def _any(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


_B: Final = r"(?<![a-z0-9])"
_E: Final = r"(?![a-z0-9])"

# -- addresses -------------------------------------------------------------------------------------

_NO: Final = r",? ?(?:nr|no|nummer|huisnummer|hausnummer)?\.? ?\d{1,4}(?:[ -]?[a-z])?" + _E
_SUFFIX: Final = (
    r"(?:straat|strasse|str\.|(?<=[a-z]{2})str|laan|gracht|kade|singel|dijk|plein|dreef|plantsoen|gasse|allee"
    r"|ufer|damm|chaussee|boulevard|promenade|(?<=[a-z]{2})(?:weg|platz|steeg)"
    r"|(?<=[a-z]{2})(?<!bahn)(?<!fried)(?<!kerk)hof)"
)
_NOT_A_NAME: Final = _any("""
    a am an and are at about after be been before by can do does for free from has have in is less more
    new of on open or past per pm than the this till to until was were will with would bikes cars days
    dollars euro euros hour hours km kilometres lane lanes meters metres mile miles min minute minutes
    months people percent person persons seconds shops times weeks year years
    """)
_ENGLISH: Final = _any(
    "street st road rd avenue ave lane ln drive close crescent square court boulevard blvd terrace place"
    " gardens grove mews parkway highway hill row way"
)
_ENGLISH_FIRST: Final = _any("street road avenue lane square crescent")
_POSTCODE: Final = r"(?:postcodes?|post code|postal code|zip|zip ?codes?|plz|postleitzahl|code postal)"
_NOT_A_NAME_FR: Final = _any("""
    a apres au aux avant avec depuis en entre est et etait ferme fermee jusqu ouvre ouverte pendant plus
    pour sera sont sur
    """)
_NAME_FR: Final = rf"(?!{_NOT_A_NAME_FR}{_E})[a-z'.-]{{1,25}}"
_FRENCH: Final = (
    r"(?:rue|avenue|av|boulevard|bd|chemin|allee|impasse|quai|ruelle|sentier|venelle|faubourg|chaussee"
    r"|passage|square|route d[eu]|place (?:du|des|de la|de l|saint|st))"
)
_FRENCH_FIRST: Final = r"(?:rue|avenue|chaussee|boulevard|quai|chemin|impasse|allee|place d[eu]s?)"

_DUTCH_LETTERS: Final = r"(?!s[ads])[a-z]{2}"
_UNITS: Final = """
    km cm mm dm kg mg ml cl dl kw mw gb mb kb tb hz st nd rd th er em px pt ft lb oz am pm cc ad bc ce
    db va wh ah nm kj m2 m3
    """
_SHORT_WORDS: Final = """
    as at be by do go he if in is it me my no of on or so to up us we al de en er ga ik is je na nu
    om op te uw wo ze am an da du er es im ja ob so um wo zu au ce de du en est et il la le ne ni on ou
    sa se si tu un va
    """
_UK_AREAS: Final = """
    ab al b ba bb bd bh bl bn br bs bt ca cb cf ch cm co cr ct cv cw da dd de dg dh dl dn dt dy e ec eh
    en ex fk fy g gl gu gy ha hd hg hp hr hs hu hx ig im ip iv je ka kt kw ky l la ld le ll ln ls lu m
    me mk ml n ne ng nn np nr nw ol ox pa pe ph pl po pr rg rh rm s sa se sg sk sl sm sn so sp sr ss st
    sw sy ta td tf tn tq tr ts tw ub w wa wc wd wf wn wr ws wv yo ze
    """
_STATES_WORDS: Final = " AL AS CO DE HI ID IN LA MA MD ME MI MO MS NE OH OK OR PA"
"""States whose letters are a word in one of the languages here: only in upper case."""
_STATES: Final = """
    AK AR AZ CA CT DC FL GA GU IA IL KS KY MN MT NC ND NH NJ NM NV NY PR RI SC SD TN TX UT VA VI VT WA WI
    WV WY
    """
_BELGIAN_TOWNS: Final = """
    aalst aarlen anderlecht antwerp antwerpen anvers arlon auderghem bergen beveren bruges brugge
    brussel brussels bruxelles charleroi courtrai dendermonde diest doornik elsene etterbeek eupen evere
    gand ganshoren geel genk gent ghent hasselt herstal ieper ixelles jette kortrijk laeken laken leuven
    liege lokeren louvain louviere luik malines mechelen molenbeek mons mouscron namen namur oostende
    ostende oudergem roeselare saint-gilles schaarbeek schaerbeek seraing sint-gillis sint-niklaas
    tienen tongeren tournai turnhout uccle ukkel verviers vilvoorde waregem waterloo wavre woluwe
    """
_COUNTED: Final = _any("""
    and are bezoekers bikes books cars characters copies dagen days dollars einwohner est et euro euros
    fois habitants heures hours inhabitants inwoners ist jours keer leden lumen mal members membres
    menschen mensen meter meters metres miles mitglieder oder people personen personnes persons
    residents schritte seats sind sont stappen steps stemmen stimmen stunden tage tickets times trees
    und uur visiteurs visitors voix volt volts votes was watt watts were words zijn
    """)

_GROWN: Final = re.compile(_SUFFIX + _NO)
"""A street whose name stands before, in the same word or in the one before it."""
_ADDRESSES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # 221b Baker Street; Baker Street 221b
        rf"{_B}\d{{1,5}}[a-z]?,? (?:(?!{_NOT_A_NAME}{_E})[a-z0-9'.-]{{1,20}} ){{1,3}}{_ENGLISH}{_E}",
        rf"{_B}(?!{_NOT_A_NAME}{_E})[a-z'.-]{{2,40}} {_ENGLISH_FIRST} \d{{1,4}}[a-z]?{_E}",
        # 12 bis, rue de la Paix; Rue de la Loi, 16
        rf"{_B}\d{{1,4}}(?: ?[a-d]| ?bis| ?ter)?,? {_FRENCH}{_E}\.?(?: {_NAME_FR}){{0,4}}",
        rf"{_B}{_FRENCH_FIRST} (?:{_NAME_FR},? ){{1,5}}(?:n ?[o°]\.? ?)?\d{{1,4}}{_E}",
        rf"{_B}(?:p\.? ?o\.? ?box|postbus|postfach|boite postale)\.?:? \d{{1,6}}",
        # Postcodes: 1011AB; 1011 ab; SW1A 1AA; B-1000; 1000 Brussel; 90210-1234; NY 10001; 10115 Berlin
        rf"{_B}[1-9]\d{{3}}(?!{_any(_UNITS)}){_DUTCH_LETTERS}{_E}",
        rf"{_B}[1-9]\d{{3}} (?!{_any(_UNITS + _SHORT_WORDS)}{_E}){_DUTCH_LETTERS}{_E}",
        rf"{_B}{_any(_UK_AREAS)}\d[a-z0-9]? ?\d[abd-hjlnp-uw-z]{{2}}{_E}",
        rf"{_B}b-[1-9]\d{{3}}{_E}",
        rf"{_B}[1-9]\d{{3}},? {_any(_BELGIAN_TOWNS)}{_E}",
        rf"{_B}\d{{5}}-\d{{4}}{_E}",
        rf"{_B}{_any(_STATES.lower())}\.?,? \d{{5}}{_E}",
        rf"(?<![a-z0-9.,])(?:d-|f-|de-|fr-)?\d{{5}}(?<!000) (?!{_COUNTED}{_E})[a-z]{{3,25}}",
        rf"{_B}(?:d|f|de|fr)-\d{{5}}{_E}",
        rf"{_B}{_POSTCODE}[^a-z0-9]{{0,3}}(?:[a-z]{{1,10}}[^a-z0-9]{{1,3}}){{0,2}}\d{{4,5}}{_E}",
        # Coordinates: 52.3702, 4.8952; 52.37° N; 52°22'; geo:52.37; plus codes; what3words
        r"(?<![0-9.])\d{1,3}\.\d{4,15} ?°? ?[ns]?[,;/ ] ?[+-]?\d{1,3}\.\d{4,15}",
        r"(?<![0-9])\d{1,3}(?:\.\d{1,15})? ?° ?(?:\d{1,2}(?:\.\d{1,15})? ?'|[nsewo](?![a-z0-9]))",
        r"(?<![a-z0-9])(?:lat|lon|lng|long|latitude|longitude)[:= ]{1,3}-?\d{1,3}\.\d",
        r"(?<![a-z0-9])geo: ?-?\d{1,3}\.\d",
        rf"{_B}(?=\d{{0,8}}[a-z])[2-9cfghjmpqrvwx]{{4,8}}\+[2-9cfghjmpqrvwx]{{2,3}}{_E}",
        r"///[a-z]{2,30}\.[a-z]{2,30}\.[a-z]{2,30}",
    )
)
_CASED: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![A-Za-z0-9])[1-9]\d{{3}} ?(?!S[ADS]|{_any(_UNITS.upper())})[A-Z]{{2}}(?![A-Za-z0-9])",
        rf"(?<![A-Za-z0-9]){_any(_STATES + _STATES_WORDS)}\.?,? \d{{5}}(?![A-Za-z0-9])",
    )
)
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789'.-")
_LONGEST_NAME: Final = 64


def addresses(text: Folded) -> Iterator[Span]:
    """Where `text` says a place: streets with a number, postcodes, coordinates."""
    for pattern in _ADDRESSES:
        for found in pattern.finditer(text.low):
            yield Span(found.start(), found.end(), Trace.ADDRESS)
    for pattern in _CASED:
        for found in pattern.finditer(text.cased):
            yield Span(found.start(), found.end(), Trace.ADDRESS)
    for found in _GROWN.finditer(text.low):
        yield Span(_name_before(text.low, found.start()), found.end(), Trace.ADDRESS)


def _name_before(low: str, end: int) -> int:
    """Where the name of a street begins whose suffix begins at `end`; at most `_LONGEST_NAME` before."""
    least = max(0, end - _LONGEST_NAME)
    start = end
    if start > least and low[start - 1] == " ":
        start -= 1
    while start > least and low[start - 1] in _NAME:
        start -= 1
    return start + (low[start] == " ")


# -- what is written in one piece ------------------------------------------------------------------

_PIECE: Final = re.compile(r'[^ ,;()<>\[\]{}"`|]++')
_EDGES: Final = "*_~.?:'/=-…¿¡"
_SECRET: Final = re.compile(
    r"://[^/@]*+@"
    r"|[?&#](?:token|key|api_?key|secret|pass(?:word|wd)?|pwd|auth|access_?token|sig|signature|session|sid)="
)
_MATRIX: Final = re.compile(
    r"@[^@!#:]++:(?=[0-9.:-]*+[a-z])"
    r"|[#!][^@!#:]++:(?:localhost|[a-z0-9-]++\.[a-z0-9])"
    r"|(?<![a-z0-9_-])[$!][a-z0-9_-]{43}(?![a-z0-9_-])"
    r"|matrix:(?:u|r|roomid|user|room)/"
)
_MAIL: Final = re.compile(r"[^@/]@[^@]")
_MENTION: Final = re.compile(r"(?<![a-z0-9])@[a-z_]")
_MAIL_SPACED: Final = re.compile(
    r"(?<![a-z0-9._%+-])[a-z0-9._%+-]++(?:"
    r" ?@ ?[a-z0-9-]++\.[a-z0-9](?:\.?[a-z0-9-])*"
    r"| ?[\[({] ?(?:at|@|arobase|apenstaartje|klammeraffe) ?[\])}] ?[a-z0-9-]++"
    r"(?: ?(?:\.|[\[({] ?(?:dot|punt|punkt|point) ?[\])}]) ?[a-z0-9-]++)?"
    r"| at [a-z0-9-]++ dot [a-z]{2,20}"
    r")"
)


def _written(low: str) -> Iterator[Span]:
    for found in _PIECE.finditer(low):
        piece = found[0]
        trace = _trace_of(piece)
        if trace is None:
            continue
        left = len(piece) - len(piece.lstrip(_EDGES))
        right = len(piece) - len(piece.rstrip(_EDGES + "!"))
        yield Span(found.start() + left, found.end() - right, trace)
    for found in _MAIL_SPACED.finditer(low):
        yield Span(found.start(), found.end(), Trace.EMAIL)


_PERCENT: Final = (("%40", "@"), ("%3a", ":"), ("%23", "#"), ("%21", "!"), ("%24", "$"))
"""How the signs of an address stand in a URL (RFC 3986, 2.1), as in links of matrix.to."""


def _trace_of(piece: str) -> Trace | None:
    if "%" in piece:
        for coded, sign in _PERCENT:
            piece = piece.replace(coded, sign)
    if _SECRET.search(piece):
        return Trace.URL
    if _MATRIX.search(piece):
        return Trace.HANDLE
    if "@" not in piece:
        return None
    if not piece.lstrip(_EDGES).startswith("@") and _MAIL.search(piece):
        return Trace.EMAIL
    return Trace.HANDLE if _MENTION.search(piece) else None


# -- numbers ---------------------------------------------------------------------------------------

_IBAN_LENGTHS: Final = {
    15: "no",
    16: "be",
    18: "dk fi fo gl nl sd",
    19: "mk si",
    20: "at ba ee kz lt lu xk",
    21: "ch hr li lv",
    22: "bg bh cr de gb ge ie me rs va",
    23: "ae gi il iq om tl",
    24: "ad cz es md pk ro sa se sk tn vg",
    25: "ly pt st",
    26: "is tr",
    27: "bi dj fr gr it mc mr sm",
    28: "al az by cy do gt hu lb ni pl sv",
    29: "br eg ps qa ua",
    30: "jo kw mu yt",
    31: "mt sc",
    32: "lc",
    33: "ru",
}
_IBAN: Final = re.compile(
    _B
    + "(?:"
    + "|".join(
        rf"{_any(codes)}\d\d(?:[ .-]?[a-z0-9]){{{length - 4}}}" for length, codes in _IBAN_LENGTHS.items()
    )
    + ")"
    + _E
)
_IBAN_DIGITS: Final = 8
"""Digits of an account, at least: words that happen to begin like one have fewer."""


def _ibans(low: str) -> Iterator[Span]:
    for found in _IBAN.finditer(low):
        if sum(char.isdigit() for char in found[0]) >= _IBAN_DIGITS:
            yield Span(found.start(), found.end(), Trace.IBAN)


_RUN: Final = re.compile(r"(?:\+ ?)?\(?\d[0-9 ()./-]*+")
_DATE: Final = re.compile(
    r"(?<![0-9./-])(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d\d|(?:19|20)\d\d[./-]\d{1,2}[./-]\d{1,2})(?![./-]?\d)"
)
_TRUNK: Final = re.compile(r"(?<![0-9.])0(?!00)(?!\.\d)")
_PLAIN: Final = re.compile(r"\d{9}|(?<!\d)\d{3}[). /-]{1,2}\d{3}[. /-]\d{4}(?!\d)")
_E164_LEAST: Final = 7
_TRUNK_LEAST: Final = 8


def _phones(low: str) -> Iterator[Span]:
    for found in _RUN.finditer(low):
        run = found[0].rstrip(" ()./-")
        if any(_is_phone(part) for part in _DATE.split(run)):
            # "(020 1234567" of "(020 1234567)": the bracket belongs to the sentence.
            start = found.start() + (run.startswith("(") and ")" not in run)
            yield Span(start, found.start() + len(run), Trace.PHONE)


def _is_phone(part: str) -> bool:
    if part.startswith("+"):
        return _digits(part) >= _E164_LEAST
    trunk = _TRUNK.search(part)
    if trunk is not None and _digits(part[trunk.start() :]) >= _TRUNK_LEAST:
        return True
    return _PLAIN.search(part) is not None


def _digits(text: str) -> int:
    return sum(char.isdigit() for char in text)
