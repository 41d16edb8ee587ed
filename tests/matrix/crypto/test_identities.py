"""What is known of people's keys: asked once, forgotten when it changed, never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.matrix.crypto import identities
from bridge.matrix.crypto.identities import Identities
from bridge.matrix.identity import public
from bridge.platform import Retryable
from policies.room import Trust
from tests.matrix.crypto.test_trust import ADA, PHONE, SIGNING, US, answered

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

SENT_BY = {"curve25519": "curve", "ed25519": public(PHONE)}


class Server:
    """Answers `/keys/query`, or does not."""

    def __init__(self, **answer: Any) -> None:
        self.answer: dict[str, Any] = answer or answered()
        self.asked: list[list[str]] = []
        self.away = False

    async def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        deadline: float = 0.0,
        accept: frozenset[int] = frozenset(),
    ) -> dict[str, Any]:
        del query, deadline
        assert (method, path, accept) == ("POST", ("v3", "keys", "query"), frozenset())
        assert body is not None
        self.asked.append(list(body["device_keys"]))
        if self.away:
            raise Retryable("away")
        return self.answer


async def test_people_are_asked_for_once() -> None:
    """Until the sync has told that something changed."""
    server = Server()
    known = Identities(server.call, US, SIGNING)
    assert known.trust(ADA, SENT_BY) is Trust.UNSIGNED
    await known.learn([ADA, "@nobody:home.org"])
    await known.learn([ADA, "@nobody:home.org"])
    assert server.asked == [[ADA, "@nobody:home.org"]]
    assert known.trust(ADA, SENT_BY) is Trust.VERIFIED
    assert known.party(ADA, "PHONE") is not None
    known.forget([ADA, "@other:home.org"])
    assert known.trust(ADA, SENT_BY) is Trust.UNSIGNED
    server.answer = answered(verified=False)
    await known.learn([ADA])
    assert known.trust(ADA, SENT_BY) is Trust.SIGNED


async def test_of_whom_nothing_is_learnt_nothing_vouches() -> None:
    """A server that does not answer, or that could not ask another, is asked again the next time."""
    server = Server()
    known = Identities(server.call, US, SIGNING)
    server.away = True
    await known.learn([ADA])
    server.away, server.answer = False, {"device_keys": {}, "failures": {"home.org": {}}}
    await known.learn([ADA])
    assert known.trust(ADA, SENT_BY) is Trust.UNSIGNED
    server.answer = answered()
    await known.learn([ADA])
    assert len(server.asked) == 3
    assert known.trust(ADA, SENT_BY) is Trust.VERIFIED


async def test_only_the_device_that_sent_the_session_counts() -> None:
    """Keys of another device, or none, are vouched for by nothing; garbage of a server neither."""
    known = Identities(Server().call, US, SIGNING)
    await known.learn([ADA])
    for sent_by in (None, 3, {}, {"curve25519": "curve"}, {**SENT_BY, "ed25519": public(PHONE) + "x"}):
        assert known.trust(ADA, sent_by) is Trust.UNSIGNED
    assert known.trust("@ben:home.org", SENT_BY) is Trust.UNSIGNED
    answers: list[dict[str, Any]] = [{"device_keys": 3}, {"device_keys": {ADA: 3}, "failures": 3}]
    for garbage in (*answers, {"master_keys": []}):
        odd = Identities(Server(**garbage).call, US, SIGNING)
        await odd.learn([ADA])
        assert odd.trust(ADA, SENT_BY) is Trust.UNSIGNED


async def test_many_people_are_asked_for_in_parts_and_few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room of thousands makes requests of hundreds, and fills no memory."""
    monkeypatch.setattr(identities, "AT_ONCE", 3)
    monkeypatch.setattr(identities, "MOST", 4)
    server = Server()
    known = Identities(server.call, US, SIGNING)
    await known.learn([f"@{number}:home.org" for number in range(8)])
    assert [len(part) for part in server.asked] == [3, 3, 2]
    assert len(known._known) == 4
