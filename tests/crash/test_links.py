"""The process dies at every boundary between a question to a peer and its answer: asked once, told once."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from bridge.link.bodies import Kind
from bridge.links import Links
from bridge.platform import Retryable, StoredAction
from bridge.router import Router
from policies.classes import Class
from policies.room import LOOSEST
from tests.bridge.city import COMMUNITY, City, allow, linked
from tests.crash.test_boundaries import Life, all_deaths, live
from tests.fakes.process import ASK_WAIT_MS
from tests.fakes.server import ADA, LOST

if TYPE_CHECKING:
    from pathlib import Path

KINDS: dict[str, Any] = {"part_size": 10_000, "policy": LOOSEST, "community": COMMUNITY}
POOL = "When does the pool open?"


async def _met(life: Life) -> City:
    linked(life.server)
    allow(life.server)
    city = City(life.server)
    city.card()
    city.grants()
    await life.idle()
    return city


async def _asked(life: Life) -> tuple[City, str]:
    """A question that was shown and agreed to; two acknowledgements get lost."""
    city = await _met(life)
    question = life.server.say(f"!ask city {POOL}", by=ADA)
    life.beside.add(question)
    await life.idle()
    (preview,) = [one.id for one in life.server.shown() if one.reply_to == question]
    life.server.faults.extend([LOST, LOST])
    life.beside |= {preview, life.server.react(preview, "👍", by=ADA)}
    await life.idle()
    return city, question


def _judge(life: Life, city: City, *, asks: int, ends: tuple[str, ...]) -> list[str]:
    """What is wrong; `ends` are words of which exactly one is told, once."""
    names = [one.header.id for one in city.of(Kind.ASK)]
    found = [] if len(names) == asks else [f"asked {len(names)} times: {names}"]
    told = [text for text in life.server.texts() if any(end in text for end in ends)]
    if ends and len(told) != 1:
        found.append(f"told {len(told)} times: {told}")
    with closing(sqlite3.connect(life.path)) as db:
        (waits,) = db.execute("SELECT count(*) FROM turns WHERE state = 'waiting'").fetchone()
        (left,) = db.execute(
            "SELECT count(*) FROM events WHERE control IS NOT NULL AND handled_at IS NULL"
        ).fetchone()
        states = db.execute("SELECT state FROM asks").fetchall()
    if waits or left:
        found.append(f"{waits} turns still wait, {left} controls were never handled")
    if any(state in ("open", "cancelling") for (state,) in states):
        found.append(f"asks are left: {states}")
    return found


async def answered(life: Life) -> None:
    """There and back."""
    city, _ = await _asked(life)
    city.answer("On Tuesday at nine.")
    await life.idle()
    life.wrong = lambda: _judge(life, city, asks=1, ends=("Tuesday at nine", "did not answer in time"))


async def silent(life: Life) -> None:
    """No answer comes; one that comes later is not shown."""
    city, _ = await _asked(life)
    await life.go_on(lambda process: process.clock.sleep(ASK_WAIT_MS / 1000 + 1))
    await life.idle()
    city.answer("On Tuesday at nine.")
    await life.idle()
    life.wrong = lambda: _judge(life, city, asks=1, ends=("Tuesday at nine", "did not answer in time"))


async def taken_back(life: Life) -> None:
    """The question is redacted while it waits: the peer is told, and nothing comes of it."""
    city, question = await _asked(life)
    life.server.redact(question)
    await life.idle()

    def wrong() -> list[str]:
        found = _judge(life, city, asks=1, ends=())
        cancels = len(city.of(Kind.CANCEL))
        return found if cancels == 1 else [*found, f"cancelled {cancels} times"]

    life.wrong = wrong


async def asked_by_the_city(life: Life) -> None:
    """One question that is answered and one that is refused."""
    city = await _met(life)
    city.ask("Who won?", Class.GENERAL)
    city.ask("Who is ill?", Class.HEALTH)
    await life.idle()

    def wrong() -> list[str]:
        found = _judge(life, city, asks=0, ends=())
        ends = [str(one.header.kind) for one in city.hears() if one.header.prev]
        return found if sorted(ends) == ["answer", "refuse"] else [*found, f"the city got {ends}"]

    life.wrong = wrong


@pytest.mark.parametrize("script", [answered, silent, taken_back, asked_by_the_city])
def test_no_death_shows(tmp_path: Path, script: Any) -> None:
    """Wherever the process dies: the peer is asked once, and people are told once how it ended."""
    assert all_deaths(tmp_path, script, **KINDS) == {}


def test_a_question_crosses_its_boundaries(tmp_path: Path) -> None:
    """Taking an envelope, telling a peer, sending: they are there, so that the above means something."""
    _, crossed, _ = live(tmp_path / "j.db", answered, None, **KINDS)
    _, back, _ = live(tmp_path / "b.db", taken_back, None, **KINDS)
    assert {"after take", "after tell_peer", "after settle", "after perform"} <= set(crossed)
    assert "after cancel_told" in back


class SendsFirst(Links):
    """Wrong on purpose: an envelope is sent as soon as it is sealed, before anything is stored."""

    async def step(self, claimed: Any, reply: Any) -> Any:
        step = await super().step(claimed, reply)
        for sent in getattr(step, "sends", ()):
            now = self._clock.now()
            key = f"{sent.cause}:{now}"
            with suppress(Retryable):
                await self._platform.perform(StoredAction(key, sent.place, sent.keyed.action, now, "DEVICE"))
        return step


class Careless(Router):
    """A router with such links."""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        if self.links is not None:
            self.links.__class__ = SendsFirst


def test_sending_before_storing_is_noticed(tmp_path: Path) -> None:
    """The matrix can fail."""
    assert all_deaths(tmp_path, answered, **(KINDS | {"router": Careless})) != {}
