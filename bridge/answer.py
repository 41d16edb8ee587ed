"""Pure decisions of the router: what an event is, what a turn asks of the policy, what it does.

Nothing here waits, sends, stores or looks at a clock.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from bots.asking import called, preview_answer, spoken_ask
from bots.base import Peer
from bots.commands import CommandName, is_ear, is_sign, parse, strip_mention, wants_more
from bots.conversation import Keyed, OpenLink, PlaceKind, Redact, Revise, Role, Say, TurnKind, action_key
from bridge.journal import LONG, Admission
from bridge.platform import EventKind
from policies.decide import Deed, Request
from policies.document import limits_of
from policies.room import Answers, RoomPolicy, Voice
from policies.screens import screen
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bots.commands import Command
    from bots.conversation import Message, PutState, Turn, Upload
    from bridge.journal import Claimed, Counters, Known
    from bridge.platform import Event

CHAT = "chat"
STEWARD = "steward"
SCRIBE = "scribe"
ENVOY = "envoy"
STOP = "stop"
BRAKE = "brake"
ENVELOPE = "envelope"
_OF_THE_ROOM = frozenset({CommandName.PROPOSE, CommandName.VOTE, CommandName.RECOUNT})
_OF_THE_ENVOY = frozenset({CommandName.ASK, CommandName.LINK, CommandName.PROOF, CommandName.AUDIT})
NEWS = (EventKind.JOINED, EventKind.POLICY, EventKind.GRANT, EventKind.ENVELOPE, EventKind.VERIFICATION)
CONFIRMED = frozenset({STEWARD, ENVOY})
"""Bots that wait for a yes or a no to what they offered."""
TALK = "\x1ftalk"

OF_THE_SCRIBE = frozenset(
    {CommandName.TRANSCRIBE, CommandName.TRANSCRIPT, CommandName.SUMMARY, CommandName.ALT}
)

REST = "rest"
"""In the state of a turn that waits: the words of its answer that were held back (Markdown)."""

LISTENING = (Voice.NAMED, Voice.ALL)

LONG_SOUND_MS = 60_000
"""A recording above this is long work, which does not hold up the talk of its room."""
LONG_SOUND_BYTES = 500_000
"""About a minute of common formats; counts where the sender announced no duration."""

PROGRESS_EDITS = 11
"""Edits of a draft before the final one; with it, twelve (a message of a thousand edits kills clients)."""


def judge(  # noqa: C901, PLR0911 - a table of what can arrive
    event: Event, known: Known, *, own_id: str, own_name: str, voice: Voice, links: bool = False
) -> Admission:
    """T1: work for a bot, a control, or context.

    A message is ours if the platform says so (mention, direct room), if it replies to what we
    said, or if it is one of our commands. Commands need no mention, because `!why` is a reply to
    anybody's message; an unknown `!word` is ours only if it is addressed to us. What is spoken is
    ours too where the place wants all of it listened to (`voice`). `links`: there is an envoy.
    """
    lane = lane_of(event.place, event.thread)
    if event.kind in NEWS:
        return _news(event, known, lane)
    addressed = event.addressed or known.replies_to_us or known.waiting_turn is not None
    command = parse(event.text, own_id=own_id, own_name=own_name)
    if known.place is not None and known.place.links is not None:
        # No place to chat, nor to command: people of the other community sit there, and it gives them power.
        return Admission()
    if _takes_up(event, known, command):
        return Admission(known.waiting_bot, lane, takes_up=True)
    if event.kind is EventKind.REACTION or (command is not None and command.name in OF_THE_SCRIBE):
        heed = command is not None or (known.about is not None and is_ear(event.text))
        return _listening(event, known) if heed else Admission()
    if command is not None and _is_control(command):
        return Admission(control=str(command.name))
    if command is not None and command.name in _OF_THE_ROOM:
        # One after the other in the whole room, so that two proposals on one matter see each other.
        whole = lane_of(event.place, None)
        return Admission(STEWARD, whole, votes=command.name == CommandName.VOTE)
    if links and _is_for_the_envoy(
        event, known, command, addressed=addressed, own_id=own_id, own_name=own_name
    ):
        return Admission(ENVOY, lane)
    if command is not None and (addressed or command.name != CommandName.UNKNOWN):
        return Admission(STEWARD, lane)
    if known.about is not None and known.about.id == event.id and (addressed or voice in LISTENING):
        return _listening(event, known, unasked=not addressed)
    if not event.text.strip() or not (addressed or _answers_all(event, known)):
        return Admission()
    return Admission(CHAT, lane, unasked=not addressed)


def _news(event: Event, known: Known, lane: str) -> Admission:
    """What is no message: an envelope is a control; of a place that we joined, or its rules, people are told.

    A room that we were in before our first start has been greeted, or does not want to be. Joining is our own
    event, while of a policy that we set ourselves everybody has been told. A link room is no place to chat.
    """
    if event.kind is EventKind.ENVELOPE:
        return Admission() if event.own or event.context_only else Admission(control=ENVELOPE)
    silent = event.context_only or (event.own and event.kind is not EventKind.JOINED)
    silent |= known.place is not None and known.place.links is not None
    return Admission() if silent else Admission(STEWARD, lane)


def _takes_up(event: Event, known: Known, command: Command | None) -> bool:
    """Whether it answers what a bot has offered: in words, or by a sign on that."""
    if known.waiting_turn is None or known.waiting_bot not in CONFIRMED:
        return False
    if event.kind is EventKind.REACTION:
        return is_sign(event.text)
    # What replies to an answer with an offer at its end is about the answer, unless it says yes or no.
    return command is None and (not known.waiting_offer or preview_answer(event.text) is not None)


def _is_for_the_envoy(
    event: Event, known: Known, command: Command | None, *, addressed: bool, own_id: str, own_name: str
) -> bool:
    """Whether it asks for a peer, by a command, or in plain words for one that this place has a grant for."""
    if command is not None:
        return command.name in _OF_THE_ENVOY
    grants = () if known.place is None else known.place.place.grants
    names = [name for peer, _ in grants for name in called(Peer(peer))]
    return addressed and spoken_ask(strip_mention(event.text, own_id, own_name), names) is not None


def _answers_all(event: Event, known: Known) -> bool:
    """Whether the room has every message answered; what replies to somebody is for that person."""
    if known.place is None or event.reply_to is not None or event.kind is not EventKind.MESSAGE:
        return False
    wish = limits_of(known.place.place.policy)
    return isinstance(wish, RoomPolicy) and wish.answers is Answers.ALL


def _is_control(command: Command) -> bool:
    """Whether a command waits in no lane; a brake that names nobody is a question how to."""
    return command.name is CommandName.STOP or (command.name is CommandName.BRAKE and bool(command.argument))


def _listening(event: Event, known: Known, *, unasked: bool = False) -> Admission:
    lane = lane_of(event.place, event.thread, long=is_long(known.about))
    return Admission(SCRIBE, lane, unasked=unasked)


def lane_of(place: str, thread: str | None, *, long: bool = False) -> str:
    """Turns of one lane run one after the other; long work does not hold up talk."""
    return "\x1f".join((place, thread or "")) + (LONG if long else TALK)


def is_long(about: Message | None) -> bool:
    """Whether listening to a message is long work, by what its sender announced."""
    sound = None if about is None else next((one for one in about.attachments if one.has_sound), None)
    if sound is None:
        return False
    if sound.duration_ms is not None:
        return sound.duration_ms > LONG_SOUND_MS
    return sound.size is None or sound.size > LONG_SOUND_BYTES


TO_EVERYBODY = (TurnKind.WELCOME, TurnKind.POLICY, TurnKind.VERIFICATION)
"""Kinds of turns that are said to the whole place and reply to nothing."""
DEEDS = {CHAT: Deed.ANSWER, SCRIBE: Deed.TRANSCRIBE, STEWARD: Deed.COMMAND, ENVOY: Deed.COMMAND}


def request_for(
    claimed: Claimed, *, max_age_ms: int | None, own_name: str = "", remote_model: bool = False
) -> Request:
    """What a turn asks of the policy. `remote_model`: the model runs on another machine."""
    turn = claimed.turn
    command = parse(turn.message.text, own_id=turn.place.account, own_name=own_name)
    votes = turn.bot == STEWARD and command is not None and command.name in _OF_THE_ROOM
    return Request(
        deed=Deed.PROPOSE if votes else DEEDS[turn.bot],
        asker=turn.asker.id,
        asker_is_bot=turn.asker.is_bot,
        power=turn.asker.power,
        direct=turn.place.kind is PlaceKind.DIRECT,
        unasked=turn.unasked,
        asked_today=claimed.counters.asked_today,
        place_today=claimed.counters.place_today,
        recent=claimed.counters.recent,
        age_ms=claimed.age_ms,
        max_age_ms=max_age_ms,
        policy_power=claimed.facts.policy_power,
        ruled_by_members=claimed.facts.ruled_by_members,
        remote_model=remote_model,
        trust=claimed.trust,
    )


def remembering(turn: Turn, policy: RoomPolicy, now: int) -> Turn:
    """`turn` with so much of what was said before as the place lets be read for an answer."""
    count, hours = policy.memory_messages, policy.memory_hours
    since = None if hours is None else now - hours * 3_600_000
    kept = tuple(said for said in turn.context if since is None or said.sent_at >= since)
    return replace(turn, context=kept if count is None else kept[len(kept) - min(count, len(kept)) :])


def screened(claimed: Claimed) -> dict[str, float | int | str]:
    """What a question is about, for `!policy rehearse`: its classes, how many members it names; no words."""
    text = claimed.turn.message.text
    words = frozenset(re.findall(r"\w+", text.casefold()))
    own = claimed.turn.place.account
    names = sum(
        1
        for one in claimed.facts.members
        if one.id != own and not words.isdisjoint(re.findall(r"\w{3,}", one.name.casefold()))
    )
    return {"screened": ",".join(sorted(screen(text))), "names": names}


def needs_no_request(turn: Turn) -> bool:
    """Whether a turn is ours to take without asking: nobody asked for it, and it answers nobody.

    What came of a question to a peer was judged when it came; a person asks for nothing by it.
    """
    return turn.kind in (*TO_EVERYBODY, TurnKind.DEADLINE) or _came_back(turn)


def _came_back(turn: Turn) -> bool:
    return turn.kind is TurnKind.ANSWERED and "from" in turn.waited


def continuation(turn: Turn) -> str | None:
    """The words that were held back of a long answer, if `turn` asks for them.

    `""`: they were not asked for in time. None: this turn is something else.
    """
    rest = turn.waited.get(REST)
    if not isinstance(rest, str):
        return None
    if turn.kind is TurnKind.DEADLINE:
        return ""
    return rest if turn.kind is TurnKind.ANSWERED and wants_more(turn.message.text) else None


def speaks(
    verdict: Verdict, counters: Counters, *, unasked: bool = False, refusals_per_day: int | None = None
) -> bool:
    """Whether a refusal is said aloud: not to bots, not about old questions, and a loop once a minute.

    Nobody asked for what is `unasked`, so nobody is told of its refusal. On a public network a person
    is refused aloud so many times a day, and then in silence.
    """
    if unasked or (refusals_per_day is not None and counters.refused_today >= refusals_per_day):
        return False
    match verdict.code:
        case Code.BOT | Code.EXPIRED:
            return False
        case Code.LOOP:
            return counters.loop_notices == 0
        case _:
            return True


def say(turn: Turn, text: str, *, notice: bool = False) -> Say:
    """The words of a turn, where and to whom they belong.

    In its thread, else as a reply. In a room of many the asker is mentioned, and nobody else, and what
    was heard replies to the voice message that it is about.
    """
    message = turn.message
    group = turn.place.kind is PlaceKind.GROUP
    replied_to = turn.about.id if group and turn.bot == SCRIBE and turn.about is not None else message.id
    if message.sign_on is not None and turn.kind is TurnKind.ANSWERED:
        replied_to = message.sign_on  # clients show no reply to a reaction
    to_everybody = turn.kind in TO_EVERYBODY
    mention = group and not notice and not to_everybody
    return Say(
        text=text,
        reply_to=None if to_everybody else replied_to,
        thread=None if to_everybody else message.thread,
        mentions=(message.sender.id,) if mention else (),
        notice=notice,
    )


def plan(
    turn: Turn,
    parts: Sequence[str],
    *,
    notice: bool = False,
    unasked: bool = False,
    draft_key: str | None = None,
    said: Sequence[str] = (),
    files: Sequence[Upload] = (),
    state: Sequence[PutState] = (),
    link: str = "",
    closes: tuple[str, str] | None = None,
) -> tuple[Keyed, ...]:
    """The actions of a settled turn.

    Without a draft every part is said. With a draft (or, for an edited question, with what was
    `said` before) the common parts are revised, what is more is said, the surplus is taken back.
    Files come last: each is put on the server, then shown; then what is set in the room's state, and the
    room that is shared with the peer `link`. `closes`: what the words of the turn before (a key) become.
    """
    standing = [draft_key] if draft_key is not None else list(said)
    actions: list[Keyed] = []
    before: str | None = None
    for index, part in enumerate(parts):
        words = replace(say(turn, part, notice=notice), unasked=unasked)
        if index < len(standing):
            revise = Revise(standing[index], part, words.mentions, notice)
            actions.append(Keyed(revise, Role.FINAL, index))
        else:
            # Only the first part calls the asker; a long answer is one call, not five.
            mentions = words.mentions if index == 0 else ()
            actions.append(Keyed(replace(words, mentions=mentions, follows=before), Role.ANSWER, index))
        before = standing[index] if index < len(standing) else _key(turn, Role.ANSWER, index)
    actions += [
        Keyed(Redact(key), Role.REDACT, index) for index, key in enumerate(standing) if index >= len(parts)
    ]
    for index, file in enumerate(files):
        shown = say(turn, file.name)
        actions.append(Keyed(file, Role.FILE, index))
        show = Say(file.name, shown.reply_to, shown.thread, upload=_key(turn, Role.FILE, index))
        actions.append(Keyed(show, Role.ANSWER, max(len(parts), len(standing)) + index))
    actions += [Keyed(one, Role.STATE, index) for index, one in enumerate(state)]
    if closes is not None:
        actions.append(Keyed(Revise(*closes, notice=True), Role.FINAL, len(parts)))
    if link:
        actions.append(Keyed(OpenLink(link, (turn.asker.id,)), Role.LINK))
    return tuple(actions)


def _key(turn: Turn, role: Role, index: int) -> str:
    return action_key(turn.place.account, turn.place.id, turn.bot, turn.cause, role, index)


def next_edit(edits: int) -> float:
    """Seconds between progress edit `edits` and the one after it: at least one, growing.

    1.0 1.3 1.7 2.2 ... 13.8: eleven edits cover about a minute, quick at first, when it matters.
    """
    return float(1.3**edits)


def edit_is_due(edits: int, since: float, done: float | None) -> bool:
    """Whether progress edit number `edits` (from 0) may be made `since` seconds after the last one.

    Where it is known how far the work has come (`done`, 0 to 1), the edits are spread evenly over it.
    """
    if edits >= PROGRESS_EDITS:
        return False
    if done is None:
        return since >= next_edit(edits)
    return since >= 1.0 and done * (PROGRESS_EDITS + 1) >= edits + 1


def owner_to_stop(
    message: Message, candidates: Sequence[tuple[int, str]], *, may_stop_others: bool
) -> tuple[tuple[int, ...], str | None]:
    """Which of `candidates` (turn, asker) a `!stop` ends, and whose they are.

    One's own first; a moderator without an own one ends all of them. The second value is the
    owner that the policy is asked about, None if nothing is running.
    """
    asker = message.sender.id
    own = tuple(turn for turn, owner in candidates if owner == asker)
    if own:
        return own, asker
    if not candidates:
        return (), None
    if may_stop_others:
        return tuple(turn for turn, _ in candidates), candidates[0][1]
    return (candidates[0][0],), candidates[0][1]
