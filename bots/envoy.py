"""The envoy speaks with bots of other communities: it asks them for people here, and answers what they ask.

    !ask city When does the pool open?
      --> who, which class --> may it leave? --> alone, without names --> preview --> sent, waiting
                                                                           | edit, cancel
      <-- attributed, quoted: "not from our bot"        <-- the peer's answer, or why there is none

Promises that what is sent is what was shown; that nothing is sent which the policy of this place, both grants
and the screens do not let out; that a peer's words reach people as a quotation and no model as instructions;
and that a peer is answered from the notes that its grant names and from nothing that was said in any room.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from bots import wording, wording_links
from bots.asking import (
    INFORMATION,
    Asking,
    Says,
    asking,
    called,
    choose,
    needs_rewriting,
    preview_answer,
    resolve,
    rewriting_prompt,
    spoken_ask,
    stands_alone,
)
from bots.base import AnswerPeer, AskPeer, Draft, FromPeer, Peer, RefusePeer, Reply, Wait, Waiting
from bots.commands import CommandName, parse, strip_mention, visible
from bots.conversation import TurnKind
from bots.keywords import key_words
from bots.proposing import Mistake
from bots.wording_links import Why
from models.client import ModelError
from policies.classes import Class
from policies.decide import Deed, Request
from policies.grant import Grant, read_grant
from policies.redact import redact
from policies.room import PEER, Preview
from policies.screens import screen
from policies.verdict import Code, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from bots.asking import Chosen, PreviewAnswer
    from bots.base import Bot, Tools
    from bots.conversation import Turn

CONFIRM_MS: Final = 15 * 60_000
"""How long a preview waits for its yes."""
LONGEST: Final = 2_000
"""Characters of a question to a peer; a longer one is no question."""
PASSAGES: Final = 4
MOST_CONTEXT: Final = 6
"""Earlier messages that may make a question stand alone."""
REWRITTEN_TOKENS: Final = 120
USUAL: Final = (Class.GENERAL, Class.LOCAL_KNOWLEDGE)
"""What a question is taken to be about where nobody says it, the first that is allowed; screens raise it."""
AUDITED: Final = 20
OFFERED: Final = "offered"
"""In the state of a turn that waits: nobody asked for what is shown."""
_WHY: Final = {"refused": Why.REFUSED, "dropped": Why.DROPPED, "unsent": Why.UNSENT, "unclear": Why.UNCLEAR}


@dataclass(frozen=True, slots=True)
class _Letter:
    """A question that may leave: to whom, as what, in which words, of which class."""

    peer: Peer
    text: str
    cls: Class
    share: str
    preview: Preview
    verdict: Verdict
    """By which it may."""
    why: Mapping[str, str | int] = field(default_factory=dict)
    """Why this peer, out of how many."""

    def state(self) -> dict[str, Any]:
        return {
            "peer": self.peer.address,
            "text": self.text,
            "class": str(self.cls),
            "share": self.share,
            "why": dict(self.why),
        }


class Envoy:
    """The bot between communities. `chat` (with notes, where there are some) answers what peers ask.

    A question to a peer waits `wait_ms` for its answer.
    """

    name = "envoy"

    def __init__(self, chat: Bot, own_name: str, wait_ms: int) -> None:
        self._chat = chat
        self._own_name = own_name
        self._wait_ms = wait_ms

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """Yield one `Reply`: to somebody here, or to the peer that asks."""
        if turn.kind is TurnKind.ASKED:
            async for step in self._answered(turn, tools):
                yield step
        elif "from" in turn.waited:
            yield _arrived(turn)
        elif "asked" in turn.waited:
            came = _silent(turn.waited)
            yield Reply(wording_links.not_answered(came, Why.LATE), closes=wording_links.closed(came))
        elif "preview" in turn.waited:
            yield await self._previewed(turn, tools)
        else:
            yield await self._command(turn, tools)

    async def _command(self, turn: Turn, tools: Tools) -> Reply:
        command = parse(turn.message.text, own_id=turn.place.account, own_name=self._own_name)
        match None if command is None else command.name:
            case CommandName.LINK if command is not None:
                return await _link(command.argument, turn, tools)
            case CommandName.PROOF:
                return await _proof(turn, tools)
            case CommandName.AUDIT:
                return await _audit(turn, tools)
            case _:
                return await self._ask("" if command is None else command.argument, turn, tools)

    # -- asking ------------------------------------------------------------------------------------

    async def _ask(self, argument: str, turn: Turn, tools: Tools) -> Reply:
        peers = await tools.peers()
        names = [name for peer in peers for name in called(peer)]
        if not argument:
            text = strip_mention(turn.message.text, turn.place.account, self._own_name)
            argument = spoken_ask(text, names) or ""
        found = asking(argument, names)
        if isinstance(found, Mistake):
            return Reply(wording_links.mistake(found) if argument else wording_links.ask_usage())
        meant = resolve(found.name, peers) if found.name else peers
        if not meant:
            return Reply(wording_links.no_such_peer(found.name, peers))
        if found.name and len(meant) > 1:
            return Reply(wording_links.which_peer(meant))
        return await self._letter(found, meant, turn, tools)

    async def _letter(self, found: Asking, meant: Sequence[Peer], turn: Turn, tools: Tools) -> Reply:
        """Whom of `meant` to ask, and in which words."""
        question = await _alone(found.question, turn, tools)
        judged = [(peer, *await _may(peer, found, question, turn, tools)) for peer in meant]
        allowed = {peer.address: (cls, verdict) for peer, cls, verdict in judged if verdict.allowed}
        if not allowed:
            _, cls, verdict = judged[0]
            # Whoever asked for nobody by name is told that nobody may be asked, and one reason.
            words = wording.refusal(verdict)
            return _refused(words if found.name else f"{wording_links.no_peer_allowed()} {words}", verdict)
        able = [peer for peer in meant if peer.address in allowed and peer.linked]
        chosen = choose(able, found.share, tools.policy.language)
        if chosen is None:
            return Reply(wording_links.not_linked(next(one for one in meant if one.address in allowed)))
        cls, verdict = allowed[chosen.peer.address]
        preview = Preview(str(verdict.params.get("preview", Preview.ALWAYS)))
        if question != _on_a_line(found.question):
            preview = Preview.ALWAYS  # it has words of the conversation, which nobody has let out
        return await self._shown(
            _Letter(chosen.peer, question, cls, found.share, preview, verdict), chosen, turn, tools
        )

    async def _shown(self, letter: _Letter, chosen: Chosen | None, turn: Turn, tools: Tools) -> Reply:
        """The letter without who it is about: shown first, or sent."""
        text, removed = _stripped(letter.text, turn, tools)
        letter = replace(letter, text=text)
        if chosen is not None:
            letter = replace(letter, why={"chosen": chosen.why, "among": chosen.among})
        features: dict[str, float | int | str] = {
            "peer": letter.peer.address, "class": str(letter.cls), **letter.why,
        }  # fmt: skip
        needed = letter.preview is Preview.ALWAYS or removed
        if not needed and (letter.preview is Preview.NEVER or letter.peer.asked_here):
            return replace(self._sent(letter, turn, tools), features=features)
        words = wording_links.preview(letter.peer, text, letter.cls, removed)
        wait = _for_a_yes(letter, turn, tools)
        return Reply(words, wait=wait, features=features, verdict=letter.verdict)

    def _sent(self, letter: _Letter, turn: Turn, tools: Tools) -> Reply:
        until = tools.now + self._wait_ms
        verdict = letter.verdict
        state: dict[str, object] = {
            "asked": {"peer": letter.peer.address, "name": letter.peer.name, "at": tools.now},
            "asker": turn.asker.id,
            "by": {"rule": verdict.rule, "params": verdict.params},
            **letter.why,
        }
        return Reply(
            wording_links.asked(letter.peer, until),
            notice=True,
            wait=Wait(until, state),
            peer=AskPeer(letter.peer.address, letter.text, letter.cls, letter.share, until),
            verdict=letter.verdict,
        )

    async def _previewed(self, turn: Turn, tools: Tools) -> Reply:
        """What somebody says to a preview, or that nobody said anything."""
        if turn.kind is TurnKind.DEADLINE:
            # Of an offer that nobody takes up, nothing has to be said.
            return Reply("" if turn.waited.get(OFFERED) else wording_links.not_sent(), notice=True)
        again = Wait(tools.now + CONFIRM_MS, dict(turn.waited))
        if turn.asker.id != turn.waited.get("asker"):
            return Reply(wording_links.only_the_asker(), notice=True, wait=again)
        said = preview_answer(turn.message.text)
        if said is None:
            return Reply(wording_links.send_or_not(), notice=True, wait=again)
        if said.says is Says.CANCEL:
            return Reply(wording_links.cancelled(), notice=True)
        return await self._agreed(said, turn, tools)

    async def _agreed(self, said: PreviewAnswer, turn: Turn, tools: Tools) -> Reply:
        """Send what was shown, or show what it was changed to; if that may still be."""
        told = _told(turn.waited["preview"])
        peer = next((one for one in await tools.peers() if one.address == told["peer"]), None)
        if peer is None or not peer.linked:
            return Reply(wording_links.not_linked(peer or Peer(told["peer"])))
        text = said.text[:LONGEST] if said.says is Says.EDIT else told["text"]
        found = Asking("", text, Class(told["class"]), told["share"])
        cls, verdict = await _may(peer, found, text, turn, tools)
        if not verdict.allowed:
            return _refused(wording.refusal(verdict), verdict)
        shown = turn.waited["preview"]
        why = shown.get("why", {}) if isinstance(shown, dict) else {}
        letter = _Letter(peer, text, cls, found.share, Preview.ALWAYS, verdict, why)
        if said.says is Says.EDIT:
            return await self._shown(letter, None, turn, tools)
        features: dict[str, float | int | str] = {"peer": peer.address, "class": str(cls), **why}
        return replace(self._sent(letter, turn, tools), features=features)

    # -- answering ---------------------------------------------------------------------------------

    async def _answered(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """What a peer asks, answered from the notes that its grant names, by our model or as they stand."""
        if turn.waited.get("share") == INFORMATION:
            found = await tools.notes(turn.message.text, PASSAGES)
            said = AnswerPeer(passages=found) if found else RefusePeer("nothing_found", "grant.notes")
            yield Reply("", peer=said, features={"passages": len(found)})
            return
        async with aclosing(self._chat.reply(replace(turn, context=()), tools)) as steps:
            async for step in steps:
                if not isinstance(step, Reply):
                    yield step
                elif "failure" in step.features:
                    code = str(step.features["failure"])
                    yield Reply("", peer=RefusePeer(code, "link.model", failed=True), features=step.features)
                else:
                    model = (await tools.status()).model
                    yield Reply("", peer=AnswerPeer(step.text, model=model), features=step.features)


async def offer(question: str, turn: Turn, tools: Tools) -> tuple[str, Wait] | None:
    """Words and a wait that offer to ask a peer what our notes do not tell; None: nobody may be asked it."""
    allowed: dict[str, tuple[Class, Verdict]] = {}
    peers = [one for one in await tools.peers() if one.linked]
    found = Asking("", question[:LONGEST])
    for peer in peers:
        cls, verdict = await _may(peer, found, question, turn, tools)
        if verdict.allowed:
            allowed[peer.address] = cls, verdict
    chosen = choose([one for one in peers if one.address in allowed], found.share, tools.policy.language)
    if chosen is None:
        return None
    cls, verdict = allowed[chosen.peer.address]
    why: dict[str, str | int] = {"chosen": chosen.why, "among": chosen.among}
    text, _ = _stripped(await _alone(question, turn, tools), turn, tools)
    letter = _Letter(chosen.peer, text, cls, found.share, Preview.ALWAYS, verdict, why)
    wait = _for_a_yes(letter, turn, tools)
    return wording_links.offer(chosen.peer, text), replace(wait, state={**wait.state, OFFERED: True})


def _stripped(text: str, turn: Turn, tools: Tools) -> tuple[str, dict[str, int]]:
    """A question without who it is about, and what was taken out; nor what cannot be seen in a preview."""
    people = [one for one in tools.people if one.id != turn.place.account]
    # Also as they are called in their address, which is all that is seen of whoever shows no name.
    names = [one.name for one in people if one.name]
    names += [re.split("[:@]", one.id.removeprefix("@"))[0] for one in people]
    stripped, removed = redact(visible(text), names)
    return stripped[:LONGEST], removed  # what stands for a name may be longer than the name


# -- what may leave --------------------------------------------------------------------------------


async def _may(peer: Peer, found: Asking, question: str, turn: Turn, tools: Tools) -> tuple[Class, Verdict]:
    """Whether `peer` may be asked this, as what: the class that was named, else the first that may leave."""
    screened = screen(f"{found.question}\n{question}")
    judged = []
    for cls in (found.cls,) if found.cls is not None else _classes(peer, found.share, turn):
        request = Request(
            Deed.ASK_PEER,
            turn.asker.id,
            peer=peer.address,
            cls=cls,
            screened=screened,
            spoken=any(one.has_sound for one in turn.message.attachments),
            age_ms=0,
        )
        verdict = await tools.may(request)
        if verdict.allowed:
            return cls, verdict
        judged.append((cls, verdict))
    return judged[0]


def _classes(peer: Peer, share: str, turn: Turn) -> tuple[Class, ...]:
    """What a question may be about where nobody says it: passages of notes are of a class of their own."""
    if share == INFORMATION:
        return (Class.SHARED_NOTES,)
    standing = dict(turn.place.grants).get(peer.address)
    grant = None if standing is None else read_grant(standing.text, peer.address)
    classes = grant.classes if isinstance(grant, Grant) else frozenset()
    return tuple(one for one in USUAL if one in classes) or USUAL[:1]


async def _alone(question: str, turn: Turn, tools: Tools) -> str:
    """The question so that it can be understood elsewhere; as it is where our model does not manage that."""
    question = _on_a_line(question)
    said = [one.text for one in turn.context[-MOST_CONTEXT:] if one.text]
    if not needs_rewriting(question, said):
        return question
    words = ""
    try:
        async for chunk in tools.chat(rewriting_prompt(question, said), max_tokens=REWRITTEN_TOKENS):
            words += chunk.text
    except ModelError:
        return question  # it can still be asked; the preview shows how
    rewritten = words.strip()
    return rewritten if stands_alone(question, rewritten, said) else question


def _on_a_line(question: str) -> str:
    return " ".join(question.split())[:LONGEST]


def _for_a_yes(letter: _Letter, turn: Turn, tools: Tools) -> Wait:
    return Wait(tools.now + CONFIRM_MS, {"preview": letter.state(), "asker": turn.asker.id})


def _refused(words: str, verdict: Verdict) -> Reply:
    return Reply(words, notice=True, verdict=verdict)


def _told(state: object) -> dict[str, str]:
    return {str(name): str(value) for name, value in state.items()} if isinstance(state, dict) else {}


# -- what came back --------------------------------------------------------------------------------


def _arrived(turn: Turn) -> Reply:
    came = _came(turn.waited)
    features: dict[str, float | int | str] = {
        "peer": came.peer, "end": came.end, "waited_s": round(came.waited_ms / 1000),
        "hops": len(came.through),
    }  # fmt: skip
    features |= {name: turn.waited[name] for name in ("chosen", "among") if name in turn.waited}  # type: ignore[misc]
    if came.end == "answered":
        words, closes = wording_links.answer(came), wording_links.closed(came)
        return Reply(words, features=features, verdict=_by(turn.waited), closes=closes)
    words = wording_links.not_answered(
        came, _WHY[came.end], code=came.code, rule=came.rule, retry_after_ms=came.retry_after_ms
    )
    code = Code(came.code) if came.code in set(Code) - {Code.ALLOWED} else Code.UNKNOWN
    rule = f"peer.{came.rule.partition('.')[2]}" if came.end == "refused" else came.rule
    verdict = Verdict(False, code, rule, {"peer": came.peer})
    return Reply(words, features=features, verdict=verdict, closes=wording_links.closed(came))


def _by(waited: Mapping[str, Any]) -> Verdict:
    """What the question was allowed by."""
    return Verdict(True, Code.ALLOWED, str(waited["by"]["rule"]), dict(waited["by"]["params"]))


def _came(waited: Mapping[str, Any]) -> FromPeer:
    told = dict(waited["from"])
    told["passages"] = tuple((words, source) for words, source in told["passages"])
    told["through"] = tuple(told["through"])
    return FromPeer(**(told | {"name": str(waited["asked"].get("name", ""))}))


def _silent(waited: Mapping[str, Any]) -> FromPeer:
    asked = waited["asked"]
    return FromPeer("silent", str(asked["peer"]), str(asked.get("name", "")))


# -- links -----------------------------------------------------------------------------------------


async def _link(argument: str, turn: Turn, tools: Tools) -> Reply:
    """`!link @bot:city.example`: by whoever may write what this room allows."""
    peer = argument.strip().removeprefix("@").casefold()
    own = turn.place.account.removeprefix("@")
    if not re.fullmatch(PEER, peer) or peer == own:
        return Reply(wording_links.cannot_link("own" if peer == own else "no_address"))
    verdict = await tools.may(Request(Deed.SET_POLICY, turn.asker.id, policy_power=tools.policy_power))
    if not verdict.allowed:
        return _refused(wording.refusal(verdict), verdict)
    known = next((one for one in await tools.peers() if one.address == peer), None)
    if known is not None and known.linked:
        words = [wording_links.linked(known)]
        if known.key:
            words.insert(0, wording_links.shown_key(known, key_words(known.key)))
        return Reply("\n\n".join(words))
    return Reply(wording_links.linking(known or Peer(peer)), link=peer)


async def _proof(turn: Turn, tools: Tools) -> Reply:
    """The signed envelopes behind an answer that this replies to."""
    pointed = turn.message.reply_to
    steps = () if pointed is None else await tools.proof(pointed)
    return Reply(wording_links.proof(steps) if steps else wording_links.nothing_to_prove())


async def _audit(turn: Turn, tools: Tools) -> Reply:
    """The last of what crossed between this community and others; never with words."""
    verdict = await tools.may(Request(Deed.SET_POLICY, turn.asker.id, policy_power=tools.policy_power))
    if not verdict.allowed:
        return _refused(wording.refusal(verdict), verdict)
    return Reply(wording_links.crossings(await tools.crossings(AUDITED)))
