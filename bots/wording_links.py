"""What Hearth says of links with other communities: asking their bots, what comes back, and how it is proven.

What the other side wrote (its name, words, sources, model, codes) stands in a code span or in a quote that
can be nothing but text (`bots.quoting`), and never without the address that is proven. How grants read stands
in `wording_policy`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from bots import wording_policy
from bots.base import FromPeer, Peer
from bots.commands import visible
from bots.language import N_, _, moment, ngettext, number
from bots.quoting import quoted as quote
from bots.wording import quoted, sentences
from bots.wording_verdicts import ABOUT
from policies.grant import Direction
from policies.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bots.asking import Chosen
    from bots.base import Crossed, Signature
    from bots.proposing import Mistake
    from policies.classes import Class
    from policies.grant import Grant

NAMED: Final = 8
"""Peers that a sentence names."""
MOST_PASSAGES: Final = 5
LONGEST_PASSAGE: Final = 600
"""Characters of a passage that are shown, marks and all."""
LONGEST_NAME: Final = 40


class Why(StrEnum):
    """Why a question to a peer has no answer."""

    REFUSED = "refused"
    """The peer refused."""
    LATE = "late"
    """No answer came until the time was over."""
    DROPPED = "dropped"
    """An answer came, and a rule of ours forbids it by now."""
    UNSENT = "unsent"
    """It could not be sent."""
    UNCLEAR = "unclear"
    """It was tried to send it, and may not be tried again."""


REASONS: Final[Mapping[str, str]] = {
    Code.NO_PEER: N_("nobody has allowed it"),
    Code.NO_GRANT: N_("there is no permission for it"),
    Code.NOT_YET: N_("the permission does not hold yet"),
    Code.ENDED: N_("the permission has ended"),
    Code.SUSPENDED: N_("the permission was stopped"),
    Code.OTHER_DIRECTION: N_("the permission is for the other direction only"),
    Code.CLASS_STAYS: N_("the permission is not for questions about this"),
    Code.UNCLASSIFIED: N_("nobody said what kind of question it is"),
    Code.PEER_QUOTA: N_("the questions of a day are used up"),
    Code.KEY_CHANGED: N_("a key is not the one that was agreed on"),
    Code.TOO_MANY_HOPS: N_("it may not be passed on so often"),
    Code.NOTES_STAY: N_("those notes are not shared"),
    Code.REMOTE_MODEL: N_("the model runs on another machine"),
    Code.UNSAFE_ROOM: N_("any member could write the rules of the room"),
    Code.UNREADABLE: N_("the rules or the permission cannot be read"),
    Code.QUIET: N_("it is quiet time"),
    Code.LOOP: N_("too many questions came at once"),
    Code.EXPIRED: N_("it took too long"),
    Code.STOPPED: N_("somebody stopped it"),
    Code.WITHDRAWN: N_("the question was taken back"),
    Code.FAILED: N_("something broke while it was answered"),
}
"""Why something did not pass between two communities, whichever of them decided so."""
CHOSEN: Final[Mapping[str, str]] = {
    "only": N_("it is the only one that may be asked this and can answer it"),
    "language": N_("it speaks the language of this room"),
    "success": N_("it answered more of what we asked lately than the others"),
    "wait": N_("it answered faster than the others"),
    "address": N_("the others are as good, and somebody has to be first"),
}
CANNOT_LINK: Final[Mapping[str, str]] = {
    "no_address": N_("Say whom, by the address of the bot: `!link @bot:city.example`."),
    "own": N_("That is me. Say the address of the other community's bot: `!link @bot:city.example`."),
    "already": N_("We are linked already. `!peers` shows what is agreed."),
    "not_allowed": N_("Only a moderator of this room can begin a link. Please ask one of them."),
    "not_here": N_("Links to other communities are there on Matrix only. Please ask me in a Matrix room."),
    "unreachable": N_(
        "I could not reach that bot: its server does not know it, or does not answer. Please compare the "
        "address with the other community, and try again later."
    ),
    "declined": N_("The other bot did not accept. Its community has to want the link, too: please ask them."),
    "off": N_("Links are switched off. Whoever runs me can switch them on in the settings."),
}
MISTAKES: Final[Mapping[str, str]] = {
    "no_question": N_("Say what to ask: `!ask city When does the pool open?`"),
    "unknown_ask_option": N_("I do not know {what}; there are `class` and `share`."),
    "unknown_share": N_("I cannot ask for {what}; there are `answers` and `information`."),
}
KINDS: Final[Mapping[str, str]] = {
    "ask": N_("{sender} asks {to} a question."),
    "progress": N_("{sender} is working on a question of {to}."),
    "answer": N_("{sender} answers a question of {to}."),
    "refuse": N_("{sender} does not answer a question of {to}."),
    "cancel": N_("{sender} no longer wants an answer from {to}."),
    "card": N_("{sender} tells {to} who it is and what it can do."),
    "grant": N_("{sender} tells {to} what its community allows with it."),
    "revoke": N_("{sender} tells {to} that all its permissions are over."),
}
"""What the kinds of envelopes are, for people who watch."""


# -- who and how much ------------------------------------------------------------------------------


def who(peer: Peer | FromPeer) -> str:
    """A peer by the name on its card, which anybody can claim, and by its address, which nobody can."""
    address = quoted(peer.address if isinstance(peer, Peer) else peer.peer, 120)
    return f"{quoted(peer.name, LONGEST_NAME)} ({address})" if visible(peer.name).strip() else address


def _listed(peers: Sequence[Peer]) -> str:
    named = ", ".join(who(peer) for peer in peers[:NAMED])
    more = len(peers) - NAMED
    # Translators: after a list of names.
    return named if more <= 0 else f"{named} " + _("and {count} more").format(count=number(more))


def _span(ms: int) -> str:
    """A time in ms, in the unit that people would use."""
    seconds = max(0, ms) // 1000
    if seconds < 100:  # noqa: PLR2004 - up to here people count seconds
        return ngettext("{count} second", "{count} seconds", seconds).format(count=seconds)
    minutes = round(seconds / 60)
    if minutes < 100:  # noqa: PLR2004 - and here minutes
        return ngettext("{count} minute", "{count} minutes", minutes).format(count=minutes)
    hours = round(minutes / 60)
    if hours < 48:  # noqa: PLR2004 - two days
        return ngettext("{count} hour", "{count} hours", hours).format(count=hours)
    days = round(hours / 24)
    return ngettext("{count} day", "{count} days", days).format(count=number(days))


# -- before it is sent -----------------------------------------------------------------------------


def offer(peer: Peer, text: str) -> str:
    """Our notes do not tell it, and a peer may be asked."""
    words = _("{peer} may know more about it. Shall I ask? It would read, and nothing else:")
    how = _("👍 sends it, 👎 does not.")
    return f"{words.format(peer=who(peer))}\n\n{quote(text)}\n\n{how}"


def preview(peer: Peer, text: str, cls: Class | None, removed: Mapping[str, int]) -> str:
    """What would leave, letter by letter, and how to say yes."""
    head = _("{peer} may be asked this. Nothing has left this room yet. It would read:").format(
        peer=who(peer)
    )
    about = "" if cls is None else _("It is a question about {classes}.").format(classes=_(ABOUT[cls]))
    counted = ", ".join(_removed(kind, count) for kind, count in sorted(removed.items()) if count > 0)
    out = _("Taken out: {what}.").format(what=counted) if counted else ""
    how = _(
        "Send it? React with \U0001f44d to send it or with \U0001f44e to cancel, or reply `yes`, `no`, or "
        "other words to send: `edit: When does the pool open?`"
    )
    # Whoever says yes must have been able to read all of it.
    parts = (head, quote(text, 4 * len(text) + 100), sentences(about, out), how)
    return "\n\n".join(part for part in parts if part)


def _removed(kind: str, count: int) -> str:
    words = {
        "name": ngettext("{count} name", "{count} names", count),
        "email": ngettext("{count} e-mail address", "{count} e-mail addresses", count),
        "phone": ngettext("{count} phone number", "{count} phone numbers", count),
        "iban": ngettext("{count} bank account", "{count} bank accounts", count),
        "handle": ngettext("{count} account name", "{count} account names", count),
        "address": ngettext("{count} street address", "{count} street addresses", count),
        "url": ngettext("{count} link with a secret in it", "{count} links with a secret in them", count),
        "withheld": _("all of it, because it would not come clean"),
    }.get(kind)
    words = words or ngettext("{count} other detail", "{count} other details", count)
    return words.format(count=number(count))


def cancelled() -> str:
    """The preview was answered with no."""
    return _("Not sent. Nothing has left this room.")


def not_sent() -> str:
    """The preview was not answered."""
    return _(
        "Nobody said yes in time, so I have not sent it. Nothing has left this room. "
        "If it still matters, ask again."
    )


def no_such_peer(name: str, known: Sequence[Peer]) -> str:
    """A name that no peer of this room has."""
    words = _("I know no other community's bot called {name} here.").format(name=quoted(name))
    if not known:
        return sentences(words, _nobody())
    return sentences(words, _("There are {names}.").format(names=_listed(known)))


def which_peer(candidates: Sequence[Peer]) -> str:
    """A name that several have."""
    words = _("Several are called so: {names}. Ask again with the address of the one that you mean.")
    return words.format(names=_listed(candidates))


def no_peer_allowed() -> str:
    """None of the peers may be asked this question, or can answer it."""
    return sentences(
        _("I have not asked anybody: no other community's bot may be asked this from here."), _nobody()
    )


def _nobody() -> str:
    return _(
        "`!peers` shows what is agreed with other communities; "
        "`!propose ask @bot:city.example` puts it to the vote."
    )


def ask_usage() -> str:
    """`!ask` alone."""
    return "\n".join(
        [
            _("`!ask` puts a question to the bot of another community, if both communities allow it:"),
            "- " + _("`!ask city When does the pool open?` asks the bot of the city"),
            "- " + _("`!ask When does the pool open?` asks whoever may be asked"),
            "- " + _("`!ask city notes: opening hours` shows what its notes say"),
            "- " + _("`!ask city class=local-knowledge When does the pool open?` says what it is about"),
            _("You see what would leave this room before it does. `!peers` shows whom I may ask."),
        ]
    )


def mistake(found: Mistake) -> str:
    """What of an `!ask` was not understood, with a guess."""
    if found.code not in MISTAKES:
        return wording_policy.mistake(found)
    words = _(MISTAKES[found.code]).format(what=quoted(found.what))
    return sentences(
        words, _("Did you mean {guess}?").format(guess=f"`{found.guess}`") if found.guess else ""
    )


def why_chosen(chosen: Chosen) -> str:
    """Why this one was asked, of those that could be."""
    words = ngettext(
        "I chose {peer}, of {count} that could be asked: {why}.",
        "I chose {peer}, out of {count} that could be asked: {why}.",
        chosen.among,
    )
    return words.format(peer=who(chosen.peer), count=number(chosen.among), why=_(CHOSEN[chosen.why]))


# -- after it was sent -----------------------------------------------------------------------------


def asked(peer: Peer, until: int) -> str:
    """It is sent; an answer is taken until `until` (ms)."""
    words = _("I have asked {peer}. I wait for its answer until {time}, and show it here.")
    return words.format(peer=who(peer), time=moment(until))


def waited(peer: Peer, seconds: float) -> str:
    """How long it has been waiting."""
    return _("Asked {peer}, {time} ago. No answer yet.").format(
        peer=who(peer), time=_span(int(seconds * 1000))
    )


def answer(found: FromPeer) -> str:
    """What a peer answered: whose words they are, the words, and what is known of them."""
    parts = [
        _("{peer} says this. It is not from our bot, and I have not checked it:").format(peer=who(found))
    ]
    if found.text.strip():
        parts.append(quote(found.text))
    parts += [
        f"{quoted(source)}\n{quote(words, LONGEST_PASSAGE)}"
        for words, source in found.passages[:MOST_PASSAGES]
    ]
    if len(found.passages) > MOST_PASSAGES:
        more = len(found.passages) - MOST_PASSAGES
        parts.append(
            ngettext("… and {count} more passage.", "… and {count} more passages.", more).format(count=more)
        )
    if not found.text.strip() and not found.passages:
        parts.append(_("(nothing: it found no words for it)"))
    return "\n\n".join([*parts, sentences(_written_by(found), _way(found), _times(found))])


def _written_by(found: FromPeer) -> str:
    if found.passages and not found.text.strip():
        return _("These are passages of its notes, with where they stand.")
    if not visible(found.model).strip():
        return _("It does not say which model wrote it.")
    return _("It says that the model {model} wrote it.").format(model=quoted(found.model))


def _way(found: FromPeer) -> str:
    if not found.through:
        return _("Nobody passed it on in between.")
    words = ngettext(
        "It was passed on {count} time, by {names}.",
        "It was passed on {count} times, by {names}.",
        len(found.through),
    )
    names = ", ".join(quoted(one, 120) for one in found.through[:NAMED])
    return words.format(count=len(found.through), names=names)


def _times(found: FromPeer) -> str:
    waited_for = _("It came after {time}.").format(time=_span(found.waited_ms))
    if found.age_ms < 60_000:  # noqa: PLR2004 - a minute; what is younger is new
        return waited_for
    return sentences(waited_for, _("It was {time} old by then.").format(time=_span(found.age_ms)))


def not_answered(
    peer: Peer | FromPeer, why: Why, *, code: str = "", rule: str = "", retry_after_ms: int | None = None
) -> str:
    """There is no answer: what happened to the question, why, and what can be done.

    `code` and `rule` are the peer's where it refused, and ours where what it answered was dropped.
    """
    name = who(peer)
    if why is Why.LATE:
        return _(
            "{peer} did not answer in time; it may be switched off or out of reach. What comes now is not "
            "shown any more. If it still matters, ask again later."
        ).format(peer=name)
    if why is Why.UNSENT:
        return _(
            "I could not send your question to {peer}, so it was not asked. Please try again later; "
            "whoever runs me can look with `hearth links list`."
        ).format(peer=name)
    if why is Why.UNCLEAR:
        return _(
            "I tried to send your question to {peer} and do not know whether it got there. Now it may not be "
            "sent any more, and no answer to it would be shown. `!peers` shows what is agreed now."
        ).format(peer=name)
    words = (
        _("{peer} did not answer your question: {reason}.")
        if why is Why.REFUSED
        else _("{peer} answered, and I do not show it: {reason}.")
    )
    said = words.format(peer=name, reason=_reason(code))
    ruled = _("The rule is {rule}.").format(rule=quoted(rule)) if rule else ""
    return sentences(said, ruled, _next(why, code, retry_after_ms))


def _reason(code: str) -> str:
    if code in REASONS:
        return _(REASONS[code])
    return _("the reason is {code}").format(code=quoted(code)) if code else _("it gives no reason")


def _next(why: Why, code: str, retry_after_ms: int | None) -> str:
    """What to do next."""
    if retry_after_ms is not None:
        return _("You can ask again in {time}.").format(time=_span(retry_after_ms))
    if code == Code.UNCLASSIFIED:
        return _("Say what it is about, as in `!ask city class=local-knowledge When does the pool open?`")
    if code in {Code.FAILED, Code.LOOP, Code.QUIET, Code.PEER_QUOTA, Code.EXPIRED}:
        return _("If it still matters, ask again later.")
    if why is Why.REFUSED:
        return _("That is decided over there; the people of that community can change it.")
    return _("`!peers` shows what is agreed now.")


def only_the_asker() -> str:
    """Somebody else said yes or no to a preview."""
    return _("Only whoever asked can send this, change it or cancel it.")


def send_or_not() -> str:
    """An answer to a preview that is neither."""
    return _("Shall I send it? 👍 sends it, 👎 does not, and `edit: other words` changes it.")


# -- links -----------------------------------------------------------------------------------------


def not_linked(peer: Peer) -> str:
    """A peer that we share no link room with."""
    words = _("There is no link with {peer} yet, so I cannot ask it. `!link @bot:city.example` begins one.")
    return words.format(peer=who(peer))


def linking(peer: Peer) -> str:
    """The other bot is invited."""
    return _(
        "I have invited {peer} to a room that our two bots share. When it comes, I show its key here, and it "
        "shows mine over there."
    ).format(peer=who(peer))


def offered(peer: Peer) -> str:
    """Somebody else's bot invites ours to a link."""
    return _(
        "The bot {peer} invites me to a link between its community and ours. I do nothing about it until a "
        "moderator of a room here says `!link @{address}`. Ask that community first whether it is theirs."
    ).format(peer=who(peer), address=peer.address)


def closed(found: FromPeer) -> str:
    """What becomes of the words that we wait, once we do not."""
    if found.end == "answered":
        return _("I asked {peer}; its answer came after {time}.").format(
            peer=who(found), time=_span(found.waited_ms)
        )
    return _("I asked {peer}; there is no answer to show.").format(peer=who(found))


def linked(peer: Peer) -> str:
    """The other bot is there."""
    return _(
        "The link with {peer} stands. Nothing is asked over it until both communities allow it: "
        "`!propose ask @bot:city.example` puts it to the vote here."
    ).format(peer=who(peer))


def shown_key(peer: Peer, words: str | Sequence[str]) -> str:
    """The key of a peer as words (`bots.keywords`), and how people make sure that it is that one's."""
    said = words if isinstance(words, str) else " ".join(words)
    return _(
        "The key of {peer} is: {words}. Please compare these words with somebody of that community in "
        "another way, by phone for instance. Their room shows them the key of your bot, too: compare both. "
        "If one differs, somebody may be in between: allow nothing, and tell whoever runs me."
    ).format(peer=who(peer), words=quoted(said.strip("` "), 200))


def agent(peer: Peer, words: str | Sequence[str]) -> str:
    """An A2A agent that is no Hearth, and the fingerprint of its card as words."""
    said = words if isinstance(words, str) else " ".join(words)
    return _(
        "{peer} can be asked now. It is an agent outside of Hearth, which whoever runs me has added: no "
        "community stands behind it as far as I know, and nothing that it says is signed. Its description of "
        "itself has this fingerprint: {words}. If that changes, I ask it nothing until somebody here decides "
        "anew."
    ).format(peer=who(peer), words=quoted(said.strip("` "), 200))


def key_changed(peer: Peer, words: str | Sequence[str]) -> str:
    """A peer shows another key than the one that was agreed on."""
    said = words if isinstance(words, str) else " ".join(words)
    return _(
        "{peer} shows ANOTHER KEY than the one that was agreed on. I ask it nothing and answer it nothing "
        "until somebody decides about the new key: {words}. Please ask that community in another way what "
        "happened."
    ).format(peer=who(peer), words=quoted(said.strip("` "), 200))


def allowed_there(peer: Peer, grant: Grant | None) -> str:
    """What the other community allows with us now (None: nothing), as its bot has signed it."""
    if grant is None:
        return _("The community of {peer} allows nothing with us any more.").format(peer=who(peer))
    ours = {Direction.ASK: Direction.ANSWER, Direction.ANSWER: Direction.ASK}
    seen_from_here = grant.model_copy(update={"direction": ours.get(grant.direction, grant.direction)})
    return _("The community of {peer} has decided about us: {state}.").format(
        peer=who(peer), state=wording_policy.grant_state(seen_from_here)
    )


def cannot_link(why: str) -> str:
    """Why there is no link; a `why` that is not in the table is told as it is."""
    if why in CANNOT_LINK:
        return _(CANNOT_LINK[why])
    return _("I could not begin the link: {why}. Please try again later.").format(why=quoted(why))


# -- proof -----------------------------------------------------------------------------------------


def proof(steps: Sequence[Signature]) -> str:
    """The answer to `!proof`: what was signed by whom, in order, and whether it still checks."""
    if not steps:
        return nothing_to_prove()
    good, bad = _("the signature is right"), _("THE SIGNATURE IS WRONG")
    lines = [
        "- "
        + _("{time}: {what} {check}; hash {digest}").format(
            time=moment(one.at),
            what=watch(one.kind, quoted(one.sender, 120), quoted(one.to, 120)),
            check=good if one.holds else bad,
            digest=quoted(one.digest[:16]),
        )
        for one in steps
    ]
    if all(one.holds for one in steps) and len(steps) == 1:
        end = _("The question is signed with our key. There is no signed answer to it.")
    elif all(one.holds for one in steps):
        end = _("Every step is signed with the key that was agreed on.")
    else:
        end = _("Do not rely on it: what is shown here is not what was signed. Please tell whoever runs me.")
    return "\n".join([_("This was signed between the two bots:"), *lines, "", end])


def nothing_to_prove() -> str:
    """`!proof` as a reply to something else."""
    return _(
        "There is nothing to prove about that. Write `!proof` as a reply to an answer that came from another "
        "community's bot."
    )


def crossings(found: Sequence[Crossed]) -> str:
    """The answer to `!audit`: what came and went lately, newest first; never its words."""
    if not found:
        return _("Nothing has come from other communities or gone to them yet.")
    lines = []
    for one in found:
        words = _("in from {peer}") if one.way == "in" else _("out to {peer}")
        way = words.format(peer=quoted(one.peer, 120))
        verdict = _("allowed") if one.allowed else _("refused ({code})").format(code=quoted(one.code))
        line = _("{time}: {way}, {kind}, {verdict} by {rule}").format(
            time=moment(one.at),
            way=way,
            kind=quoted(one.kind or "?"),
            verdict=verdict,
            rule=quoted(one.rule),
        )
        lines.append(f"- {line}")
    end = _("`hearth links verify` proves that nothing was taken out of this record.")
    return "\n".join([_("What crossed lately, newest first:"), *lines, "", end])


def watch(kind: str, sender: str, to: str, cls: Class | None = None) -> str:
    """What passes in a link room, in a line of plain text for people who sit there; never its words."""
    words = _(KINDS[kind]) if kind in KINDS else _("{sender} sends something to {to}.")
    if kind == "ask" and cls is not None:
        words = _("{sender} asks {to} a question ({about}).")
    about = "" if cls is None else _(ABOUT[cls])
    return words.format(sender=_plain(sender), to=_plain(to), about=about)


def _plain(name: str) -> str:
    line = " ".join(visible(name[:1_000]).split()).replace("@", "")
    return line if len(line) <= 130 else line[:129] + "…"  # noqa: PLR2004 - an address and its marks
