"""What is decided about a bot of another community: by a policy, and by the grants of both sides. Pure.

Every check refuses or says nothing, so that leaving one out, or passing it, never allows what another
refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.document import Unreadable
from policies.grant import TRIAL_PER_DAY, Direction, Grant, Status
from policies.room import ANYONE
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.classes import Class
    from policies.decide import Request
    from policies.room import RoomPolicy


def asks(policy: RoomPolicy, request: Request) -> Verdict | None:
    """What in one policy speaks against asking `request.peer`."""
    if not _names(policy.ask_peers, request.peer):
        return Verdict(False, Code.NO_PEER, "policy.ask_peers", {"peer": request.peer}, "propose")
    if request.summary and not policy.with_summary:
        return Verdict(False, Code.SUMMARY_STAYS, "policy.with_summary", remedy="propose")
    if request.spoken and not policy.voice_may_leave:
        return Verdict(False, Code.VOICE_STAYS, "policy.voice_may_leave", remedy="type_it")
    for name, used in (
        ("peer_per_day", request.peer_today),
        ("peer_per_person_day", request.peer_person_today),
    ):
        limit: int | None = getattr(policy, name)
        if limit is not None and used >= limit:
            return Verdict(False, Code.PEER_QUOTA, f"policy.{name}", {"limit": limit}, "tomorrow")
    return _hops(policy, request) or _classes(request, policy.classes_out, "policy.classes_out")


def answers(policy: RoomPolicy, request: Request) -> Verdict | None:
    """What in one policy speaks against answering `request.peer`."""
    if not _names(policy.answer_peers, request.peer):
        return Verdict(False, Code.NO_PEER, "policy.answer_peers", {"peer": request.peer}, "propose")
    return _hops(policy, request) or _classes(request, policy.classes_in, "policy.classes_in")


def _names(peers: frozenset[str], peer: str) -> bool:
    return bool(peer) and (peer in peers or ANYONE in peers)


def _hops(policy: RoomPolicy, request: Request) -> Verdict | None:
    if request.hops <= policy.max_hops:
        return None
    return Verdict(False, Code.TOO_MANY_HOPS, "policy.max_hops", {"limit": policy.max_hops})


def _classes(request: Request, allowed: frozenset[Class], rule: str) -> Verdict | None:
    if request.cls is None:
        return Verdict(False, Code.UNCLASSIFIED, "hearth.classes", remedy="name_class")
    # Screens add classes and never take the declared one away: they can only raise the sensitivity.
    kept = sorted(({request.cls} | request.screened) - allowed)
    if not kept:
        return None
    return Verdict(False, Code.CLASS_STAYS, rule, {"classes": ", ".join(kept)}, "propose")


def granted(
    grants: Mapping[str, Grant | Unreadable],
    theirs: Grant | Unreadable | None,
    request: Request,
    now: int,
    *,
    asks: bool,
) -> Verdict | None:
    """What in the grants of both sides speaks against it.

    The peer's own grant for us is looked at where we ask; where it asks, it has looked at its own.
    """
    needed = Direction.ASK if asks else Direction.ANSWER
    refusal = _grant(grants.get(request.peer), request, now, needed, "grant")
    if refusal is not None or not asks:
        return refusal
    return _grant(theirs, request, now, Direction.ANSWER, "peer")


def _grant(
    grant: Grant | Unreadable | None, request: Request, now: int, needed: Direction, whose: str
) -> Verdict | None:
    remedy = "propose" if whose == "grant" else "ask_them"
    if grant is None:
        return Verdict(False, Code.NO_GRANT, f"{whose}.missing", {"peer": request.peer}, remedy)
    if isinstance(grant, Unreadable):
        return Verdict(False, Code.UNREADABLE, f"{whose}.document", {"problem": str(grant)}, remedy)
    refusal = _standing(grant, now, needed, whose) or _use(grant, request, whose)
    if refusal is None:
        return None
    by = {"decided_by": grant.decided_by} if grant.decided_by else {}
    return Verdict(False, refusal.code, refusal.rule, {**refusal.params, **by}, refusal.remedy or remedy)


def _standing(grant: Grant, now: int, needed: Direction, whose: str) -> Verdict | None:
    """What in the grant itself speaks against using it now."""
    if grant.status not in (Status.ACTIVE, Status.TRIAL):
        return Verdict(False, Code.SUSPENDED, f"{whose}.status", {"status": str(grant.status)})
    if now < grant.not_before:
        return Verdict(False, Code.NOT_YET, f"{whose}.not_before", {"from": grant.not_before})
    if now >= grant.until:
        return Verdict(False, Code.ENDED, f"{whose}.until", {"until": grant.until})
    if not grant.direction.covers(needed):
        return Verdict(False, Code.OTHER_DIRECTION, f"{whose}.direction")
    return None


def _use(grant: Grant, request: Request, whose: str) -> Verdict | None:
    """What in the grant speaks against this use of it. The peer's keys are pinned in our own grant."""
    pinned = grant.app_ed25519
    if whose == "grant" and not (pinned and pinned == request.peer_key):
        return Verdict(False, Code.KEY_CHANGED, f"{whose}.app_ed25519")
    per_day = grant.per_day
    if grant.status is Status.TRIAL:
        per_day = TRIAL_PER_DAY if per_day is None else min(per_day, TRIAL_PER_DAY)
    if request.collection and request.collection not in grant.notes:
        return Verdict(False, Code.NOTES_STAY, f"{whose}.notes", {"collection": request.collection})
    if per_day is not None and request.peer_today >= per_day:
        return Verdict(False, Code.PEER_QUOTA, f"{whose}.per_day", {"limit": per_day}, "tomorrow")
    return _classes(request, grant.classes, f"{whose}.classes")
