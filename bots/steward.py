"""The steward answers `!` commands and says hello; it never asks a model.

Promises one reply to every turn. What it erases is named in the `Reply` and done by whoever
settles the turn, in the same transaction.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from bots import governance, librarian, verifying, wording, wording_keys, wording_links, wording_policy
from bots.asking import Chosen
from bots.base import Forget, Peer, Reply
from bots.commands import CommandName, parse
from bots.conversation import PlaceKind, TurnKind
from policies.decide import Deed, Request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from bots.base import Decided, Draft, Tools, Waiting
    from bots.conversation import Turn


_SAID: Final[Mapping[CommandName, Callable[[], str]]] = {
    CommandName.HELP: wording.help_words,
    CommandName.STOP: wording.nothing_to_stop,
    **dict.fromkeys(
        (CommandName.TRANSCRIBE, CommandName.TRANSCRIPT, CommandName.SUMMARY, CommandName.ALT),
        wording.nothing_to_hear,
    ),
    # Where there is an envoy, these are its own.
    CommandName.ASK: wording_links.ask_usage,
    CommandName.PROOF: wording_links.nothing_to_prove,
    CommandName.LINK: partial(wording_links.cannot_link, "off"),
    CommandName.AUDIT: partial(wording_links.cannot_link, "off"),
}
"""What is said whenever it is asked."""


class Steward:
    """The bot for everything that is about Hearth itself. `own_name` is how it is shown in rooms."""

    name = "steward"

    def __init__(self, own_name: str = "Hearth", community: str = "") -> None:
        self.own_name = own_name
        self.community = community

    async def reply(self, turn: Turn, tools: Tools) -> AsyncGenerator[Draft | Waiting | Reply]:
        """Yield one `Reply`: to a command, the welcome of a place that we joined, or news of its policy."""
        match turn.kind:
            case TurnKind.WELCOME:
                yield await self._welcome(turn, tools)
            case TurnKind.POLICY:
                yield self._news(turn, tools)
            case TurnKind.VERIFICATION:
                yield verifying.news(turn, tools)
            case TurnKind.ANSWERED:
                yield await governance.confirmed(turn, tools)
            case TurnKind.DEADLINE:
                yield Reply("")
            case _:
                yield await self._command(turn, tools)

    def _news(self, turn: Turn, tools: Tools) -> Reply:
        by, change = turn.message.sender.shown, turn.message.text
        if turn.cause.startswith("grant:"):
            return Reply(wording_policy.changed_grant(by, change, turn.place), notice=True)
        return Reply(wording_policy.changed(by, change, tools.ceiling, turn.place), notice=True)

    async def _welcome(self, turn: Turn, tools: Tools) -> Reply:
        status = await tools.status()
        text = wording.welcome(
            f"{self.own_name} of {self.community}" if self.community else self.own_name,
            retention_days=status.retention_days,
            encrypted=status.encrypted,
            direct=turn.place.kind is PlaceKind.DIRECT,
            hears=bool(status.speech_model),
            hears_all=status.hears_all,
        )
        return Reply(text, notice=True)

    async def _command(self, turn: Turn, tools: Tools) -> Reply:  # noqa: PLR0911 - a table
        command = parse(turn.message.text, own_id=turn.place.account, own_name=self.own_name)
        if command is None:
            return Reply(wording.help_words())
        if governance.asks_why(command) and turn.message.reply_to is not None:
            return Reply(await self._why(turn, tools), features={"command": command.name.value})
        if command.name in governance.NAMES_OF:
            said = await governance.reply(command, turn, tools)
            return replace(said, features={**said.features, "command": command.name.value})
        match command.name:
            case CommandName.STATUS:
                text = wording.status(await tools.status())
            case CommandName.WHY:
                text = await self._why(turn, tools)
            case CommandName.FORGET:
                return Reply(wording.forgot_mine(), forget=Forget.MINE)
            case CommandName.FORGET_ROOM | CommandName.DOCTOR:
                return await self._of_moderators(command.name, turn, tools)
            case CommandName.NOTES | CommandName.VERIFY:
                said = (
                    await librarian.shown(command.argument, tools)
                    if command.name is CommandName.NOTES
                    else await verifying.reply(command.argument, turn, tools)
                )
                return replace(said, features={**said.features, "command": command.name.value})
            case CommandName.UNKNOWN:
                text = wording.unknown_command(command)
            case name:
                text = _SAID[name]()
        return Reply(text, features={"command": command.name.value})

    async def _of_moderators(self, name: CommandName, turn: Turn, tools: Tools) -> Reply:
        return await (self._doctor if name is CommandName.DOCTOR else self._forget_room)(turn, tools)

    async def _doctor(self, turn: Turn, tools: Tools) -> Reply:
        """How encryption stands here, for whoever moderates the room: it names people."""
        verdict = await tools.may(Request(Deed.SET_POLICY, turn.asker.id, policy_power=tools.policy_power))
        if not verdict.allowed:
            return Reply(wording.refusal(verdict), notice=True, verdict=verdict)
        found = await tools.encryption()
        text = wording_keys.not_encrypted() if found is None else wording_keys.doctor(found)
        return Reply(text, features={"command": CommandName.DOCTOR.value})

    async def _why(self, turn: Turn, tools: Tools) -> str:
        asked = turn.message.reply_to
        if asked is None:
            return wording.why_usage()
        decided = await self._decided(turn, asked, tools)
        if decided is None:
            return wording.why_unknown()
        words = wording.why(decided)
        if decided.chosen:
            words += " " + wording_links.why_chosen(Chosen(Peer(decided.peer), decided.chosen, decided.among))
        return words

    async def _decided(self, turn: Turn, event_id: str, tools: Tools) -> Decided | None:
        decided = await tools.decided(event_id)
        if decided is not None:
            return decided
        # A reply to an answer of ours means the question that it answers.
        cause = next((said.reply_to for said in turn.context if said.own and said.id == event_id), None)
        return None if cause is None else await tools.decided(cause)

    async def _forget_room(self, turn: Turn, tools: Tools) -> Reply:
        verdict = await tools.may(
            Request(
                Deed.FORGET_ROOM,
                turn.asker.id,
                asker_is_bot=turn.asker.is_bot,
                power=turn.asker.power,
                direct=turn.place.kind is PlaceKind.DIRECT,
            )
        )
        if not verdict.allowed:
            return Reply(wording.refusal(verdict))
        return Reply(wording.forgot_room(), forget=Forget.ROOM)
