"""What a room allows: a decision with its words beside plain look-ups, a count, and a rule that takes effect.

The floor of a decision is the same checks as look-ups in dictionaries, without a word of explanation.
"""

from __future__ import annotations

import random
import secrets
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bots import wording
from bridge.homeserver import Homeserver
from policies.classes import Class
from policies.decide import Deed, Request, decide
from policies.document import STATE_TYPE, Standing, written
from policies.grant import DAY_MS, Direction, Grant, Status
from policies.room import LOOSEST, RoomPolicy
from policies.vote import Ballot, Choice, tally
from tests.bench.table import Row, at_most, seconds
from tests.hearth import Hearth
from tests.human import Human

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.human import Said

GRANTS = 50
REQUESTS = 10_000
BALLOTS = 10_000
MOST = 15.0
NOW = 1_800_000_000_000


def _peer(number: int) -> str:
    return f"bot{number}:community{number}.example"


def _grants() -> dict[str, Grant]:
    return {
        _peer(number): Grant(
            v=1,
            peer=_peer(number),
            app_ed25519=f"{number:043d}",
            direction=Direction.BOTH,
            classes=frozenset({Class.GENERAL, Class.LOCAL_KNOWLEDGE}),
            per_day=10,
            not_before=NOW - 10 * DAY_MS,
            until=NOW + (number - 5) * DAY_MS,
            status=Status.ACTIVE if number % 7 else Status.SUSPENDED,
        )
        for number in range(GRANTS)
    }


def _requests(rng: random.Random) -> list[Request]:
    some = []
    for _ in range(REQUESTS):
        number = rng.randrange(GRANTS + 5)
        deed = rng.choice([Deed.ANSWER, Deed.ASK_PEER, Deed.ASK_PEER, Deed.ANSWER_PEER, Deed.COMMAND])
        some.append(
            Request(
                deed,
                f"@person{rng.randrange(20)}:home.example",
                asked_today=rng.randrange(30),
                peer=_peer(number) if deed in (Deed.ASK_PEER, Deed.ANSWER_PEER) else "",
                peer_key=f"{number:043d}",
                cls=rng.choice([Class.GENERAL, Class.LOCAL_KNOWLEDGE, Class.HEALTH, None]),
                peer_today=rng.randrange(12),
            )
        )
    return some


def _by_look_up(room: dict[str, Any], grants: dict[str, dict[str, Any]], request: Request) -> bool:
    """The same questions to plain dictionaries."""
    server = request.asker.rpartition(":")[2]
    if request.deed is not Deed.ANSWER_PEER and not (
        "*" in room["askers"] or request.asker in room["askers"] or server in room["askers"]
    ):
        return False
    if request.deed in (Deed.ANSWER, Deed.ASK_PEER) and request.asked_today >= room["per_person_day"]:
        return False
    if request.deed not in (Deed.ASK_PEER, Deed.ANSWER_PEER):
        return True
    peers = room["ask_peers"] if request.deed is Deed.ASK_PEER else room["answer_peers"]
    if not (request.peer in peers or "*" in peers) or request.cls not in room["classes"]:
        return False
    grant = grants.get(request.peer)
    return (
        grant is not None
        and grant["status"] == "active"
        and grant["not_before"] <= NOW < grant["until"]
        and grant["key"] == request.peer_key
        and request.cls in grant["classes"]
        and request.peer_today < grant["per_day"]
    )


def _times(judge: Callable[[Request], object], requests: list[Request]) -> list[float]:
    found = []
    for request in requests:
        started = time.perf_counter()
        judge(request)
        found.append(time.perf_counter() - started)
    return sorted(found)


def decisions() -> list[Row]:
    """p50 and p99 of a decision with its explanation, each as a ratio to the look-ups."""
    policy = RoomPolicy(
        askers=frozenset({"home.example"}),
        per_person_day=25,
        ask_peers=frozenset({"*"}),
        answer_peers=frozenset({"*"}),
        classes_out=frozenset({Class.GENERAL, Class.LOCAL_KNOWLEDGE}),
        classes_in=frozenset({Class.GENERAL, Class.LOCAL_KNOWLEDGE}),
    )
    grants = _grants()
    room = Standing(written(policy), "@ada:home.example", NOW)
    plain = {
        "askers": set(policy.askers), "per_person_day": 25, "ask_peers": {"*"}, "answer_peers": {"*"},
        "classes": set(policy.classes_out),
    }  # fmt: skip
    rows = {
        peer: {
            "status": str(one.status), "not_before": one.not_before, "until": one.until,
            "key": one.app_ed25519, "classes": set(one.classes), "per_day": 10,
        }
        for peer, one in grants.items()
    }  # fmt: skip
    requests = _requests(random.Random(2026))

    def explained(request: Request) -> str:
        theirs = grants.get(request.peer)
        verdict = decide(LOOSEST, grants, request, NOW, room=room, theirs=theirs)
        return "" if verdict.allowed else wording.refusal(verdict)

    def decided(request: Request) -> object:
        return decide(LOOSEST, grants, request, NOW, room=room, theirs=grants.get(request.peer))

    _times(explained, requests[:1000])
    ours, alone, floor = (
        _times(one, requests) for one in (explained, decided, lambda one: _by_look_up(plain, rows, one))
    )
    found = []
    for name, at in (("p50", 0.5), ("p99", 0.99)):
        here, bare, below = (times[int(at * REQUESTS)] for times in (ours, alone, floor))
        found.append(
            Row(
                f"a decision with its words, {name} ({REQUESTS:,} requests, {GRANTS} grants)",
                f"{here * 1e6:.1f} us (without words {bare * 1e6:.1f} us)",
                f"look-ups {below * 1e6:.2f} us",
                f"{here / below:.1f}x (without words {bare / below:.1f}x)",
                f"at most {MOST:.0f}x",
                at_most(here / below, MOST),
            )
        )
    return found


def count() -> Row:
    """A tally of many ballots, of which each voter sent several."""
    rng = random.Random(2026)
    voters = frozenset(f"@person{number}:home.example" for number in range(BALLOTS // 4))
    ballots = [
        Ballot(
            f"$ballot{number}",
            f"@person{rng.randrange(BALLOTS // 4)}:home.example",
            number,
            rng.choice(list(Choice)),
        )
        for number in range(BALLOTS)
    ]
    took = []
    for _ in range(5):
        started = time.perf_counter()
        tally(ballots, voters, opened_at=0, closes_at=BALLOTS)
        took.append(time.perf_counter() - started)
    per = statistics.median(took) / BALLOTS
    return Row(
        f"a tally of {BALLOTS:,} ballots", seconds(statistics.median(took)), "", f"{per * 1e6:.1f} us each"
    )


def _tells(bot: str, words: str, one: Said) -> bool:
    return one.sender == bot and words in one.text


async def effect(folder: Path, times: int) -> Row:
    """From the server's yes to a state event until the bot says in the room what is different."""
    took = []
    async with Homeserver(folder / "synapse") as synapse:
        mark = secrets.token_hex(3)
        bot, ada = [await synapse.register(f"{name}{mark}", "pw") for name in ("hearth", "ada")]
        place = folder / "hearth"
        place.mkdir()
        async with Human(synapse.url, ada, "pw") as human, Hearth(place, synapse.url, bot):
            room = await human.create_room("Family", invite=[bot])
            await human.until_joined(room, bot)
            for limit in range(1, times + 1):
                await human.put_state(room, STATE_TYPE, {"v": 1, "per_person_day": limit})
                started = time.perf_counter()
                words = f": {limit} answer"
                await human.until(room, partial(_tells, bot, words))
                took.append(time.perf_counter() - started)
    return Row(
        "a rule, from the server to its effect, told",
        seconds(statistics.median(took)),
        "",
        f"{len(took)} times",
    )


async def measure(folder: Path, *, quick: bool) -> list[Row]:
    """All rows of this part."""
    return [*decisions(), count(), await effect(folder, 3 if quick else 10)]
