"""A question that can be understood without the conversation in which it was asked. Pure.

Owns when a question has to be rewritten, what the local model is told, and whether what it wrote may leave in
place of the question. Promises that nothing the model made up is accepted: every word of it stands in the
question or in the conversation, but for the small words of English and Dutch. In other languages more is
refused than need be, and then the question goes as it was asked. Never raises on any text.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from bots.commands import visible
from bots.prompt import FENCE_SENTENCE, neutral

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_CONTEXT: Final = 8
"""Messages of the conversation that the model is shown, the last ones."""
LONGEST_CONTEXT: Final = 500
"""Characters of each."""
MORE: Final = 80
"""A rewritten question has at most twice the characters of the question, and so many more."""
INSTRUCTION: Final = (
    "Rewrite the last question so that somebody who has not read the conversation understands it. "
    "Put what is meant in the place of words such as it, they, that or there. Keep every other word and the "
    "language. Add nothing, and do not answer it. Write the question alone, on one line."
)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ASKING: Final = _set(
    "when what where who whom whose why which how whether if is are was were am do does did can could will "
    "would shall should may might must has have had about for to wanneer wat waar wie waarom hoe welk welke "
    "hoeveel hoelaat waarheen waarvoor waarmee of zijn wordt worden kan kun kunnen kunt mag mogen moet "
    "moeten heeft hebben heb zal zullen zou zouden gaat gaan over naar om is was waren"
)
"""With these a question begins, direct or not."""
REFERRING: Final = _set(
    "it its he him his she her hers they them their theirs that this these those there then also too same "
    "such here het dat die dit deze er daar hij hem zij ze zijn haar hun hen dan toen ook daarvan daarvoor "
    "daarmee daarna daarop erover ervan ervoor ermee erna erop erin hetzelfde dezelfde zo'n zoiets"
)
"""What they mean may have been said before."""
FUNCTION: Final = (
    ASKING
    | REFERRING
    | _set(
        "a an the and or but so as at by from in into of off on onto out over per since till until up with "
        "within without be been being i me my mine we us our ours you your yours get gets got please tell me "
        "some any more most much many one ones thing things just than de een en maar dus als aan bij door in "
        "met op per sinds tot uit van voor zonder ben bent geweest ik mij mijn me wij we ons onze je jij jou "
        "jouw u uw te er nog al wel eens even graag vertel iets ding dingen"
    )
)
"""Words that carry nothing by themselves: they may come and go."""
_NEGATIONS: Final = _set(
    "no not never none nothing nobody neither nor cannot geen niet nooit niets niemand noch"
)
_BEING: Final = _set(
    "is are was were be been isn't aren't will might zijn was waren komt komen wordt bestaat"
)
"""Beside "there" and "er" they say that something exists, and refer to nothing."""
_WEATHER: Final = re.compile(
    r"(?:rain|snow|freez|hail|thunder|storm|get dark|regen|sneeuw|vries|vriez|hagel|onweer|laat\b|late\b)"
)
_AFTER_PRONOUN: Final = _set(
    "open dicht ook nog weer dan daar er nu vandaag morgen gisteren straks is was wordt kan kon heeft had "
    "voor op in aan af uit toe mee met zelf niet wel al kost begint eigenlijk precies vanavond zaterdag "
    "zondag maandag dinsdag woensdag donderdag vrijdag gaat duurt ligt staat om van te"
)
"""After one of these "het" was a pronoun; before any other word it is an article."""
_ELLIPSIS: Final = re.compile(r"(?:and|but|or|so|what about|how about|en|maar|of|dus)\b", re.IGNORECASE)
_WORD: Final = re.compile(r"\w+(?:['\u2019-]\w+)*")
_MARKS: Final = frozenset('`*_<>[]{}#|~\\@=!"')
_URL: Final = re.compile(
    r"(?<!\w)\w+://\S+|\bwww\.\S+"
    # A host, from its first label on: looking again from each of the others would be quadratic.
    r"|(?<![\w-])(?<!\w\.)[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}\b(?:/\S*)?"
)
_SUFFIXES: Final = ("'s", "s", "es", "ed", "ing", "en", "e", "n", "t")
_LEAST_STEM: Final = 3
_NONE: Final[frozenset[str]] = frozenset()


def needs_rewriting(question: str, context_texts: Sequence[str]) -> bool:
    """Whether `question` seems to refer to what was said before it; never where nothing was.

    It would rather say so once too often: what the model makes of it is looked at, and shown.
    """
    if not any(text.strip() for text in context_texts):
        return False
    if _ELLIPSIS.match(question.strip()):
        return True
    words = _words(question)
    return any(
        _refers(word, words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else "")
        for at, word in enumerate(words)
    )


def _refers(word: str, before: str, after: str) -> bool:
    if word not in REFERRING:
        return False
    match word:
        case "zijn":  # mostly "are"
            return False
        case "there" | "er":
            return before not in _BEING and after not in _BEING
        case "it":
            return not _WEATHER.match(after)
        case "het":
            return (not after or after in _AFTER_PRONOUN) and not _WEATHER.match(before)
    return True


def rewriting_prompt(question: str, context: Sequence[str]) -> list[dict[str, str]]:
    """What the local model is given: the end of the conversation as data, then the question."""
    said = [neutral(text[:LONGEST_CONTEXT]).strip().replace("\n", "\n  ") for text in context[-MOST_CONTEXT:]]
    lines = "".join(f"{line}\n" for line in said if line)
    fence = f"<room>\n{lines}</room>\n" if lines else ""
    return [
        {"role": "system", "content": f"{INSTRUCTION} {FENCE_SENTENCE}"},
        {"role": "user", "content": fence + neutral(question).strip()},
    ]


def stands_alone(question: str, rewritten: str, context: Sequence[str]) -> bool:
    """Whether `rewritten` may be asked in place of `question`: the same, said with words of `context`."""
    asked, said = question.strip(), rewritten.strip()
    if not said or len(said) > 2 * len(asked) + MORE:
        return False
    if len(said.splitlines()) > 1 or "\t" in said or visible(said) != said:
        return False
    if Counter(char for char in said if char in _MARKS) - Counter(asked):
        return False
    return _links(said) <= _links(asked) and _still_asks(asked, said) and _same_words(asked, said, context)


def _links(text: str) -> frozenset[str]:
    return frozenset(found.rstrip("?.,!;:)") for found in _URL.findall(text))


def _still_asks(asked: str, said: str) -> bool:
    if asked.endswith("?"):
        return said.endswith("?")
    return not _begins_a_question(asked) or said.endswith("?") or _begins_a_question(said)


def _begins_a_question(text: str) -> bool:
    words = _words(text[:100])
    return bool(words) and words[0] in ASKING


def _same_words(asked: str, said: str, context: Sequence[str]) -> bool:
    """Whether what carries something is of the question, or of the conversation in its place."""
    of_asked, of_said = _words(asked), _words(said)
    if Counter(filter(_negates, of_asked)) != Counter(filter(_negates, of_said)):
        return False
    before = _stems_of(word for text in context[-MOST_CONTEXT:] for word in _words(text))
    known, left = _stems_of(of_asked), _stems_of(of_said)
    wanted = {word for word in of_asked if _carries(word)}
    missing = {word for word in wanted if not _stems(word) & left}
    new = {word for word in of_said if _carries(word) and not _stems(word) & known}
    if any(not _stems(word) & before for word in new) or any(map(_has_digit, missing)):
        return False
    return len(missing) <= len(new) and (len(missing) <= 1 or 2 * len(missing) <= len(wanted))


def _words(text: str) -> list[str]:
    return [found.casefold().replace("\u2019", "'") for found in _WORD.findall(text)]


def _carries(word: str) -> bool:
    return word not in FUNCTION and not _negates(word)


def _negates(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't")


def _has_digit(word: str) -> bool:
    return any(char.isdigit() for char in word)


def _stems(word: str) -> frozenset[str]:
    """The word, and what is left of it without an ending: `opens` and `open` share one."""
    if _has_digit(word):
        return frozenset({word})
    ends = {word.removesuffix(end) for end in _SUFFIXES} | {re.sub("ies$", "y", word)}
    return frozenset({word, *(stem for stem in ends if len(stem) >= _LEAST_STEM)})


def _stems_of(words: Iterable[str]) -> frozenset[str]:
    return _NONE.union(*map(_stems, set(words)))
