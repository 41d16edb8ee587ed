"""What Hearth says of the policy of a place: a card that a parent can read, and what changes in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from bots.keywords import spoken
from bots.language import N_, _, day, ngettext, number
from bots.wording import quoted, sentences
from bots.wording_verdicts import ABOUT
from policies.classes import Class
from policies.document import UNSET, Unreadable, held, inert, limits_of, read
from policies.grant import Grant, Status, read_grant
from policies.room import ANYONE, Answers, Mode, Preview, RoomPolicy, Trust, Voice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bots.conversation import Place, PutState
    from bots.proposing import Mistake
    from policies.document import Standing

NAMED: Final = 5
"""Addresses that a card names; of more it says how many."""
HEARS: Final[Mapping[Voice, str]] = {
    Voice.OFF: N_("nothing"),
    Voice.ASKED: N_("only what I am asked to hear"),
    Voice.NAMED: N_("voice messages; I answer those that begin with my name"),
    Voice.ALL: N_("every voice message, and I write it down"),
}
TAKES: Final[Mapping[Answers, str]] = {
    Answers.DIRECT: N_("only what is written in a room of two"),
    Answers.MENTION: N_("what mentions me or replies to me"),
    Answers.ALL: N_("every message"),
}
VOUCHES: Final[Mapping[Trust, str]] = {
    Trust.UNSIGNED: N_("nothing"),
    Trust.SIGNED: N_("the keys of their own account, which sign their device"),
    Trust.VERIFIED: N_("those keys, compared with me by an admin of mine"),
}
SHOWN: Final[Mapping[Preview, str]] = {
    Preview.ALWAYS: N_("whoever asks sees it first, and agrees"),
    Preview.FIRST_TIME: N_("whoever asks sees it first, once for each community"),
    Preview.NEVER: N_("it is sent without being shown first"),
}
DECIDES: Final[Mapping[Mode, str]] = {
    Mode.CONSENT: N_("all of you, by a vote that an open objection blocks (a majority where you are many)"),
    Mode.MAJORITY: N_("all of you, by a vote"),
    Mode.ADMIN: N_("whoever may change the settings of this room"),
}
MISTAKES: Final[Mapping[str, str]] = {
    "no_key": N_("Say what to change, as in `voice asked`."),
    "unknown_key": N_("There is no {what} in a policy."),
    "no_value": N_("Say what {what} should be; `none` leaves it to whoever runs me."),
    "bad_value": N_("{what} cannot be that: {guess}."),
    "no_peer": N_("{what} is no bot of another community; I know them as `@bot:city.example`."),
    "unknown_option": N_("I do not know {what}; there are `classes`, `until`, `quota` and `key`."),
    "unknown_class": N_("{what} is no class of questions; there are {classes}."),
    "bad_until": N_("I do not understand {what}; write for instance `until=3 months`."),
    "bad_quota": N_("{what} is no number of questions a day."),
    "bad_notes": N_("{what} is no name of notes; it has small letters, digits and `-`."),
    "bad_key": N_("That is no key; a key has 43 letters, digits and signs."),
}


# -- the card --------------------------------------------------------------------------------------


def card(ceiling: RoomPolicy, place: Place) -> str:
    """What the bot may do in a place: what holds in the end, and what of it was decided by whom."""
    standing = place.policy
    if standing is None:
        return "\n\n".join(
            [limits(held(ceiling, None)), _("Whoever runs me set this. This room has no rules of its own.")]
        )
    by = _("{who} on {day}").format(who=quoted(standing.set_by), day=day(standing.set_at))
    room = limits_of(standing)
    if isinstance(room, Unreadable):
        broken = _("I answer nothing in this room: I cannot read its policy, {problem}.")
        return "\n\n".join([broken.format(problem=quoted(str(room))), _("It was set by {by}.").format(by=by)])
    said = [limits(ceiling.meet(room))]
    said += [_("For other communities:") + "\n" + peers(place.grants)] if place.grants else []
    whose = _("Whoever runs me sets the limits; this room's own rules were set by {by}.")
    said.append(whose.format(by=by))
    waiting = _waiting(place, room)
    return "\n\n".join([*said, *([waiting] if waiting else [])])


def _waiting(place: Place, room: RoomPolicy) -> str:
    """What stands in the document and is not in force, because nobody voted on it."""
    wish = limits_of(place.written)
    fields = () if isinstance(wish, Unreadable) else inert(wish, room)
    if place.written is None or not fields:
        return ""
    words = _("What {who} wrote about {fields} has no effect: this room decides that by vote (`!propose`).")
    return words.format(who=quoted(place.written.set_by), fields=_fields(fields))


def limits(policy: RoomPolicy) -> str:
    """What a policy allows, one line for each thing."""
    return "\n".join([_("What I may do here:"), *(f"- {what}: {words}" for what, words in _lines(policy))])


def changed(by: str, change: str, ceiling: RoomPolicy, place: Place) -> str:
    """What is different after a change of the room's policy; `change` is JSON, `{"was": ..., "now": ...}`."""
    who = quoted(by)
    try:
        told = json.loads(change)
    except ValueError:  # its words are erased meanwhile
        return _("{who} changed this room's policy; `!policy` shows it.").format(who=who)
    was, now = (UNSET if one is None else read(one) for one in (told["was"], told["now"]))
    if isinstance(now, Unreadable):
        broken = _(
            "{who} changed this room's policy, and I cannot read it: {problem}. "
            "So I answer nothing here until it is mended."
        )
        return broken.format(who=who, problem=quoted(str(now)))
    in_force = limits_of(place.policy)
    waits = "" if isinstance(in_force, Unreadable) else _waiting(place, in_force)
    if waits and not isinstance(in_force, Unreadable):
        now = in_force
    before = () if isinstance(was, Unreadable) else _lines(ceiling.meet(was))
    told = difference(who, before, _lines(ceiling.meet(now)))
    return f"{told}\n\n{waits}" if waits else told


def difference(who: str, before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> str:
    """Who changed which lines, and what they were."""
    if not before:
        news = [f"- {what}: {words}" for what, words in after]
    else:
        old = dict(before)
        was = _("was: {words}")
        news = [
            f"- {what}: {words} ({was.format(words=old[what])})"
            for what, words in after
            if words != old.get(what)
        ]
    if not news:
        return _("{who} changed this room's policy; what I may do here stays the same.").format(who=who)
    return "\n".join([_("{who} changed what I may do in this room:").format(who=who), *news])


def would_change(ceiling: RoomPolicy, was: RoomPolicy, now: RoomPolicy) -> str:
    """The lines that a change makes different; empty where there are none."""
    old = dict(_lines(ceiling.meet(was)))
    words = _("{words} (now: {old})")
    return "\n".join(
        f"- {what}: {words.format(words=said, old=old[what])}"
        for what, said in _lines(ceiling.meet(now))
        if said != old[what]
    )


def changed_grant(by: str, change: str, place: Place) -> str:
    """Somebody wrote a grant: what holds now, and whether it has to be voted on first."""
    who = quoted(by)
    try:
        told = json.loads(change)
        peer = next(
            str(json.loads(one)["peer"])
            for one in (told["now"], told["was"])
            if one and "peer" in json.loads(one)
        )
    except (ValueError, StopIteration, TypeError, KeyError):
        return _("{who} changed what is agreed with another community; `!peers` shows it.").format(who=who)
    in_force = dict(place.grants).get(peer)
    if in_force is not None and in_force.text == told["now"]:
        words = _("{who} changed what is agreed with {peer}: {state}.")
        return words.format(who=who, peer=quoted(peer), state=grant_state(read_grant(in_force.text, peer)))
    words = _(
        "{who} wrote a permission for {peer}. It has no effect: this room decides that by vote (`!propose`)."
    )
    return words.format(who=who, peer=quoted(peer))


# -- lines -----------------------------------------------------------------------------------------


def _lines(policy: RoomPolicy) -> tuple[tuple[str, str], ...]:
    """Each thing that a policy says, in words: every field stands in one of them."""
    return (
        (_("Whom I answer"), _people(policy)),
        (_("What must vouch for who asks"), _(VOUCHES[policy.asker_trust])),
        (_("What I answer"), _(TAKES[policy.answers])),
        (_("How often"), _often(policy)),
        (_("When I am quiet"), ", ".join(f"`{one}`" for one in sorted(policy.quiet)) or _("never")),
        (_("What I listen to"), _(HEARS[policy.voice])),
        (_("What I remember of what was said"), _memory(policy)),
        (_("Which notes I read"), _notes(policy)),
        (_("Where my model runs"), _("anywhere") if policy.remote_model else _("only on my own machine")),
        (_("How long my answers are"), _words(policy.answer_words)),
        (
            _("My language here"),
            quoted(policy.language) if policy.language else _("as whoever runs me set it"),
        ),
        (_("How I am to be"), quoted(policy.persona) if policy.persona else _("as whoever runs me set it")),
        (_("What leaves this room for other communities"), _leaves(policy)),
        (_("What other communities may ask me"), _comes(policy)),
        (_("Who decides this"), _(DECIDES[policy.mode])),
        (_("How you vote"), _voting(policy)),
    )


def _voting(policy: RoomPolicy) -> str:
    hours, since = policy.voting_hours, policy.min_member_hours
    trial, term = policy.trial_days, policy.term_days
    parts = [ngettext("for {count} hour", "for {count} hours", hours).format(count=number(hours))]
    if since:
        words = ngettext("members of at least {count} hour", "members of at least {count} hours", since)
        parts.append(words.format(count=number(since)))
    if trial:
        words = ngettext(
            "another community is on trial for {count} day",
            "another community is on trial for {count} days",
            trial,
        )
        parts.append(words.format(count=trial))
    words = ngettext("a permission for at most {count} day", "a permission for at most {count} days", term)
    return ", ".join([*parts, words.format(count=term)])


def _notes(policy: RoomPolicy) -> str:
    if ANYONE in policy.notes:
        return _("all that there are")
    return ", ".join(f"`{one}`" for one in sorted(policy.notes)) or _("none")


def _people(policy: RoomPolicy) -> str:
    if not policy.askers:
        return _("nobody")
    names = _("everybody here")
    if ANYONE not in policy.askers:
        shown = [quoted(one) for one in sorted(policy.askers)[:NAMED]]
        more = len(policy.askers) - len(shown)
        names = ", ".join(shown)
        if more:
            # Translators: after a list of names.
            names += " " + _("and {count} more").format(count=number(more))
    if policy.min_power > 0:
        return _("{names}, from power level {power} on").format(names=names, power=policy.min_power)
    return names


def _often(policy: RoomPolicy) -> str:
    limits = []
    for limit, words in (
        (policy.per_person_day, _("{answers} a day for each person")),
        (policy.per_place_day, _("{answers} a day for all together")),
    ):
        if limit is not None:
            answers = ngettext("{count} answer", "{count} answers", limit).format(count=number(limit))
            limits.append(words.format(answers=answers))
    return ", ".join(limits) or _("as often as you like")


def _memory(policy: RoomPolicy) -> str:
    parts = []
    if policy.memory_messages is not None:
        count = policy.memory_messages
        parts.append(
            ngettext("{count} earlier message", "{count} earlier messages", count).format(count=number(count))
            if count
            else _("nothing")
        )
    if policy.memory_hours is not None:
        hours = policy.memory_hours
        words = ngettext("up to {count} hour old", "up to {count} hours old", hours)
        parts.append(words.format(count=number(hours)) if hours else _("nothing"))
    return ", ".join(parts) or _("as whoever runs me set it")


def _words(limit: int | None) -> str:
    if limit is None:
        return _("as whoever runs me set it")
    return _("at most {count} words").format(count=number(limit))


def _leaves(policy: RoomPolicy) -> str:
    if not policy.ask_peers or not policy.classes_out:
        return _("nothing")
    parts = [
        _("questions about {classes}, to {peers}").format(
            classes=_classes(policy.classes_out), peers=_peers(policy.ask_peers)
        ),
        _(SHOWN[policy.preview]),
        _("with a summary of the talk") if policy.with_summary else _("without what was said before"),
    ]
    if policy.voice_may_leave:
        parts.append(_("also what was spoken"))
    for limit, words in (
        (policy.peer_per_day, _("{count} a day to each")),
        (policy.peer_per_person_day, _("{count} a day from each person")),
    ):
        if limit is not None:
            parts.append(words.format(count=number(limit)))
    if policy.max_hops:
        words = ngettext("passed on at most {count} time", "passed on at most {count} times", policy.max_hops)
        parts.append(words.format(count=policy.max_hops))
    return "; ".join(parts)


def _comes(policy: RoomPolicy) -> str:
    if not policy.answer_peers or not policy.classes_in:
        return _("nothing")
    words = _("questions about {classes}, from {peers}")
    return words.format(classes=_classes(policy.classes_in), peers=_peers(policy.answer_peers))


def _classes(classes: frozenset[Class]) -> str:
    return ", ".join(_(ABOUT[one]) for one in Class if one in classes)


def _peers(peers: frozenset[str]) -> str:
    if ANYONE in peers:
        return _("every community that was agreed on")
    return ", ".join(quoted(one) for one in sorted(peers))


def _fields(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# -- grants ----------------------------------------------------------------------------------------


def peers(grants: Sequence[tuple[str, Standing]]) -> str:
    """What is agreed with other communities, one line each."""
    if not grants:
        return _("Nothing is agreed with other communities.")
    return "\n".join(
        f"- {quoted(peer)}: {_peer(read_grant(standing.text, peer))}" for peer, standing in grants
    )


def _peer(grant: Grant | Unreadable) -> str:
    """A grant, and the words of the key that it pins."""
    state = grant_state(grant)
    if isinstance(grant, Unreadable) or not grant.app_ed25519:
        return state
    return _("{state}; its key is {words}").format(state=state, words=spoken(grant.app_ed25519))


def grant_state(grant: Grant | Unreadable) -> str:
    """A grant in one line."""
    if isinstance(grant, Unreadable):
        return _("nothing, because it cannot be read: {problem}").format(problem=quoted(str(grant)))
    if grant.status in (Status.SUSPENDED, Status.REVOKED):
        return _("stopped")
    way = {
        "ask": _("we may ask them"),
        "answer": _("they may ask us"),
        "both": _("we may ask each other"),
    }[grant.direction]
    parts = [way, _("about {classes}").format(classes=_classes(grant.classes) or _("nothing"))]
    if grant.notes:
        notes = ", ".join(f"`{one}`" for one in sorted(grant.notes))
        parts.append(_("from the notes {notes}").format(notes=notes))
    if grant.per_day is not None:
        parts.append(_("{count} a day").format(count=number(grant.per_day)))
    ends = _("on trial until {day}") if grant.status is Status.TRIAL else _("until {day}")
    parts.append(ends.format(day=day(grant.until)))
    if not grant.app_ed25519:
        parts.append(_("no use yet, because no key is agreed on"))
    return ", ".join(parts)


# -- commands --------------------------------------------------------------------------------------


def mistake(found: Mistake) -> str:
    """What was not understood, with a guess."""
    guess = found.guess
    words = _(MISTAKES[found.code]).format(
        what=quoted(found.what), guess=guess, classes=", ".join(f"`{one}`" for one in Class)
    )
    asks = found.code in ("unknown_key", "unknown_class") and guess
    return sentences(words, _("Did you mean {guess}?").format(guess=f"`{guess}`") if asks else "")


def needs_vote(fields: Sequence[str]) -> str:
    """`!policy set` in a room that votes, of something that allows more."""
    words = _(
        "This would allow more ({fields}), and this room decides that by vote. Put it to the vote: {how}."
    )
    return words.format(fields=_fields(fields), how="`!propose`")


def cannot_write(own: int, needed: int, sets: Sequence[PutState]) -> str:
    """We may not set the room's state ourselves."""
    words = _(
        "I may not write the rules of this room: that takes the power level {needed}, and mine is {own}. "
        "Raise mine, or set it yourself, as state events of this type, state key and content:"
    )
    shown = "\n".join(f"{one.type} {one.state_key}\n{one.content}" for one in sets)
    return words.format(needed=needed, own=own) + f"\n\n```\n{shown}\n```"


def allowed(by: str, grant: Grant) -> str:
    """Somebody who may has allowed something with a peer, without a vote."""
    words = _("{by} decided this, without a vote: {what}. `!brake` stops it.")
    return words.format(by=quoted(by), what=f"{quoted(grant.peer)}, {grant_state(grant)}")


def same() -> str:
    """A change that changes nothing."""
    return _("That is how it is already.")


def preset_offer(name: str, page: str, lines: str) -> str:
    """What a preset would change; it waits for a yes."""
    head = _("The starting values {name}: {page}").format(name=quoted(name), page=page)
    if not lines:
        return sentences(head, _("That is how it is already."))
    return "\n\n".join([head, lines, _("Answer `yes` or \U0001f44d to set it.")])


def no_preset(names: Sequence[str]) -> str:
    """A preset that there is not."""
    return _("There are the starting values {names}: `!policy preset family`, for instance.").format(
        names=", ".join(f"`{name}`" for name in names)
    )


def not_done() -> str:
    """A question of ours was not answered with yes."""
    return _("Nothing was changed.")


def history(entries: Sequence[tuple[str, Standing]]) -> str:
    """Who wrote which document, newest first."""
    if not entries:
        return _("Nobody has changed anything here.")
    lines = []
    for index, (peer, standing) in enumerate(entries):
        who = _("{day}, {who}").format(day=day(standing.set_at), who=quoted(standing.set_by))
        if peer:
            lines.append(f"- {who}: {quoted(peer)}, {grant_state(read_grant(standing.text, peer))}")
            continue
        now = read(standing.text)
        before = next((one for other, one in entries[index + 1 :] if not other), None)
        was = UNSET if before is None else read(before.text)
        if isinstance(now, Unreadable) or isinstance(was, Unreadable):
            what = quoted(str(now)) if isinstance(now, Unreadable) else _("mended")
        else:
            names = [n for n in RoomPolicy.model_fields if getattr(now, n) != getattr(was, n)]
            what = _fields(names) or _("nothing different")
        lines.append(f"- {who}: {what}")
    return "\n".join(lines)


def levels_set(power: int) -> str:
    """We have raised what writing the room's rules takes."""
    return _("Writing this room's rules now takes the power level {power}.").format(power=power)


def setup(own: int, needed: int, *, open_to_all: bool = False, offered: bool = False) -> str:
    """What power levels the room's rules need; `open_to_all`: a member's will do for one of them.

    `offered`: we can raise what is too low.
    """
    lines = [
        _("Writing this room's rules takes the power level {needed}; mine is {own}.").format(
            needed=needed, own=own
        )
    ]
    if open_to_all:
        lines.append(
            _(
                "Any member could write one of them, so I let nothing leave this room. Set the level for "
                "`community.hearth.policy` and `community.hearth.grant` to 50 or more."
            )
        )
    if offered:
        lines.append(_("Answer `yes` or \U0001f44d, and I do so."))
    if own < needed:
        lines.append(
            _(
                "I cannot write down what you decide: give me the power level {needed}, or set it by hand "
                "each time."
            ).format(needed=needed)
        )
    if own >= needed and not open_to_all:
        lines.append(_("That is all I need."))
    return "\n".join(lines)


def rehearsed(total: int, left: int, names: int) -> str:
    """How many of the questions of the last month would have left the room."""
    words = ngettext(
        "Of {total} question of the last 30 days, {left} would have been allowed to leave this room; "
        "{names} with the name of somebody here in it.",
        "Of {total} questions of the last 30 days, {left} would have been allowed to leave this room; "
        "{names} with the name of somebody here in it.",
        total,
    )
    counted = words.format(total=number(total), left=number(left), names=number(names))
    return sentences(counted, _("I keep no words for this, only what kind of thing each question was about."))


def dry_run(allowed: bool, words: str, rule: str) -> str:  # noqa: FBT001 - one of two words
    """What would be decided."""
    head = _("That would be allowed.") if allowed else _("That would be refused.")
    return sentences(head, words if not allowed else "", _("The rule is `{rule}`.").format(rule=rule))


def usage() -> str:
    """What can follow `!policy`."""
    return "\n".join(
        [
            _("`!policy` shows what I may do here. Then there are:"),
            "- " + _("`!policy set voice asked` changes one thing"),
            "- " + _("`!policy preset family` takes starting values"),
            "- " + _('`!policy why "When does the pool open?" peer=@bot:city.example` tries a question'),
            "- " + _("`!policy rehearse ask @bot:city.example` tries last month's questions"),
            "- "
            + _("`!policy allow ask @bot:city.example classes=general until=3 months` needs no vote")
            + " "
            + _("(where the moderators decide)"),
            "- " + _("`!policy history` and `!policy undo`"),
            "- " + _("`!policy setup` says what power levels this needs, and sets them"),
        ]
    )
