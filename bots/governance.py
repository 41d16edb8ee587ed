"""What a room decides: the commands that show it, change it, and put it to the vote. Never asks a model.

Promises that whoever may not change something is told so and what to do, that in a room which votes nothing
is widened by a command, and that a proposal names beforehand what it would change.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bots import wording, wording_policy, wording_votes
from bots.base import Opening, Reply, Wait
from bots.commands import CommandName, says_yes
from bots.conversation import OpenPoll, PutState, TurnKind
from bots.proposing import Mistake, change, proposal
from policies.classes import Class
from policies.decide import MODERATOR_POWER, Deed, Request
from policies.document import (
    STATE_TYPE,
    UNSET,
    Unreadable,
    base_of,
    effective,
    inert,
    limits_of,
    read,
    written,
)
from policies.grant import GRANT_TYPE, Grant, read_grant
from policies.presets import NAMES, text, values
from policies.proposal import Proposal
from policies.room import Mode
from policies.screens import screen
from policies.vote import Choice, Member, electorate, tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bots.base import Tools, Vote
    from bots.commands import Command
    from bots.conversation import Turn
    from policies.room import RoomPolicy
    from policies.vote import Ballot, Tally

HOUR_MS: Final = 3_600_000
CONFIRM_MS: Final = HOUR_MS
MONTH_MS: Final = 30 * 24 * HOUR_MS
HISTORY: Final = 10
MOST_VOTES: Final = 10
"""Open at once in one room; more are noise."""
PRESET: Final = "preset"
"""In the state of a turn that waits: the preset that was offered."""
SETUP: Final = "setup"
"""The same: power levels were offered."""
_QUESTION: Final = re.compile(r'["\u201c\u201d\u201e](.*)["\u201c\u201d]', re.DOTALL)
_OPTION: Final = re.compile(r"\b(peer|class)=(\S+)")
SPOKEN: Final = {
    "yes": Choice.YES, "y": Choice.YES, "ja": Choice.YES, "j": Choice.YES,
    "no": Choice.NO, "n": Choice.NO, "nee": Choice.NO,
    "objection": Choice.OBJECTION, "object": Choice.OBJECTION, "oppose": Choice.OBJECTION,
    "abstain": Choice.ABSTAIN, "bezwaar": Choice.OBJECTION, "onthouding": Choice.ABSTAIN,
}  # fmt: skip
NAMES_OF: Final = frozenset(
    {
        CommandName.POLICY,
        CommandName.PROPOSE,
        CommandName.VOTE,
        CommandName.RECOUNT,
        CommandName.BRAKE,
        CommandName.PEERS,
    }
)
"""The commands that are answered here."""


def asks_why(command: Command) -> bool:
    """Whether it is `!policy why` alone: as a reply to a message, it asks about that one."""
    return command.name is CommandName.POLICY and command.argument.strip().casefold() == "why"


async def reply(command: Command, turn: Turn, tools: Tools) -> Reply:
    """The answer to one of `NAMES_OF`, with what it sets or opens."""
    match command.name:
        case CommandName.PROPOSE:
            return await _propose(command.argument, turn, tools)
        case CommandName.VOTE:
            return await _vote(command.argument, turn, tools)
        case CommandName.RECOUNT:
            return await _recount(turn, tools)
        case CommandName.PEERS:
            return Reply(wording_policy.peers(turn.place.grants))
        case CommandName.BRAKE:  # a control, but where it is no more than a word
            return Reply(wording_votes.brake_usage())
    return await _policy(command.argument, turn, tools)


async def _policy(argument: str, turn: Turn, tools: Tools) -> Reply:  # noqa: PLR0911 - a table
    word, _, rest = argument.partition(" ")
    match word.casefold():
        case "":
            return Reply(wording_policy.card(tools.ceiling, turn.place))
        case "set":
            found = change(rest)
            return _wrong(found) if isinstance(found, Mistake) else await _set(Proposal(found), turn, tools)
        case "preset":
            return _offer(rest.casefold(), turn, tools)
        case "why" if rest.strip():
            return await _why(rest, turn, tools)
        case "rehearse":
            return await _rehearse(rest, turn, tools)
        case "history":
            return Reply(wording_policy.history(await tools.documents(HISTORY)))
        case "undo":
            return await _undo(turn, tools)
        case "allow":
            found_ = proposal(rest)
            return _wrong(found_) if isinstance(found_, Mistake) else await _allow(found_, turn, tools)
        case "setup":
            return _setup(turn, tools)
    return Reply(wording_policy.usage())


def _wrong(found: Mistake) -> Reply:
    return Reply(wording_policy.mistake(found), features={"mistake": found.code})


def _own_power(turn: Turn, tools: Tools) -> int:
    return next((one.power for one in tools.people if one.id == turn.place.account), 0)


# -- set, preset, undo -----------------------------------------------------------------------------


async def _set(wanted: Proposal, turn: Turn, tools: Tools) -> Reply:
    new = wanted.policy(base_of(turn.place.base))
    if isinstance(new, Unreadable):
        return _wrong(Mistake("bad_value", new.where, new.problem))
    return await _put(new, turn, tools)


async def _put(new: RoomPolicy, turn: Turn, tools: Tools, grant: Grant | None = None) -> Reply:
    """Set `new`, and a `grant` with it, if this person may, and as far as no vote is needed for it."""
    if not tools.takes_votes:
        new = new.model_copy(update={"mode": Mode.ADMIN})
    refusal = await _may_not_set(turn, tools)
    if refusal is not None:
        return refusal
    base = base_of(turn.place.base)
    fields = inert(new, effective(base, new, voted=False))
    if fields or (grant is not None and base.mode is not Mode.ADMIN):
        return Reply(wording_policy.needs_vote(fields or ("grant",)))
    sets = []
    if isinstance(limits_of(turn.place.policy), Unreadable) or new != base:
        sets.append(PutState(STATE_TYPE, "", written(new, turn.asker.id)))
    if grant is not None:
        sets.append(PutState(GRANT_TYPE, grant.peer, grant.model_dump_json()))
    if not sets:
        return Reply(wording_policy.same())
    own = _own_power(turn, tools)
    if tools.takes_votes and own < tools.policy_power:
        return Reply(wording_policy.cannot_write(own, tools.policy_power, sets))
    if grant is not None:
        words = wording_policy.allowed(turn.asker.shown, grant)
    else:
        told = json.dumps({"was": written(base), "now": written(new)})
        after = replace(turn.place, policy=None, written=None)
        words = wording_policy.changed(turn.asker.shown, told, tools.ceiling, after)
    return Reply(words, state=tuple(sets))


async def _may_not_set(turn: Turn, tools: Tools) -> Reply | None:
    """Why this person may not change what the place allows; it takes a moderator at least."""
    needed = max(tools.policy_power, MODERATOR_POWER)
    verdict = await tools.may(Request(Deed.SET_POLICY, turn.asker.id, policy_power=needed))
    if verdict.allowed:
        return None
    return Reply(wording.refusal(verdict) if tools.takes_votes else wording_votes.no_votes_here())


async def _allow(wanted: Proposal, turn: Turn, tools: Tools) -> Reply:
    """Allow something with a peer without a vote, where the admins decide."""
    if not wanted.peer:
        return _wrong(Mistake("no_peer", ""))
    wanted = await _with_key(wanted, tools)
    base = base_of(turn.place.base)
    new = wanted.policy(base)
    if isinstance(new, Unreadable):
        return _wrong(Mistake("bad_value", new.where, new.problem))
    renews = wanted.renews(_known(wanted.peer, turn), tools.now)
    return await _put(new, turn, tools, wanted.grant(base, tools.now, turn.asker.id, renews=renews))


async def _with_key(wanted: Proposal, tools: Tools) -> Proposal:
    """A proposal about a peer with the key that it shows, where none is named: people see it as words."""
    if not wanted.peer or wanted.key:
        return wanted
    shown = next((one.key for one in await tools.peers() if one.address == wanted.peer), "")
    return replace(wanted, key=shown)


def _known(peer: str, turn: Turn) -> Grant | Unreadable | None:
    standing = dict(turn.place.grants).get(peer)
    return None if standing is None else read_grant(standing.text, peer)


def _setup(turn: Turn, tools: Tools) -> Reply:
    """Which power levels the room's rules need; where we may set what is missing, a yes does it."""
    own = _own_power(turn, tools)
    offered = tools.ruled_by_members and own >= max(tools.levels_power, MODERATOR_POWER)
    words = wording_policy.setup(own, tools.policy_power, open_to_all=tools.ruled_by_members, offered=offered)
    return Reply(words, wait=Wait(tools.now + CONFIRM_MS, {SETUP: True}) if offered else None)


async def _set_levels(turn: Turn, tools: Tools) -> Reply:
    refusal = await _may_not_set(turn, tools)
    if refusal is not None:
        return refusal
    levels = {"events": dict.fromkeys((STATE_TYPE, GRANT_TYPE), MODERATOR_POWER)}
    put = PutState("m.room.power_levels", "", json.dumps(levels), merge=True)
    return Reply(wording_policy.levels_set(MODERATOR_POWER), state=(put,))


def _offer(name: str, turn: Turn, tools: Tools) -> Reply:
    if name not in NAMES:
        return Reply(wording_policy.no_preset(NAMES))
    new = preset(name)
    lines = wording_policy.would_change(tools.ceiling, base_of(turn.place.base), new)
    words = wording_policy.preset_offer(name, _first_words(text(name)), lines)
    wait = Wait(tools.now + CONFIRM_MS, {PRESET: name}) if lines else None
    return Reply(words, wait=wait)


def preset(name: str) -> RoomPolicy:
    """The starting values `name`."""
    found = read(json.dumps({"v": 1, **values(name)}))
    return UNSET if isinstance(found, Unreadable) else found


def _first_words(page: str) -> str:
    """The first paragraph of a preset's page."""
    lines: list[str] = []
    for line in page.splitlines():
        if not line.startswith("#") or (lines and not line.strip("# ")):
            break
        lines.append(line.strip("# "))
    return " ".join(lines)


async def confirmed(turn: Turn, tools: Tools) -> Reply:
    """The answer to what we offered."""
    name = turn.waited.get(PRESET)
    if not says_yes(turn.message.text):
        return Reply(wording_policy.not_done())
    if turn.waited.get(SETUP) is True:
        return await _set_levels(turn, tools)
    if not isinstance(name, str) or name not in NAMES:
        return Reply(wording_policy.not_done())
    return await _put(preset(name), turn, tools)


async def _undo(turn: Turn, tools: Tools) -> Reply:
    """Back to the policy before the one that stands; before the first one there was none."""
    stood = [read(one.text) for peer, one in await tools.documents(100) if not peer]
    if not stood:
        return Reply(wording_policy.same())
    before = (one for one in stood[1:] if one != stood[0] and not isinstance(one, Unreadable))
    return await _put(next(before, UNSET), turn, tools)


# -- why, rehearse ---------------------------------------------------------------------------------


async def _why(argument: str, turn: Turn, tools: Tools) -> Reply:
    """A dry run: what would be decided about a question."""
    options = dict(_OPTION.findall(argument))
    quoted = _QUESTION.search(argument)
    question = quoted[1] if quoted else _OPTION.sub("", argument).strip()
    peer = options.get("peer", "").removeprefix("@")
    cls = next((one for one in Class if one == options.get("class", Class.GENERAL)), None)
    grant = next((read_grant(one.text, name) for name, one in turn.place.grants if name == peer), None)
    verdict = await tools.may(
        Request(
            Deed.ASK_PEER if peer else Deed.ANSWER,
            turn.asker.id,
            policy_power=tools.policy_power,
            peer=peer,
            peer_key=grant.app_ed25519 if isinstance(grant, Grant) else "",
            cls=cls,
            screened=screen(question),
        )
    )
    return Reply(wording_policy.dry_run(verdict.allowed, wording.refusal(verdict), verdict.rule))


async def _rehearse(argument: str, turn: Turn, tools: Tools) -> Reply:
    """Last month's questions against a proposed policy: counted, by their features, never by their words."""
    found = proposal(argument)
    if isinstance(found, Mistake):
        return _wrong(found)
    policy = found.policy(base_of(turn.place.base))
    if isinstance(policy, Unreadable):
        return _wrong(Mistake("bad_value", policy.where, policy.problem))
    asked = await tools.asked(tools.now - MONTH_MS)
    return Reply(wording_policy.rehearsed(*rehearse(tools.ceiling.meet(policy), asked)))


def rehearse(policy: RoomPolicy, asked: Sequence[Mapping[str, object]]) -> tuple[int, int, int]:
    """How many questions there were (by their features), how many would leave, how many of those had names.

    Each counts as general, raised by what its words suggested.
    """
    left = [
        one
        for one in asked
        if policy.ask_peers and {Class.GENERAL, *_classes(one.get("screened"))} <= policy.classes_out
    ]
    return len(asked), len(left), sum(1 for one in left if one.get("names"))


def _classes(told: object) -> list[Class]:
    return [one for one in Class if one in str(told or "").split(",")]


# -- votes -----------------------------------------------------------------------------------------


async def _propose(argument: str, turn: Turn, tools: Tools) -> Reply:  # noqa: PLR0911 - one no each
    if not tools.takes_votes:
        return Reply(wording_votes.no_votes_here())
    found = proposal(argument)
    if isinstance(found, Mistake):
        return _wrong(found)
    found = await _with_key(found, tools)
    base = base_of(turn.place.base)
    new = found.policy(base)
    if isinstance(new, Unreadable):
        return _wrong(Mistake("bad_value", new.where, new.problem))
    if not found.peer and new == base:
        return Reply(wording_policy.same())
    before = wording_policy.would_change(tools.ceiling, base, new)
    if tools.ceiling.meet(new) == tools.ceiling.meet(base) and not found.peer:
        return Reply(wording_votes.not_allowed_by_operator())
    running = [one for one in await tools.votes(1_000) if one.is_open]
    if turn.kind is TurnKind.REVISION and any(one.message == turn.message.id for one in running):
        return Reply(wording_votes.not_by_editing())
    if any(one.proposal.matter == found.matter for one in running):
        return Reply(wording_votes.already_open())
    if len(running) >= MOST_VOTES:
        return Reply(wording_votes.too_many(MOST_VOTES))
    return _open(found, base, before, turn, tools)


def _open(found: Proposal, base: RoomPolicy, before: str, turn: Turn, tools: Tools) -> Reply:
    own = turn.place.account
    members = [Member(one.id, one.since, one.is_bot or one.id == own) for one in tools.people]
    voters = electorate(members, opened_at=tools.now, min_age_ms=base.min_member_hours * HOUR_MS)
    if not voters:
        return Reply(wording_votes.nobody_may_vote(base.min_member_hours))
    due = tools.now + base.voting_hours * HOUR_MS
    rule = found.rule(base, len(voters))
    trial = 0 if found.renews(_known(found.peer, turn), tools.now) else base.trial_days
    words = wording_votes.ballot(found, rule, len(voters), due, before, trial)
    poll = OpenPoll(words, wording_votes.answers())
    opening = Opening(found, rule, tuple(sorted(voters)), due, poll)
    return Reply(wording_votes.opened(len(voters), voters, due), vote=opening)


async def _vote(argument: str, turn: Turn, tools: Tools) -> Reply:
    # Nowhere but in the thread does a server list it among the votes.
    votes = await tools.votes(100) if turn.message.thread is not None else ()
    vote = next((one for one in votes if one.poll == turn.message.thread), None)
    if vote is None:
        return Reply(wording_votes.no_vote_here())
    if not vote.is_open and turn.message.sent_at > (vote.closed_at or 0):
        return Reply(wording_votes.vote_is_over())
    if turn.asker.id not in vote.voters:
        return Reply(wording_votes.not_a_voter())
    return Reply(wording_votes.vote_noted(spoken(argument)), notice=True)


def spoken(argument: str) -> Choice | None:
    """What was voted in words; None: nothing that is a choice."""
    word = re.match(r"\w+", argument.strip())
    return None if word is None else SPOKEN.get(word[0].casefold())


async def _of_thread(turn: Turn, tools: Tools) -> Vote | None:
    pointed = {turn.message.thread, turn.message.reply_to} - {None}
    return next((one for one in await tools.votes(100) if one.poll in pointed), None)


async def _recount(turn: Turn, tools: Tools) -> Reply:
    vote = await _of_thread(turn, tools) or next(iter(await tools.votes(1)), None)
    if vote is None or vote.poll is None:
        return Reply(wording_votes.nothing_to_recount())
    ballots = await tools.ballots(vote)
    return Reply(wording_votes.recounted(vote, count(vote, ballots)))


def count(vote: Vote, ballots: tuple[Ballot, ...]) -> Tally:
    """The tally of a vote. An answer names its ballot, so none is older, whatever a server's clock says.

    One that ended early is counted until then.
    """
    ended = None if vote.is_open or vote.tally is None else vote.tally.get("until")
    closes_at = min(vote.due, ended) if isinstance(ended, int) else vote.due
    return tally(ballots, vote.voters, opened_at=0, closes_at=closes_at)
