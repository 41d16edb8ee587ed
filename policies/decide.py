"""`decide`: the one place where anything that Hearth does is allowed or refused.

    allowed = by whoever runs the bot, and the room, and the room's grant for a peer, and the peer's for us

Pure: no clock, no network, no database; everything it needs is an argument, everything that it says is
data. The words, in the person's language, are made in `bots/`. Promises that taking a permission away
never allows more, that it never raises, and that what cannot be read or is not known is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from policies import peers
from policies.document import Standing, Unreadable, limits_of
from policies.grant import Grant
from policies.room import Answers, Mode, RoomPolicy, Trust, Voice, covers
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.classes import Class

LOOP_WINDOW_MS = 60_000
LOOP_BUDGET = 20
"""Messages of one account to the bot in one window before it falls silent (openclaw: 20 in 60 s)."""


class Deed(StrEnum):
    """What is asked to be done."""

    ANSWER = "answer"
    TRANSCRIBE = "transcribe"
    """Listen to a recording, and say what was heard."""
    SHOW_UNASKED = "show_unasked"
    """Write down in the place what was heard there and what nobody asked us to hear."""
    READ_NOTES = "read_notes"
    """Read a collection of notes for an answer to a person here, or to a peer."""
    ASK_PEER = "ask_peer"
    """Send a question of this place to a bot of another community."""
    ANSWER_PEER = "answer_peer"
    """Answer what a bot of another community asks."""
    COMMAND = "command"
    SET_POLICY = "set_policy"
    """Change what the place allows, by command."""
    PROPOSE = "propose"
    """Put something to the vote, or vote."""
    BRAKE = "brake"
    """Stop at once what was allowed with a peer: a moderator's word, or that of several members."""
    STOP = "stop"
    FORGET_ROOM = "forget_room"
    VERIFY = "verify"
    """Say whether the bot and somebody show the same signs."""


MODERATOR_POWER = 50
"""Matrix: the level that may redact others by default (spec, `m.room.power_levels`)."""
OF_PEERS: Final = frozenset({Deed.ASK_PEER, Deed.ANSWER_PEER})
"""What is done with bots of other communities."""
OF_MEMBERS: Final = frozenset({Deed.PROPOSE, Deed.BRAKE})
"""What a member may do whatever the room's document says: nobody can be shut out of deciding by deciding."""
ALWAYS: Final = OF_MEMBERS | {Deed.COMMAND, Deed.STOP, Deed.FORGET_ROOM, Deed.SET_POLICY, Deed.VERIFY}
"""What explains, ends, erases or mends. It works where the room's document cannot be read, too: people must
be able to find out, to stop, and to go on."""


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks for what, with the facts that the policy may look at.

    `asked_today` and `place_today` count answered questions in the last 24 hours;
    `recent` counts this account's messages to the bot in this place in the last minute; `age_ms` and
    `max_age_ms` say how old the question is and how old it may be; `owner` is whose answer a
    `STOP` would end; `unasked` marks what nobody addressed to us, of which a refusal is never
    said aloud. `policy_power` is the power that writing the room's policy takes; `ruled_by_members`: a
    mere member has what writing it, or a grant, takes. `remote_model`: the answer would be made on another
    machine; `trust`: what vouches for the asker's device; `admin`: the settings name the asker as such;
    `collection`: the notes that would be read.

    For peers: `peer` is `bot:server`, `peer_key` the key that it shows now; `cls` is the class that was
    declared, `screened` those that the screens or the model have found in the words; `summary` and `spoken`
    say that a summary of the talk, or what was spoken, would go along; `hops` counts how often the question
    may be, or was, passed on; `peer_today` and `peer_person_today` count questions in the last 24 hours.
    `asked_before`: only whether what was asked may still go on is meant, so that quiet time does not count.
    """

    deed: Deed
    asker: str
    asker_is_bot: bool = False
    power: int = 0
    direct: bool = False
    asked_today: int = 0
    place_today: int = 0
    recent: int = 0
    age_ms: int = 0
    max_age_ms: int | None = None
    owner: str | None = None
    unasked: bool = False
    policy_power: int = MODERATOR_POWER
    ruled_by_members: bool = False
    remote_model: bool = False
    trust: Trust = Trust.UNSIGNED
    admin: bool = False
    collection: str = ""
    peer: str = ""
    peer_key: str = ""
    cls: Class | None = None
    screened: frozenset[Class] = field(default_factory=frozenset)
    summary: bool = False
    spoken: bool = False
    hops: int = 0
    peer_today: int = 0
    peer_person_today: int = 0
    asked_before: bool = False


def decide(
    policy: RoomPolicy,
    grants: Mapping[str, Grant | Unreadable],
    request: Request,
    now: int,
    *,
    room: Standing | None = None,
    theirs: Grant | Unreadable | None = None,
) -> Verdict:
    """Judge `request` at `now` (ms since the epoch). Total: never raises, and unknown is refused.

    `policy` is what whoever runs the bot allows at most, `room` the room's own document (None: it has none),
    `grants` those of the room by peer, `theirs` the peer's signed grant for us. All of them must allow; the
    rule of a verdict begins with `policy.`, `room.`, `grant.` or `peer.` by whose it is, or with `hearth.`.
    """
    verdict = _judge(policy, request, now)
    if not verdict.allowed and request.deed in OF_PEERS and verdict.remedy == "propose":
        # No vote of a room changes what whoever runs the bot has set.
        return replace(verdict, remedy="ask_operator_policy")
    if not verdict.allowed or request.deed in OF_MEMBERS:
        return verdict
    wish = limits_of(room)
    if isinstance(wish, Unreadable):
        broken = Verdict(False, Code.UNREADABLE, "room.document", {"problem": str(wish)})
        return verdict if request.deed in ALWAYS else _of(room, broken, "room_policy", broken.rule)
    own = _judge(wish, request, now)
    if not own.allowed:
        remedy = "room_policy" if wish.mode is Mode.ADMIN else "propose"
        if own.code is Code.NOT_VOUCHED:  # here it is the asker who can mend it
            remedy = own.remedy
        return _of(room, own, remedy, own.rule.replace("policy.", "room.", 1))
    if request.deed in OF_PEERS or _is_of_peer(request):
        asks = request.deed is Deed.ASK_PEER
        refusal = _unsafe(request) or peers.granted(grants, theirs, request, now, asks=asks)
        return refusal or (_granted(grants, request, policy, wish) if asks else verdict)
    return verdict


def _is_of_peer(request: Request) -> bool:
    """Whether a bot of another community asks, which is no member: its grant says what it may."""
    return request.deed is Deed.ANSWER_PEER or (request.deed is Deed.READ_NOTES and bool(request.peer))


def _of(room: Standing | None, verdict: Verdict, remedy: str, rule: str) -> Verdict:
    """A refusal by a `rule` of the room's own document: who set it and when, and what would change it."""
    by: dict[str, int | str] = {} if room is None else {"set_by": room.set_by, "set_at": room.set_at}
    return Verdict(verdict.allowed, verdict.code, rule, {**verdict.params, **by}, remedy)


def _unsafe(request: Request) -> Verdict | None:
    """A room whose documents any member could write decides nothing about other communities."""
    if not request.ruled_by_members:
        return None
    needed: dict[str, int | str] = {"needed": MODERATOR_POWER}
    return Verdict(False, Code.UNSAFE_ROOM, "hearth.policy_power", needed, "policy_setup")


def _granted(
    grants: Mapping[str, Grant | Unreadable], request: Request, policy: RoomPolicy, wish: RoomPolicy
) -> Verdict:
    """A question may leave: by which grant, decided by what, until when; and whether it is shown before."""
    strictest = policy.preview if wish.preview.allows(policy.preview) else wish.preview
    grant = grants[request.peer]
    by: dict[str, int | str] = {}
    if isinstance(grant, Grant):  # else nothing was allowed
        by = {"peer": grant.peer, "decided_by": grant.decided_by, "until": grant.until}
    return Verdict(True, Code.ALLOWED, "grant.classes", {**by, "preview": str(strictest)})


def _judge(policy: RoomPolicy, request: Request, now: int) -> Verdict:
    """What one policy says."""
    return _account(policy, request) or _deed(policy, request, now)


def _account(policy: RoomPolicy, request: Request) -> Verdict | None:
    """What speaks against this account, whatever it asks for."""
    if request.asker_is_bot and not _is_of_peer(request):
        return Verdict(False, Code.BOT, "hearth.bots_are_not_answered")
    if request.recent > LOOP_BUDGET:
        return Verdict(
            False,
            Code.LOOP,
            "hearth.loop_budget",
            {"limit": LOOP_BUDGET, "seconds": LOOP_WINDOW_MS // 1000},
            "wait",
        )
    if _is_of_peer(request):
        return None  # a peer is no member; `answer_peers` and the grant say whether it may
    if not policy.admits(request.asker):
        return Verdict(False, Code.NOT_AN_ASKER, "policy.askers", {"asker": request.asker}, "ask_admin")
    return None


def _deed(  # noqa: C901, PLR0911 - a table of deeds
    policy: RoomPolicy, request: Request, now: int
) -> Verdict:
    match request.deed:
        case Deed.ANSWER:
            return _answer(policy, request, now)
        case Deed.TRANSCRIBE | Deed.SHOW_UNASKED:
            return _transcribe(policy, request, now)
        case Deed.READ_NOTES:
            return _read_notes(policy, request)
        case Deed.ASK_PEER:
            return peers.asks(policy, request) or _answer(policy, request, now)
        case Deed.ANSWER_PEER:
            return peers.answers(policy, request) or _allowed("policy.answer_peers")
        case Deed.COMMAND:
            return _in_time(request) or _allowed("policy.askers")
        case Deed.SET_POLICY:
            return _set_policy(request)
        case Deed.PROPOSE:
            return _in_time(request) or _allowed("hearth.propose")
        case Deed.BRAKE:
            return _allowed("hearth.brake")
        case Deed.STOP:
            return _stop(request)
        case Deed.FORGET_ROOM:
            return _forget_room(request)
        case Deed.VERIFY:
            return _verify(request)
    return Verdict(False, Code.UNKNOWN, "hearth.default_deny")


def _allowed(rule: str) -> Verdict:
    return Verdict(True, Code.ALLOWED, rule)


def _stop(request: Request) -> Verdict:
    if request.owner == request.asker or request.power >= MODERATOR_POWER:
        return _allowed("hearth.stop")
    return Verdict(False, Code.NOT_YOURS, "hearth.stop", remedy="ask_moderator")


def _forget_room(request: Request) -> Verdict:
    if request.direct or request.power >= MODERATOR_POWER:
        return _allowed("hearth.forget_room")
    return Verdict(False, Code.NOT_A_MODERATOR, "hearth.forget_room", remedy="ask_moderator")


def _verify(request: Request) -> Verdict:
    if not request.admin:
        return Verdict(False, Code.NOT_AN_ADMIN, "hearth.verify", remedy="name_admins")
    if not Trust.SIGNED.allows(request.trust):
        # What is compared is compared because the server is not believed; it must not be able to say yes.
        params: dict[str, int | str] = {"needed": str(Trust.SIGNED), "trust": str(request.trust)}
        return Verdict(False, Code.NOT_VOUCHED, "hearth.verify", params, "be_signed")
    return _allowed("hearth.verify")


def _set_policy(request: Request) -> Verdict:
    if request.power >= request.policy_power:
        return _allowed("hearth.set_policy")
    needed: dict[str, int | str] = {"needed": request.policy_power, "power": request.power}
    return Verdict(False, Code.NOT_ENOUGH_POWER, "hearth.set_policy", needed, "propose")


def _in_time(request: Request) -> Verdict | None:
    if request.max_age_ms is not None and request.age_ms > request.max_age_ms:
        return Verdict(
            False,
            Code.EXPIRED,
            "matrix.max_age",
            {"minutes": request.age_ms // 60_000, "limit": request.max_age_ms // 60_000},
            "ask_again",
        )
    return None


def _answer(policy: RoomPolicy, request: Request, now: int) -> Verdict:
    return (
        _in_time(request)
        or _addressed(policy, request)
        or _now(policy, request, now)
        or _quota(policy, request)
        or _allowed("policy.askers")
    )


def _addressed(policy: RoomPolicy, request: Request) -> Verdict | None:
    if request.power < policy.min_power:
        needed: dict[str, int | str] = {"needed": policy.min_power, "power": request.power}
        return Verdict(False, Code.NOT_ENOUGH_POWER, "policy.min_power", needed, "ask_moderator")
    if not request.asked_before and not policy.asker_trust.allows(request.trust):
        remedy = "be_verified" if policy.asker_trust is Trust.VERIFIED else "be_signed"
        params: dict[str, int | str] = {"needed": str(policy.asker_trust), "trust": str(request.trust)}
        return Verdict(False, Code.NOT_VOUCHED, "policy.asker_trust", params, remedy)
    if policy.answers is Answers.DIRECT and not request.direct:
        return Verdict(False, Code.NOT_HERE, "policy.answers", remedy="write_directly")
    if request.unasked and request.deed is Deed.ANSWER and policy.answers is not Answers.ALL:
        return Verdict(False, Code.UNASKED, "policy.answers")
    return None


def _now(policy: RoomPolicy, request: Request, now: int) -> Verdict | None:
    if request.asked_before:
        return None
    until = policy.quiet_until(now) if policy.quiet else None
    if until is not None:
        return Verdict(False, Code.QUIET, "policy.quiet", {"until": until}, "later")
    if request.remote_model and not policy.remote_model:
        return Verdict(False, Code.REMOTE_MODEL, "policy.remote_model", remedy="allow_remote")
    return None


def _quota(policy: RoomPolicy, request: Request) -> Verdict | None:
    for code, name, used in (
        (Code.PERSON_QUOTA, "per_person_day", request.asked_today),
        (Code.PLACE_QUOTA, "per_place_day", request.place_today),
    ):
        limit: int | None = getattr(policy, name)
        if limit is not None and used >= limit:
            return Verdict(False, code, f"policy.{name}", {"limit": limit}, "tomorrow")
    return None


def _read_notes(policy: RoomPolicy, request: Request) -> Verdict:
    if not any(covers(pattern, request.collection) for pattern in policy.notes):
        params: dict[str, int | str] = {"collection": request.collection}
        return Verdict(False, Code.NOTES_STAY, "policy.notes", params, "ask_operator_policy")
    refusal = peers.answers(policy, request) if request.peer else None
    return refusal or _allowed("policy.notes")


def _transcribe(policy: RoomPolicy, request: Request, now: int) -> Verdict:
    unasked = request.unasked or request.deed is Deed.SHOW_UNASKED
    needed = Voice.ALL if request.deed is Deed.SHOW_UNASKED else Voice.NAMED if unasked else Voice.ASKED
    if not policy.voice.allows(needed):
        if unasked:
            return Verdict(False, Code.UNASKED, "policy.voice")
        return Verdict(False, Code.VOICE_OFF, "policy.voice", remedy="turn_on_voice")
    return _answer(policy, request, now)


RULES: Final = frozenset(
    {
        *(f"{whose}.{name}" for whose in ("policy", "room") for name in RoomPolicy.model_fields),
        *(f"{whose}.{name}" for whose in ("grant", "peer") for name in Grant.model_fields),
        *("room.document", "grant.document", "peer.document", "grant.missing", "peer.missing"),
        *("hearth.bots_are_not_answered", "hearth.loop_budget", "hearth.default_deny", "hearth.stop"),
        *("hearth.forget_room", "hearth.set_policy", "hearth.propose", "hearth.brake"),
        "hearth.verify",
        *("hearth.policy_power", "hearth.classes", "matrix.max_age"),
    }
)
"""Every rule that a verdict of `decide` can name."""
