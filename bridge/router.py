"""Takes turns from the journal, asks the policy, runs the bot, settles. One router per account.

    listen   platform.events() --T1--> journal; cancels what an edit or a redaction overtook
    control  `!stop`: verdict, effect and reply in one transaction, before any further claim
    work     T2 claim --> decide --> bot --> T3 settle

Promises: a turn settles once; what it says is stored before it is sent; a run that dies or is
stopped leaves its turn pending. Words shown while a turn runs (typing, progress edits) are
ephemeral, and the last of them has ended before the turn settles.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing
from dataclasses import replace
from secrets import token_urlsafe
from typing import TYPE_CHECKING

import structlog

from bots import wording
from bots.base import Reply, Wait
from bots.chat import failure_of
from bots.conversation import Keyed, Role, Say, TurnKind
from bots.language import speaking
from bridge import answer
from bridge.delivery import backoff
from bridge.journal import Outcome, Settlement
from bridge.journal.links import Step, Taken
from bridge.links import Links
from bridge.platform import Batch, EventKind, Misconfigured, Parts, Retryable
from bridge.run import Run
from bridge.schedule import Doorbell
from bridge.sealed import Sealed
from bridge.votes import Votes
from models.client import ModelError
from policies.decide import Deed, Request, decide
from policies.document import held
from policies.grant import grants_of
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine, Mapping

    from bots.base import Bot
    from bridge.delivery import Delivery
    from bridge.journal import Admission, Claimed, Control, Event, Journal, Known
    from bridge.options import Options
    from bridge.platform import Platform, StoredAction
    from bridge.schedule import Clock
    from bridge.tools import House

log = structlog.get_logger(__name__)

ATTEMPTS = 3
LISTENING_ATTEMPTS = 2
"""A sound that crashed the speech model twice is not tried a third time: it may be made for that."""
UNSETTLED_PAUSE_MS = 5_000
DAY_MS = 86_400_000
MORE_MS = DAY_MS
"""How long the rest of a long answer is kept for whoever asks for more."""
ALLOWED = Verdict(True, Code.ALLOWED, "hearth.welcome")
NO_LINKS = Verdict(False, Code.NO_GRANT, "grant.missing")
NEWS = {
    TurnKind.POLICY: Verdict(True, Code.ALLOWED, "hearth.policy"),
    TurnKind.VERIFICATION: Verdict(True, Code.ALLOWED, "hearth.verification"),
}


class Router:
    """The three loops of one account."""

    def __init__(
        self,
        house: House,
        platform: Platform,
        delivery: Delivery,
        bots: Mapping[str, Bot],
        options: Options,
        rng: random.Random,
    ) -> None:
        self._house = house
        self._journal: Journal = house.journal
        self._clock: Clock = house.clock
        self._platform = platform
        self._delivery = delivery
        self._bots = bots
        self._options = options
        self._rng = rng
        self._bell = Doorbell(house.clock)
        self._controlling = asyncio.Lock()
        self.sealed = Sealed(house, platform, delivery)
        self.votes = Votes(house, platform, delivery, own_name=options.own_name)
        delivery.on_parked = self._parked
        self.links: Links | None = None
        """What goes between us and bots of other communities; None: nothing does."""
        if house.community is not None:
            self.links = Links(
                house, house.community, platform, delivery, rng=rng, names=lambda: token_urlsafe(24)
            )
            self.links.on_work = self._bell.ring
        self._running: dict[int, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._unsettled: dict[int, int] = {}
        """Turns whose settlement could not be written, and when to make them pending again (ms)."""

    def ring(self) -> None:
        """There may be something to do."""
        self._bell.ring()

    async def recover(self) -> None:
        """Before anything else: turns of the last process are pending again, controls are replayed."""
        now = self._clock.now()
        parked = await self._journal.recover(
            self._platform.account,
            now,
            words=wording.failed(wording.Failure.INTERNAL),
            device=self._platform.device,
        )
        if parked:
            log.error("turns_parked", turns=parked, remedy="see `hearth turns stuck`")
        if self.links is not None:
            await self.links.recover()
        await self._handle_controls()

    # -- listen -----------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Admit batches for ever. A batch that cannot be stored is fetched again from the old cursor."""
        failures = 0
        while True:
            try:
                await self._handle_controls()  # one whose handling could not be written comes again
                account = self._platform.account
                cursor = await self._journal.cursor(account)
                sealed = await self._journal.sealed(account)
                answered = await self._journal.answered(account, self._clock.now() - DAY_MS)
                async with aclosing(self._platform.events(cursor, sealed, answered)) as batches:
                    async for batch in batches:
                        await self.admit(batch)
                        failures = 0
                return
            except sqlite3.Error as error:
                wait = backoff(failures, None, self._rng.random())
                failures += 1
                log.error(
                    "journal_write_failed",
                    error=str(error),
                    wait=round(wait, 1),
                    remedy="free space on the disk; nothing is lost, the same events are fetched again",
                )
                await self._clock.sleep(wait)

    async def admit(self, batch: Batch, *, but: int | None = None) -> None:
        """T1 and what follows from it; turn `but` ends by itself and is not cancelled."""

        def judge(event: Event, known: Known) -> Admission:
            return answer.judge(
                event,
                known,
                own_id=self._platform.account,
                own_name=self._options.own_name,
                voice=self._house.policy.voice,
                links=self.links is not None,
            )

        admitted = await self._journal.admit(batch, judge, self._clock.now())
        await self._cancel(tuple(turn for turn in admitted.cancelled if turn != but))
        for place in admitted.erased:
            self._beside(self._erase_traces(place))
        if admitted.controls:
            await self._handle_controls()
        if admitted.deliveries:
            self._delivery.ring()
        if any(event.kind is EventKind.SEALED for event in batch.events):
            self.sealed.ring()
        if admitted.ballots or batch.places:
            self.votes.ring()
        if self.links is not None and (batch.places or admitted.deliveries):
            self.links.ring()
        if admitted.work or admitted.cancelled:
            self._bell.ring()

    async def _cancel(self, turns: tuple[int, ...]) -> None:
        """End the runs of `turns`; what they were showing has ended when this returns."""
        tasks = [task for turn in turns if (task := self._running.get(turn)) is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)

    # -- controls ---------------------------------------------------------------------------------

    async def _handle_controls(self) -> None:
        async with self._controlling:  # what arrives over HTTPS is admitted beside the platform's batches
            for control in await self._journal.controls(self._platform.account):
                match control.name:
                    case answer.BRAKE:
                        await self.votes.brake(control)
                    case answer.ENVELOPE:
                        await self._receive(control)
                    case _:
                        await self._stop(control)

    async def _parked(self, action: StoredAction) -> None:
        """What can never be done: whoever has to know is told."""
        await self.votes.not_written(action)
        if self.links is not None:
            await self.links.not_sent(action)

    async def _receive(self, control: Control) -> None:
        """An envelope of another community's bot. Without links of ours it is kept, and nothing else."""
        if self.links is None:
            await self._journal.take(control, Taken(), self._platform.device, self._clock.now())
            return
        await self._cancel(await self.links.receive(control))
        self._bell.ring()

    async def _stop(self, control: Control) -> None:
        now = self._clock.now()
        asker = control.message.sender
        counters = await self._journal.counters(self._platform.account, control.place.id, asker.id, now)

        def request(owner: str | None) -> Request:
            return Request(
                deed=Deed.STOP,
                asker=asker.id,
                asker_is_bot=asker.is_bot,
                power=asker.power,
                recent=counters.recent,
                owner=owner,
            )

        moderates = decide(self._house.policy, {}, request(None), now).allowed
        everywhere = moderates and self._options.place_is_person
        candidates = await self._journal.stoppable(control, everywhere=everywhere)
        turns, owner = answer.owner_to_stop(control.message, candidates, may_stop_others=moderates)
        verdict = decide(self._house.policy, {}, request(owner if turns else asker.id), now)
        stopped = turns if verdict.allowed else ()
        words = _stop_words(verdict, stopped)
        reply = Keyed(Say(words, control.message.id, control.message.thread, notice=True), Role.ANSWER)
        await self._journal.stop_turns(
            control,
            stopped,
            verdict,
            reply,
            Say(wording.stopped(), notice=True),
            self._platform.device,
            now,
        )
        await self._cancel(stopped)
        if self.links is not None:
            self.links.ring()
        log.info("stopped", place=control.place.id, turns=stopped, code=str(verdict.code))
        self._delivery.ring()
        self._bell.ring()

    # -- work -------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Claim and run turns for ever. Cancelling stops claims; runs under way go on (`finish`)."""
        account = self._platform.account
        while True:
            try:
                now = self._clock.now()
                if await self._journal.pass_deadlines(account, now):
                    log.info("deadlines_passed", account=account)
                await self._release_unsettled(now)
                free = self._options.at_once - len(self._running)
                if free > 0:
                    for claimed in await self._journal.claim(
                        account,
                        now,
                        free,
                        self._options.context_messages,
                        long_at_once=max(1, self._options.at_once // 4),
                    ):
                        self._start(claimed)
                due = await self._journal.next_claim(account)
                times = [*self._unsettled.values(), *([] if due is None else [due])]
                until = min((at for at in times if at > now), default=None)
            except sqlite3.Error as error:
                log.error("journal_unusable", error=str(error), remedy="free space on the disk")
                until = self._clock.now() + 5_000
            await self._bell.wait(until)

    def _start(self, claimed: Claimed) -> None:
        before = self._running.get(claimed.turn.id)
        task = asyncio.create_task(self._run_after(before, claimed), name=f"turn {claimed.turn.id}")
        self._running[claimed.turn.id] = task
        task.add_done_callback(lambda done: self._ended(claimed, done))

    def _ended(self, claimed: Claimed, task: asyncio.Task[None]) -> None:
        latest = self._running.get(claimed.turn.id) is task
        if latest:
            del self._running[claimed.turn.id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("turn_not_settled", turn=claimed.turn.id, error=repr(error))
            if latest and isinstance(error, sqlite3.Error):
                self._unsettled[claimed.turn.id] = self._clock.now() + UNSETTLED_PAUSE_MS
        self._bell.ring()

    async def _release_unsettled(self, now: int) -> None:
        """Turns that could not be settled (a full disk) are run again; nothing is counted against them."""
        for turn in [turn for turn, at in self._unsettled.items() if at <= now]:
            await self._journal.release(turn)
            del self._unsettled[turn]

    async def finish(self, seconds: float) -> None:
        """At stop: give running turns `seconds`, then leave them pending for the next start."""
        tasks = dict(self._running)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds)
        late = {turn: task for turn, task in tasks.items() if not task.done()}
        for task in late.values():
            task.cancel()
        await asyncio.gather(*late.values(), return_exceptions=True)
        for turn in late:
            await self._journal.release(turn)
        if self._background:
            await asyncio.wait(self._background, timeout=1)

    async def _run_after(self, before: asyncio.Task[None] | None, claimed: Claimed) -> None:
        """Run once the overtaken run of the same turn has ended: its last words must not come after ours."""
        if before is not None:
            await asyncio.wait([before])
        await self._run(claimed)

    async def _run(self, claimed: Claimed) -> None:
        now = self._clock.now()
        policy = held(self._house.policy, claimed.turn.place.policy)
        with speaking(policy.language or self._house.language):
            await self._decide(replace(claimed, turn=answer.remembering(claimed.turn, policy, now)), now)

    async def _decide(self, claimed: Claimed, now: int) -> None:
        turn = claimed.turn
        rest = answer.continuation(turn)
        if turn.kind is TurnKind.ASKED:
            verdict = NO_LINKS if self.links is None else await self.links.may_answer(claimed)
        elif answer.needs_no_request(turn):
            verdict = NEWS.get(turn.kind, ALLOWED)
        else:
            request = answer.request_for(
                claimed,
                max_age_ms=self._options.max_age_ms,
                own_name=self._options.own_name,
                remote_model=self._house.model_is_remote,
            )
            verdict = decide(
                self._house.policy, grants_of(turn.place.grants), request, now, room=turn.place.policy
            )
        if not verdict.allowed:
            aloud = answer.speaks(
                verdict,
                claimed.counters,
                unasked=turn.unasked,
                refusals_per_day=self._options.refusals_per_day,
            )
            words = _refusal_words(verdict) if aloud else ""
            await self._settle(claimed, Outcome.REFUSED, verdict, words, notice=True, leaves_wait=True)
            return
        if rest is not None:
            await self._answer(claimed, verdict, Reply(rest), claimed.draft_key)
        elif (looked := await self._looked_at(claimed)) is not None:
            await self._ask(looked, verdict)

    async def _ask(self, claimed: Claimed, verdict: Verdict) -> None:
        turn = claimed.turn
        run = Run(claimed, self._platform, self._delivery, self._options, self._house, self._background)
        try:
            async with asyncio.timeout(self._deadline(claimed)):
                reply = await run.reply(self._bots[turn.bot])
        except TimeoutError:
            await self._fail(claimed, run, wording.Failure.MODEL_TIMEOUT)
        except ModelError as error:
            await self._fail(claimed, run, failure_of(error))
        except Retryable as error:  # the file that came with the message could not be fetched
            await self._fail(claimed, run, wording.Failure.FILE_UNREACHABLE, after=error.after)
        except sqlite3.Error:
            raise
        except Exception:
            # A bug in a bot must cost its own turn and nothing else: counted, retried, then told.
            log.exception("bot_failed", turn=turn.id, bot=turn.bot)
            await self._fail(claimed, run, wording.Failure.INTERNAL)
        else:
            if turn.bot == answer.CHAT:
                # A long paste takes a while to screen, and the loop has others to serve.
                about = await asyncio.to_thread(answer.screened, claimed)
                reply = replace(reply, features={**reply.features, **about})
            await self._answer(claimed, verdict, reply, run.draft_key)

    async def _looked_at(self, claimed: Claimed) -> Claimed | None:
        """The turn as the platform knows it now; None where its question was edited or taken back.

        A server that cannot be asked costs the turn no attempt: the answer could not be sent either.
        """
        failures = 0
        while True:
            try:
                fresh = await self._platform.refresh(claimed.turn)
                break
            except (Retryable, Misconfigured) as error:
                wait = backoff(failures, getattr(error, "after", None), self._rng.random())
                failures += 1
                log.warning(
                    "question_not_looked_at", turn=claimed.turn.id, error=str(error), wait=round(wait, 1)
                )
                await self._clock.sleep(wait)
        if fresh.changed is not None:
            await self.admit(Batch(self._platform.account, None, (fresh.changed,)), but=claimed.turn.id)
            return None
        turn = claimed.turn
        if fresh.context is not None:
            turn = replace(turn, context=fresh.context[-self._options.context_messages :])
        if turn.about is None and fresh.about is not None:
            turn = replace(turn, about=fresh.about)
        return replace(claimed, turn=turn)

    def _deadline(self, claimed: Claimed) -> float:
        return self._options.long_deadline if claimed.long else self._options.turn_deadline

    async def _answer(self, claimed: Claimed, verdict: Verdict, reply: Reply, draft_key: str | None) -> None:
        step: Step | None = None
        if self.links is not None and (reply.peer is not None or reply.link):
            found = await self.links.step(claimed, reply)
            if isinstance(found, Verdict):  # between the decision and now, something has changed
                await self._settle(claimed, Outcome.REFUSED, found, wording.refusal(found), notice=True)
                return
            step = found
        parts = self._platform.parts(reply.text, claimed.turn.message.id) if reply.text.strip() else Parts(())
        wait = reply.wait
        if parts.rest and wait is None:
            wait = Wait(self._clock.now() + MORE_MS, {answer.REST: parts.rest})
        actions = answer.plan(
            claimed.turn,
            parts.shown,
            notice=reply.notice,
            draft_key=draft_key,
            # What is to be agreed to is said anew: a thumb on the old words must not send the new ones.
            said=() if reply.wait is not None and claimed.turn.bot in answer.CONFIRMED else claimed.said,
            files=reply.files,
            state=reply.state if self._platform.takes_votes else (),
            link=reply.link if step is not None else "",
            closes=(claimed.waiting_key, reply.closes) if claimed.waiting_key and reply.closes else None,
        )
        verdict = reply.verdict or verdict
        settlement = Settlement(
            outcome=Outcome.ANSWERED if verdict.allowed else Outcome.REFUSED,
            verdict=verdict,
            actions=actions,
            features={**reply.features, "characters": len(reply.text), "parts": len(parts.shown)},
            forget=None if reply.forget is None else str(reply.forget),
            wait_until=None if wait is None else wait.until,
            wait_state=None if wait is None else wait.state,
            heard=reply.heard,
            vote=reply.vote,
            step=step,
            # Where the platform keeps no state, the journal does.
            documents={}
            if self._platform.takes_votes
            else {one.state_key: one.content for one in reply.state},
        )
        await self._store(claimed, settlement)
        if reply.forget is not None:
            if self.links is not None:
                self.links.ring()
            self._beside(self._erase_traces(claimed.turn.place.id))

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _erase_traces(self, place: str) -> None:
        """After an erasure: the journal's log is emptied, and the model drops what it keeps of the place."""
        try:
            await self._journal.checkpoint()
            await self._house.model.forget(self._house.fairness_key(place))
        except (ModelError, sqlite3.Error) as error:
            log.warning("traces_left", place=place, error=str(error))

    async def _fail(
        self, claimed: Claimed, run: Run, reason: wording.Failure, *, after: float | None = None
    ) -> None:
        attempts = claimed.attempts + 1
        if attempts < (LISTENING_ATTEMPTS if claimed.turn.bot == answer.SCRIBE else ATTEMPTS):
            wait = self._options.first_retry * backoff(2 * claimed.attempts, after, self._rng.random())
            log.warning(
                "turn_retry", turn=claimed.turn.id, reason=str(reason), attempt=attempts, wait=round(wait, 1)
            )
            await self._journal.failed(claimed, self._clock.now() + int(wait * 1000))
            return
        verdict = Verdict(
            False, Code.FAILED, "hearth.attempts", {"attempts": attempts, "reason": str(reason)}
        )
        words = "" if claimed.turn.unasked else wording.failed(reason)
        await self._settle(claimed, Outcome.FAILED, verdict, words, draft_key=run.draft_key, park=True)

    async def _settle(
        self,
        claimed: Claimed,
        outcome: Outcome,
        verdict: Verdict,
        words: str,
        *,
        notice: bool = False,
        draft_key: str | None = None,
        park: bool = False,
        leaves_wait: bool = False,
    ) -> None:
        if claimed.turn.kind is TurnKind.ASKED:
            await self._refuse_peer(claimed, outcome, verdict)
            return
        actions = answer.plan(
            claimed.turn,
            (words,) if words else (),
            notice=notice,
            unasked=outcome is Outcome.REFUSED,
            # What an edited question was answered before stands: this is no answer to put in its place.
            draft_key=draft_key or claimed.draft_key,
        )
        await self._store(claimed, Settlement(outcome, verdict, actions, park=park, leaves_wait=leaves_wait))

    async def _refuse_peer(self, claimed: Claimed, outcome: Outcome, verdict: Verdict) -> None:
        """Nobody who speaks our language waits for these words: the peer is told a code and a rule."""
        step = None
        if self.links is not None:
            why = self.links.refusal(verdict, failed=outcome is Outcome.FAILED)
            step = await self.links.answer(claimed.turn.waited, why, claimed.turn.cause)
        await self._store(claimed, Settlement(outcome, verdict, step=step))

    async def _store(self, claimed: Claimed, settlement: Settlement) -> None:
        now = self._clock.now()
        turn = claimed.turn
        settled = await self._journal.settle(claimed, settlement, self._platform.device, now)
        if not settled:
            log.info("turn_overtaken", turn=turn.id)
            return
        self._delivery.ring()
        if settlement.vote is not None:
            self.votes.ring()
        log.info(
            "turn",
            turn=turn.id,
            kind=str(turn.kind),
            event_id=turn.cause,
            place=turn.place.id,
            bot=turn.bot,
            outcome=str(settlement.outcome),
            code=str(settlement.verdict.code),
            rule=settlement.verdict.rule,
            age_ms=claimed.age_ms,
            actions=len(settlement.actions),
            **settlement.features,
        )


def _refusal_words(verdict: Verdict) -> str:
    return wording.loop_notice() if verdict.code is Code.LOOP else wording.refusal(verdict)


def _stop_words(verdict: Verdict, stopped: tuple[int, ...]) -> str:
    if not verdict.allowed:
        return wording.refusal(verdict)
    return wording.stopped() if stopped else wording.nothing_to_stop()
