"""Counts votes, ends them, reminds of what lapses. One per account; time and ballots ring it.

    a ballot arrives --T1--> control --> read all ballots from the room --> tally --> judge
    a vote is due ---------------------^                                                |
                                         open: wait | extended, passed, failed: one transaction

The truth of a vote is in the room: what arrives here only says "look". So votes of a downtime count, and a
count is the same however often it is made. Its end is told by two clocks, ours and the server's: one that
jumps ahead ends nothing. Promises that a vote ends once, with its result said, its poll
closed and its documents set from the same transaction, and that a room which cannot be read is asked again.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

import structlog

from bots import governance, wording, wording_votes
from bots.commands import parse
from bots.conversation import ClosePoll, Keyed, PutState, Role, Say
from bots.language import speaking
from bridge.journal.votes import Braking, Closing
from bridge.platform import Broken, Misconfigured, Refused, Retryable
from bridge.schedule import Doorbell
from policies.decide import MODERATOR_POWER, Deed, Request, decide
from policies.document import STATE_TYPE, Unreadable, base_of, held, limits_of, read, written
from policies.grant import GRANT_TYPE, Grant, Status, read_grant
from policies.proposal import LONGEST_DAYS
from policies.vote import State, Tally, brake, judge

if TYPE_CHECKING:
    from bots.base import Vote
    from bridge.delivery import Delivery
    from bridge.journal import Control
    from bridge.platform import PlaceFacts, Platform, StoredAction
    from bridge.tools import House
    from policies.room import RoomPolicy
    from policies.vote import Judgement

log = structlog.get_logger(__name__)

PAUSE_MS: Final = 2_000
"""Between two counts of a vote that goes on."""
AGAIN_MS: Final = 30_000
"""After a room could not be read."""
LOOK_AGAIN_MS: Final = 3_600_000
"""The longest wait while our clock is wrong: somebody may set it right."""
REMIND_MS: Final = 14 * 86_400_000
"""How long before the end of what is agreed with a peer the room is reminded; at most its last quarter."""
UNSENT_MS: Final = 600_000
"""A ballot that never reached its room by so long after its end is not waited for."""


class Votes:
    """The votes of one account."""

    def __init__(self, house: House, platform: Platform, delivery: Delivery, *, own_name: str) -> None:
        self._house = house
        self._journal = house.journal
        self._clock = house.clock
        self._platform = platform
        self._delivery = delivery
        self._own_name = own_name
        self._bell = Doorbell(house.clock)
        self._counted: dict[int, int] = {}
        """When each vote was counted last (ms)."""

    def ring(self) -> None:
        """Somebody voted, or a vote was opened."""
        self._bell.ring()

    async def watch(self) -> None:
        """Count and end votes for ever."""
        while True:
            try:
                until = await self.look()
            except sqlite3.Error as error:
                log.error("votes_unreadable", error=str(error), remedy="free space on the disk")
                until = self._clock.now() + AGAIN_MS
            await self._bell.wait(until)

    async def look(self) -> int | None:
        """Count what has to be counted now; when to look again (ms), None: when somebody votes."""
        account = self._platform.account
        again: list[int] = []
        votes, seen = await self._journal.votes_to_count(account, self._clock.now())
        for vote in votes:
            now, last = self._clock.now(), self._counted.get(vote.id, 0)
            if now < min(vote.due, last + PAUSE_MS):
                again.append(last + PAUSE_MS)  # so that a thousand people who vote are few counts
                continue
            self._counted[vote.id] = now
            try:
                await self._count(vote, seen)
            except (Retryable, Misconfigured) as error:
                log.warning("vote_not_counted", vote=vote.id, place=vote.place, error=str(error))
                after = getattr(error, "after", None)
                again.append(self._clock.now() + (AGAIN_MS if after is None else int(after * 1000)))
            except (Refused, Broken) as error:
                log.error("vote_lost", vote=vote.id, place=vote.place, error=str(error))
                await self._end(vote, _nothing(vote), State.FAILED, "lost", seen)
            except sqlite3.Error:
                raise
            except Exception:
                # A bug about one vote must cost neither the others nor the bridge.
                log.exception("vote_bug", vote=vote.id, place=vote.place)
                again.append(self._clock.now() + AGAIN_MS)
        again += await self._remind()
        due = await self._journal.next_vote(account)
        if due is not None and due > self._clock.now():
            again.append(due)
        return min(again, default=None)

    async def _count(self, vote: Vote, seen: int) -> None:
        now = self._clock.now()
        facts = await self._journal.place(self._platform.account, vote.place)
        if facts is not None and facts.moved_to:
            there = await self._journal.place(self._platform.account, facts.moved_to)
            if there is not None and there.joined:
                await self._leave_behind(vote, facts.moved_to, seen)
                return
        if vote.poll is None:
            if now > vote.due + UNSENT_MS:
                await self._end(vote, _nothing(vote), State.FAILED, "unsent", seen)
                return
            raise Retryable("the ballot is not in the room yet")
        count = governance.count(vote, await self._platform.ballots(vote.place, vote.poll))
        agreed = min(now, self._platform.server_time or now)
        judgement = judge(vote.rule, count, now=agreed, due=vote.due, extended=vote.extended)
        if judgement.state in (State.PASSED, State.FAILED):
            await self._end(vote, count, judgement.state, judgement.reason, seen)
        elif judgement.state is State.EXTENDED and not vote.extended:
            await self._extend(vote, count, judgement, seen)
        else:
            await self._journal.counted(self._platform.account, vote, seen, now)
            if vote.due <= now:
                ahead = "our clock is ahead of the server's, by which the vote is not over"
                raise Retryable(ahead, min(vote.due - agreed, LOOK_AGAIN_MS) / 1000)

    # -- the end -----------------------------------------------------------------------------------

    async def _extend(self, vote: Vote, count: Tally, judgement: Judgement, seen: int) -> None:
        with speaking(await self._language(vote.place)):
            words = wording_votes.extended(judgement.due)
        closing = Closing(str(State.EXTENDED), str(judgement.reason), _told(count), judgement.due)
        said = Keyed(Say(words, thread=vote.poll, notice=True), Role.ANSWER)
        await self._close(vote, closing, (said,), seen)

    async def _leave_behind(self, vote: Vote, place: str, seen: int) -> None:
        """The room was replaced. Who may vote in the new one, and about which rules, is for a new vote."""
        with speaking(await self._language(vote.place)):
            words = wording_votes.moved(vote)
        closing = Closing(str(State.FAILED), "moved", _told(_nothing(vote)), vote.due, told_in=place)
        await self._close(vote, closing, (Keyed(Say(words), Role.ANSWER),), seen)

    async def _end(self, vote: Vote, count: Tally, state: State, reason: str, seen: int) -> None:
        facts = await self._journal.place(self._platform.account, vote.place)
        base = await self._base(vote, facts)
        policy: str | None = None
        grant: Grant | None = None
        if state is State.PASSED:
            new = vote.proposal.policy(base)
            if _was_stopped_since(vote, facts):
                state, reason = State.FAILED, "stopped"
            elif isinstance(new, Unreadable):
                state, reason = State.FAILED, "invalid"
            else:
                policy = written(new, vote.poll or "")
                grant = self._grant(vote, base, facts)
        with speaking(await self._language(vote.place)):
            words = wording_votes.result(vote, state, reason, count)
            sets = self._sets(policy, grant, limits_of(None if facts is None else facts.place.policy))
            if sets and not self._may_write(facts):
                needed = 0 if facts is None else facts.policy_power
                contents = "\n".join(f"{one.type} {one.state_key}\n{one.content}" for one in sets)
                words, sets = f"{words}\n\n{wording_votes.set_by_hand(needed, contents)}", ()
        actions = [
            Keyed(ClosePoll(vote.poll_key, words.partition("\n")[0]), Role.BALLOT, 1),
            Keyed(Say(words, reply_to=vote.poll), Role.ANSWER),
            *(Keyed(one, Role.STATE, index) for index, one in enumerate(sets)),
        ]
        if facts is None or not facts.joined:
            actions = []
        text = None if grant is None else grant.model_dump_json()
        applies = bool(sets) and bool(actions)
        place = None if facts is None else facts.place
        told = _told(count) | {"until": self._ended_at(count)}
        closing = Closing(str(state), reason, told, vote.due, policy, text, applies, seen=place)
        await self._close(vote, closing, tuple(actions), seen)

    async def _base(self, vote: Vote, facts: PlaceFacts | None) -> RoomPolicy:
        """What the result changes: what was decided last, also where that is still to be written by hand."""
        text = None if facts is None else facts.place.base
        if facts is not None and not self._may_write(facts):
            text = await self._journal.unwritten(self._platform.account, vote.place) or text
        return base_of(text)

    def _ended_at(self, count: Tally) -> int:
        """Until when votes counted (ms): no later than now, by the clock that is behind."""
        now = self._clock.now()
        return max(count.latest + 1, min(now, self._platform.server_time or now))

    def _grant(self, vote: Vote, base: RoomPolicy, facts: PlaceFacts | None) -> Grant | None:
        standing = None if facts is None else dict(facts.place.grants).get(vote.proposal.peer)
        known = None if standing is None else read_grant(standing.text, vote.proposal.peer)
        now = self._clock.now()
        renews = vote.proposal.renews(known, now)
        return vote.proposal.grant(base, now, vote.poll or "", renews=renews)

    def _sets(
        self, policy: str | None, grant: Grant | None, stands: RoomPolicy | Unreadable
    ) -> tuple[PutState, ...]:
        """What the room's state becomes, where `stands` is in force.

        The policy comes first: a grant alone allows nothing.
        """
        sets = []
        if policy is not None and read(policy) != stands:
            sets.append(PutState(STATE_TYPE, "", policy))
        if grant is not None:
            sets.append(PutState(GRANT_TYPE, grant.peer, grant.model_dump_json()))
        return tuple(sets)

    def _may_write(self, facts: PlaceFacts | None) -> bool:
        # Where the platform keeps no state, the journal does, and that is ours.
        ours = not self._platform.takes_votes
        return facts is not None and (ours or self._own_power(facts) >= facts.policy_power)

    def _own_power(self, facts: PlaceFacts) -> int:
        return next((one.power for one in facts.members if one.id == self._platform.account), 0)

    async def _close(self, vote: Vote, closing: Closing, actions: tuple[Keyed, ...], seen: int) -> None:
        account, now = self._platform.account, self._clock.now()
        device = self._platform.device
        if await self._journal.close_vote(account, vote, closing, actions, seen, device, now):
            log.info(
                "vote", vote=vote.id, place=vote.place, matter=vote.proposal.matter, state=closing.state,
                reason=closing.reason, **{name: n for name, n in closing.tally.items() if isinstance(n, int)},
            )  # fmt: skip
            self._delivery.ring()
        else:
            self._bell.ring()  # the place has changed meanwhile: it is worked out anew

    async def _language(self, place: str) -> str:
        facts = await self._journal.place(self._platform.account, place)
        policy = held(self._house.policy, None if facts is None else facts.place.policy)
        return policy.language or self._house.language

    async def not_written(self, action: StoredAction) -> None:
        """What was decided could not be set in the room: its people are told what to set, once."""
        put, account, place = action.action, self._platform.account, action.place
        if not isinstance(put, PutState) or put.type not in (STATE_TYPE, GRANT_TYPE):
            return
        facts = await self._journal.place(account, place)
        with speaking(await self._language(place)):
            needed = 0 if facts is None else facts.policy_power
            words = wording_votes.set_by_hand(needed, f"{put.type} {put.state_key}\n{put.content}")
        said = Keyed(Say(words, notice=True), Role.ANSWER)
        await self._journal.say(
            account, place, f"{action.key}#parked", said, self._platform.device, self._clock.now()
        )

    # -- the brake ---------------------------------------------------------------------------------

    async def brake(self, control: Control) -> None:
        """A member wants what is agreed with a peer to stop, at once."""
        now = self._clock.now()
        asker = control.message.sender
        command = parse(control.message.text, own_id=self._platform.account, own_name=self._own_name)
        argument = "" if command is None else command.argument
        typed = argument.partition(" ")[0].removeprefix("@").casefold()
        # By hand somebody may have written it with capitals, which are allowed in the name of a server.
        peer = next((one for one, _ in control.place.grants if one.casefold() == typed), typed)
        counters = await self._journal.counters(self._platform.account, control.place.id, asker.id, now)
        request = Request(
            Deed.BRAKE, asker.id, asker_is_bot=asker.is_bot, power=asker.power, recent=counters.recent
        )
        verdict = decide(self._house.policy, {}, request, now, room=control.place.policy)
        people = {
            one.id for one in control.facts.members if not one.is_bot and one.id != self._platform.account
        }
        needed = brake(len(people))
        suspended = self._suspended(control, peer)

        def settle(pullers: frozenset[str]) -> Braking:
            have = len(pullers & people)
            stops = bool(pullers) and (asker.power >= MODERATOR_POWER or have >= needed)
            if not verdict.allowed:
                words = wording.refusal(verdict)
            elif not pullers:
                words = wording_votes.nothing_to_brake()
            else:
                words = wording_votes.braked(peer) if stops else wording_votes.braking(peer, have, needed)
            said = Keyed(Say(words, control.message.id, control.message.thread), Role.ANSWER)
            if not stops or suspended is None:
                return Braking(stops, (said,), words if stops else "")
            if not self._platform.takes_votes:
                return Braking(stops, (said,), words, {peer: suspended.content})
            return Braking(stops, (said, Keyed(suspended, Role.STATE)), words)

        with speaking(await self._language(control.place.id)):
            done = await self._journal.handle_brake(
                control, peer, verdict, settle, self._platform.device, now
            )
        log.info("brake", place=control.place.id, stops=done.stops, code=str(verdict.code))
        self._delivery.ring()
        self._bell.ring()

    def _suspended(self, control: Control, peer: str) -> PutState | None:
        """The grant as it will stand once it is stopped, where there is one and we may write it."""
        standing = dict(control.place.grants).get(peer)
        found = None if standing is None else read_grant(standing.text, peer)
        if not isinstance(found, Grant) or not self._may_write(control.facts):
            return None
        content = found.model_copy(update={"status": Status.SUSPENDED}).model_dump_json()
        return PutState(GRANT_TYPE, peer, content)

    # -- reminders ---------------------------------------------------------------------------------

    async def _days(self, place: str, grant: Grant) -> int:
        """For how many days the grant was wanted, by the vote that decided it."""
        votes = await self._journal.votes(self._platform.account, place, 1_000)
        return next((one.proposal.days for one in votes if one.poll == grant.decided_by), LONGEST_DAYS)

    async def _remind(self) -> list[int]:
        """Say what lapses soon, once each; when to look again."""
        account, now = self._platform.account, self._clock.now()
        again = []
        for place, peer, text in await self._journal.grants(account):
            grant = read_grant(text, peer)
            if not isinstance(grant, Grant) or grant.status not in (Status.TRIAL, Status.ACTIVE):
                continue
            at = grant.until - min(REMIND_MS, (grant.until - grant.not_before) // 4)
            if now < at:
                again.append(at)
            elif now < grant.until:
                with speaking(await self._language(place)):
                    words = wording_votes.ends_soon(grant, await self._days(place, grant))
                said = Keyed(Say(words), Role.ANSWER)
                device = self._platform.device
                if await self._journal.remind(account, place, peer, grant.until, said, device, now):
                    self._delivery.ring()
        return again


def _was_stopped_since(vote: Vote, facts: PlaceFacts | None) -> bool:
    """Whether somebody stopped us after people began to vote: what they voted on was not that."""
    written_ = None if facts is None else facts.place.written
    if written_ is None or not isinstance(limits_of(written_), Unreadable):
        return False
    return written_.set_at > vote.opened_at


def _told(count: Tally) -> dict[str, object]:
    """A tally for the journal: how many, and the hash; never who voted what."""
    return {
        "members": count.members,
        "yes": count.yes,
        "no": count.no,
        "objections": count.objections,
        "abstained": count.abstained,
        "sha256": count.sha256,
    }


def _nothing(vote: Vote) -> Tally:
    return governance.count(vote, ())
