"""What a bot may ask of the bridge while it thinks, for one turn (`bots.base.Tools`)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

from bots.base import Status
from models.host import State
from policies.decide import decide

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from bots.base import Chunk, Decided
    from bridge.journal import Claimed, Journal
    from bridge.schedule import Clock
    from models.client import ChatClient
    from models.host import ModelHost
    from policies.decide import Request, Verdict
    from policies.room import RoomPolicy

AWAKE_WITHIN = 60.0
"""Seconds that a turn waits for a model that is starting."""


@dataclass(frozen=True, slots=True)
class House:
    """What all turns share: the model, the policy, and what `!status` tells."""

    journal: Journal
    clock: Clock
    model: ChatClient
    policy: RoomPolicy
    salt: bytes
    """Makes the fairness key of a place, so that a remote model server learns no room id."""
    version: str
    model_name: str
    model_is_bundled: bool
    retention_days: int
    host: ModelHost | None = None
    """Keeps the local model server; None where the model is served elsewhere."""

    @property
    def model_ready(self) -> bool:
        """Whether the model answers now, as far as we know."""
        return self.host is None or self.host.state is State.READY

    async def model_awake(self) -> None:
        """Wait while the local model starts or restarts, so that this costs no turn an attempt.

        Raises `ModelMisconfigured` if it never will; returns after a minute in any case, and the
        request then fails by itself.
        """
        if self.host is not None and self.host.state is not State.READY:
            with suppress(TimeoutError):
                await self.host.ready(AWAKE_WITHIN)

    async def model_can_work(self) -> None:
        """Wait for ever; raises `ModelMisconfigured` once it is clear that the model never will."""
        while self.host is not None:
            with suppress(TimeoutError):
                await self.host.ready()
                break
        await asyncio.Event().wait()

    def fairness_key(self, place: str) -> str:
        """A stable pseudonym of `place` for the model's queue (`prompt_cache_key`)."""
        return blake2b(place.encode(), key=self.salt, digest_size=12).hexdigest()


class TurnTools:
    """`Tools` for one claimed turn."""

    def __init__(self, house: House, claimed: Claimed) -> None:
        self._house = house
        self._claimed = claimed

    async def may(self, request: Request) -> Verdict:
        """Ask the policy of this place; who asks is a fact of the turn, whatever the bot says."""
        turn = self._claimed.turn
        facts = replace(request, asker=turn.asker.id, asker_is_bot=turn.asker.is_bot, power=turn.asker.power)
        return decide(self._house.policy, (), facts, self._house.clock.now())

    async def chat(self, messages: Sequence[Mapping[str, str]], *, max_tokens: int) -> AsyncGenerator[Chunk]:
        """Stream an answer of the chat model."""
        await self._house.model_awake()
        key = self._house.fairness_key(self._claimed.turn.place.id)
        async with aclosing(self._house.model.chat(messages, max_tokens=max_tokens, cache_key=key)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def count_tokens(self, messages: Sequence[Mapping[str, str]]) -> int:
        """Tokens of `messages` as a prompt."""
        await self._house.model_awake()
        return await self._house.model.count_tokens(messages)

    async def context_size(self) -> int:
        """Tokens that prompt and answer may take together."""
        await self._house.model_awake()
        return await self._house.model.context_size()

    async def decided(self, event_id: str) -> Decided | None:
        """What was decided about a message of this place."""
        place = self._claimed.turn.place
        return await self._house.journal.decided(place.account, place.id, event_id)

    async def status(self) -> Status:
        """How the house is doing."""
        house = self._house
        counts = await house.journal.counts()
        return Status(
            version=house.version,
            model=house.model_name,
            model_is_bundled=house.model_is_bundled,
            model_ready=house.model_ready,
            pending=counts.pending,
            running=counts.running,
            undelivered=counts.undelivered,
            parked=counts.parked + counts.undeliverable,
            sealed=counts.sealed,
            retention_days=house.retention_days,
            encrypted=self._claimed.facts.must_encrypt,
        )
