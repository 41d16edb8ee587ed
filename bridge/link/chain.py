"""Who passed something on: the path of an envelope, proven by the signed envelopes before it. Pure.

    A --ask 1, hops 1--> B --ask 2, hops 0, path [A, digest of 1]--> C

C receives ask 2 with the signed header of ask 1, and takes it only if every step is the next one of the step
before, and if every one is signed by the key that C itself has pinned for that community. So no one in the
middle can take a step out, put one in, or give more hops than were left. What no receiver can see is a
community that asks again in its own name; that is its own ask then, under its own grant.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from bridge.link.bodies import Kind
from bridge.link.codes import Code
from bridge.link.envelope import MOST_HOPS, SKEW_MS, is_well_formed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.link.envelope import Header, Signed


def wrong_path(  # noqa: PLR0911 - one for each thing that can be wrong
    signed: Signed, chain: tuple[Signed, ...], us: str, keys: Mapping[str, str]
) -> Code | None:
    """What is wrong with how `signed` came here, or None. `keys`: the pinned key of each community."""
    header = signed.header
    communities = [*(hop.community for hop in header.path), header.sender]
    if us in communities or len(set(communities)) < len(communities):
        return Code.LOOP
    if header.hops + len(header.path) > MOST_HOPS:
        return Code.HOPS_EXCEEDED
    if [(one.header.sender, one.digest) for one in chain] != [(h.community, h.sha256) for h in header.path]:
        return Code.PATH_BROKEN
    for at, (before, after) in enumerate(pairwise((*chain, signed))):
        if header.kind is Kind.ASK and after.header.hops >= before.header.hops:
            return Code.HOPS_EXCEEDED
        if before.header.path != header.path[:at] or not _follows(before.header, after.header):
            return Code.PATH_BROKEN
        key = keys.get(before.header.sender, "")
        if not key:
            return Code.UNKNOWN_KEY
        if not before.is_by(key):
            return Code.BAD_SIGNATURE
    return None


def _follows(before: Header, after: Header) -> bool:
    """Whether `before` was sent to who sent `after`, is of its kind, not younger, and lives as long."""
    return (
        is_well_formed(before)
        and before.kind is after.kind
        and before.to == after.sender
        and before.iat <= after.iat + SKEW_MS
        and after.exp <= before.exp
    )
