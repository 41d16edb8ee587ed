"""What Hearth says of votes: the ballot, how it ends, and how anybody can check it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bots.keywords import spoken
from bots.language import N_, _, day, ngettext, number
from bots.wording import quoted, sentences
from bots.wording_verdicts import ABOUT
from policies.grant import Direction, Status
from policies.vote import Choice, Mode, Reason, State, Tally, electorate_hash, required

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bots.base import Vote
    from policies.grant import Grant
    from policies.proposal import Proposal
    from policies.vote import Rule

CHOICES: Final[Mapping[Choice, str]] = {
    Choice.YES: N_("Yes"),
    Choice.NO: N_("No"),
    Choice.OBJECTION: N_("Objection (say why in the thread)"),
    Choice.ABSTAIN: N_("Abstain"),
}
HOW: Final[Mapping[Mode, str]] = {
    Mode.CONSENT: N_(
        "It takes at least {yes} yes of {members}, at least {ratio} yes for each vote against, and no open "
        "objection."
    ),
    Mode.MAJORITY: N_(
        "It takes at least {yes} yes of {members}, and at least {ratio} yes for each vote against."
    ),
}
LONGEST_VALUE: Final = 2_500
"""Characters of a value that a ballot shows."""
BECAUSE: Final[Mapping[str, str]] = {
    Reason.ENOUGH: N_("enough said yes"),
    Reason.TOO_FEW_YES: N_("too few said yes"),
    Reason.TOO_MANY_AGAINST: N_("too many were against it"),
    Reason.OBJECTION: N_("an objection stands"),
    "stopped": N_("somebody stopped me meanwhile"),
    "lost": N_("the votes could not be read"),
    "unsent": N_("the ballot never reached this room"),
    "invalid": N_("it no longer makes a policy that can be read"),
}


def answers() -> dict[str, str]:
    """The words of each choice, in the order shown."""
    return {str(choice): _(words) for choice, words in CHOICES.items()}


def what(proposal: Proposal) -> str:
    """What is proposed, in a sentence."""
    if not proposal.peer:
        changes = ", ".join(f"`{name}` = {_value(value)}" for name, value in sorted(proposal.changes.items()))
        return _("Change what I may do here: {changes}.").format(changes=changes)
    words = {
        Direction.ASK: _("Let me ask {peer} questions of this room about {classes}, for {days}."),
        Direction.ANSWER: _("Let me answer questions of {peer} about {classes}, for {days}."),
        Direction.BOTH: _("Let me and {peer} ask each other about {classes}, for {days}."),
    }[proposal.direction]
    days = ngettext("{count} day", "{count} days", proposal.days).format(count=number(proposal.days))
    classes = ", ".join(_(ABOUT[one]) for one in proposal.classes)
    limit = ""
    if proposal.per_day is not None:
        limit = _("At most {count} a day.").format(count=number(proposal.per_day))
    if proposal.notes:
        notes = ", ".join(f"`{one}`" for one in proposal.notes)
        limit = sentences(limit, _("Its questions are answered from the notes {notes}.").format(notes=notes))
    key = ""
    if proposal.key:
        said = _("Its key is {words} ({letters}); compare it with them, by voice for instance.")
        key = said.format(words=spoken(proposal.key), letters=quoted(proposal.key))
    return sentences(words.format(peer=quoted(proposal.peer), classes=classes, days=days), limit, key)


def _value(value: object) -> str:
    if value is None:
        return _("as whoever runs me set it")
    words = ", ".join(str(one) for one in value) or "-" if isinstance(value, list) else str(value)
    return quoted(words, LONGEST_VALUE)  # whoever votes on it must be able to read all of it


def ballot(proposal: Proposal, rule: Rule, members: int, due: int, before: str, trial_days: int) -> str:
    """The text of a poll: what is proposed, what it is now, what may leave, and how it is decided."""
    leaves = ""
    if proposal.peer and proposal.direction.covers(Direction.ASK):
        leaves = _("What would leave this room is the question, for instance: {example}.").format(
            example=quoted(_("When is the library open on Saturday?"))
        )
    trial = ""
    if proposal.peer and trial_days:
        trial = ngettext(
            "At first for {days} day on trial, with at most five questions a day.",
            "At first for {days} days on trial, with at most five questions a day.",
            trial_days,
        ).format(days=trial_days)
    voting = _("Vote until {day}. {how}").format(day=day(due), how=how(rule, members))
    return "\n\n".join(part for part in (what(proposal), before, sentences(leaves, trial), voting) if part)


def how(rule: Rule, members: int) -> str:
    """What it takes to pass."""
    return _(HOW[rule.mode]).format(yes=required(members), members=members, ratio=rule.ratio)


def opened(members: int, voters: frozenset[str], due: int) -> str:
    """The reply to a proposal."""
    words = ngettext(
        "The vote is open until {day}: {count} person may vote.",
        "The vote is open until {day}: {count} people may vote.",
        members,
    ).format(day=day(due), count=number(members))
    return sentences(
        words,
        _("Answer the poll below, or write `!vote yes` in its thread."),
        _("The list of voters has the hash `{hash}`.").format(hash=electorate_hash(voters)[:16]),
    )


def already_open() -> str:
    """There is a vote on the same matter."""
    return _("There is a vote about that already. Please wait for its end.")


def not_by_editing() -> str:
    """A proposal that is being voted on was edited."""
    return _(
        "People are voting on what you proposed, so editing it changes nothing. To propose something else, "
        "delete that message, which ends its vote, and write a new one."
    )


def moved(vote: Vote) -> str:
    """The room in which people voted was replaced by this one."""
    return _(
        "This room replaces another one, in which a vote was open. It has ended without a result: "
    ) + what(vote.proposal)


def too_many(most: int) -> str:
    """As many votes are open as people can follow."""
    words = _("There are {count} votes open here already. Please wait for the end of one.")
    return words.format(count=most)


def nobody_may_vote(hours: int) -> str:
    """An electorate of none."""
    return ngettext(
        "Nobody here may vote yet: one has to be a member for {hours} hour first.",
        "Nobody here may vote yet: one has to be a member for {hours} hours first.",
        hours,
    ).format(hours=hours)


def not_allowed_by_operator() -> str:
    """A proposal beyond the ceiling."""
    return _(
        "Whoever runs me does not allow that in any room (`[policy]` in the settings), so a vote is no use."
    )


def no_votes_here() -> str:
    """A platform without votes."""
    return _("There are no votes here; whoever runs me sets what I may do, in the settings.")


def result(vote: Vote, state: State, reason: str, count: Tally) -> str:
    """How a vote ended, with all that it takes to check it."""
    head = _("Passed: {reason}.") if state is State.PASSED else _("Not passed: {reason}.")
    return "\n\n".join(
        [
            sentences(head.format(reason=_(BECAUSE[reason])), what(vote.proposal)),
            numbers(count),
            sentences(
                how(vote.rule, count.members),
                _("Voters `{voters}`, ballots `{ballots}`; `!recount` counts them again.").format(
                    voters=electorate_hash(vote.voters)[:16], ballots=count.sha256[:16]
                ),
            ),
        ]
    )


def numbers(count: Tally) -> str:
    """A count in a line."""
    words = _(
        "{yes} yes, {no} no, {objections} with an objection, {abstained} abstained, {silent} said nothing."
    )
    return words.format(
        yes=count.yes,
        no=count.no,
        objections=count.objections,
        abstained=count.abstained,
        silent=count.silent,
    )


def extended(due: int) -> str:
    """An objection was open at the end."""
    words = _(
        "There is an objection, so the vote goes on until {day}, once. Please talk about it in the thread: "
        "whoever objected can change the vote."
    )
    return words.format(day=day(due))


def set_by_hand(needed: int, contents: str) -> str:
    """It passed, and we may not write it."""
    words = _(
        "I may not write this down here. Somebody with the power level {needed} can do so for all of you; it "
        "counts only if it says exactly this:"
    )
    return words.format(needed=needed) + f"\n\n```json\n{contents}\n```"


def vote_noted(choice: Choice | None) -> str:
    """The reply to `!vote`."""
    if choice is None:
        return _("That is no vote. Write `!vote yes`, `no`, `objection` or `abstain`.")
    words = _("Noted: {choice}. If you vote again, the last one counts.")
    return words.format(choice=_(CHOICES[choice]).partition(" (")[0])


def not_a_voter() -> str:
    """Somebody who was no member when the vote opened."""
    return _("Your vote cannot count: you were not a member (long enough) when this vote was opened.")


def no_vote_here() -> str:
    """`!vote` outside of a ballot's thread."""
    return _("Please write that in the thread of the vote that you mean, or answer its poll.")


def vote_is_over() -> str:
    """`!vote` after the end."""
    return _("This vote is over.")


def recounted(vote: Vote, count: Tally) -> str:
    """The same count again, from the room."""
    told = vote.tally
    if vote.is_open or told is None:
        return sentences(_("So far:"), numbers(count), _("Vote until {day}.").format(day=day(vote.due)))
    same = told.get("sha256") == count.sha256
    return sentences(
        numbers(count),
        _("The ballots have the hash `{hash}`.").format(hash=count.sha256),
        _("That is what was counted at the end.")
        if same
        else _("That is not what was counted at the end: votes were taken back since, or came late."),
    )


def nothing_to_recount() -> str:
    """`!recount` where there was no vote."""
    return _("There has been no vote here.")


def brake_usage() -> str:
    """`!brake` without a peer."""
    return _("Say whom: `!brake @bot:city.example`.")


def nothing_to_brake() -> str:
    """`!brake` of a peer with which nothing is agreed."""
    return _("Nothing is agreed or being voted on with that bot, so there is nothing to stop.")


def braked(peer: str) -> str:
    """It is stopped."""
    words = _("Stopped: nothing goes between this room and {peer} any more. A new vote can allow it again.")
    return words.format(peer=quoted(peer))


def braking(peer: str, have: int, need: int) -> str:
    """Some members want it stopped; not yet enough."""
    words = _(
        "Stopping {peer} takes {need} members, and so far there are {have}; a moderator can do it alone."
    )
    return words.format(have=have, need=need, peer=quoted(peer))


def ends_soon(grant: Grant, days: int) -> str:
    """What is agreed with a peer lapses unless the same is decided again, for so many `days`."""
    trial = grant.status is Status.TRIAL
    head = (
        _("The trial with {peer} ends on {day}.") if trial else _("What is agreed with {peer} ends on {day}.")
    )
    how = [f"!propose {grant.direction} @{grant.peer}", f"classes={','.join(sorted(grant.classes))}"]
    how += [f"until={days} days"]
    how += [] if grant.per_day is None else [f"quota={grant.per_day}"]
    how += [f"notes={','.join(sorted(grant.notes))}"] if grant.notes else []
    how += [f"key={grant.app_ed25519}"] if grant.app_ed25519 else []
    renew = _("To go on, put it to the vote again: {how}.").format(how=f"`{' '.join(how)}`")
    return sentences(head.format(peer=quoted(grant.peer), day=day(grant.until)), renew)
