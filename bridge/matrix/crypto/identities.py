"""What the homeserver publishes of people's devices and identities, asked once and kept while it holds.

Owns a bounded memory of answers of `/keys/query`, person by person. Promises to ask for somebody again after
the sync has told that their devices changed. Refuses to guess: nothing vouches for whom nothing is known of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from bridge.matrix.crypto import trust as chain
from bridge.matrix.errors import LoggedOut
from bridge.platform import PlatformError
from policies.room import Trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.matrix.crypto.sas import Party
    from bridge.matrix.identity import Caller

log = structlog.get_logger(__name__)

MOST: Final = 2_000
"""People whose keys are kept."""
AT_ONCE: Final = 200
"""People whom one request asks for."""
_PARTS: Final = ("device_keys", "master_keys", "self_signing_keys")
_NOTHING: Final[Mapping[str, Any]] = {}


class Identities:
    """Of one connection. `user_signing` is our public user-signing key; `""`: we have no identity."""

    def __init__(self, call: Caller, us: str, user_signing: str) -> None:
        self._call = call
        self._us = us
        self._user_signing = user_signing
        self._known: dict[str, Mapping[str, Any]] = {}

    async def learn(self, users: Iterable[str]) -> None:
        """Ask for whom nothing is known yet. What cannot be had now is asked for the next time."""
        missing = sorted(set(users) - self._known.keys())
        for at in range(0, len(missing), AT_ONCE):
            some = missing[at : at + AT_ONCE]
            try:
                wanted: dict[str, list[str]] = {user: [] for user in some}
                told = await self._call("POST", ("v3", "keys", "query"), {"device_keys": wanted})
            except LoggedOut:
                raise
            except PlatformError as error:
                log.warning("identities_not_learnt", people=len(some), error=str(error))
                return
            away = told.get("failures")
            for user in some:
                of_user = {part: {user: _of(told, part, user)} for part in _PARTS}
                if of_user["device_keys"][user] is None and isinstance(away, dict) and away:
                    continue  # their server could not be asked
                self._known[user] = of_user
        while len(self._known) > MOST:
            self._known.pop(next(iter(self._known)))

    def forget(self, users: Iterable[str]) -> None:
        """Their keys may be others now."""
        for user in users:
            self._known.pop(user, None)

    def keys_of(self, user: str) -> Mapping[str, Any]:
        """What is known of one person, in the shape of an answer of `/keys/query`."""
        return self._known.get(user, _NOTHING)

    def party(self, user: str, device: str) -> Party | None:
        """One side of a verification; None where the device has no key that can be compared."""
        return chain.party_of(self.keys_of(user), user, device)

    def trust(self, user: str, sent_by: object) -> Trust:
        """What vouches for the device that has the two keys in `sent_by` (`Client.opened`)."""
        if not isinstance(sent_by, dict):
            return Trust.UNSIGNED
        keys = self.keys_of(user)
        curve25519, ed25519 = str(sent_by.get("curve25519")), str(sent_by.get("ed25519"))
        device = chain.device_of(keys, user, curve25519=curve25519, ed25519=ed25519)
        if device is None:
            return Trust.UNSIGNED
        return chain.trust(keys, user, device, us=self._us, user_signing=self._user_signing)


def _of(told: Mapping[str, Any], part: str, user: str) -> Any:
    people = told.get(part)
    return people.get(user) if isinstance(people, dict) else None
