"""Our envelopes in the nouns of A2A 1.0, in both directions. Pure.

    ask                      SendMessage: a Message with the question in its parts
    answer, refuse           the Task of that ask, once it is over (GetTask)
    cancel                   CancelTask
    card, grant, revoke      SendMessage; ours are on the extended card of whoever asks for it

The envelope itself stands in the metadata, under the name of our extension (A2A 1.0, section 4.6): what a
message or a task says outside of it is for programs that know only A2A, and has to be the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from a2a.types import Message, Task, TaskState, TaskStatus
from google.protobuf.json_format import MessageToDict, ParseDict

from bridge.link.bodies import Kind
from bridge.link.canonical import NotCanonical, parse
from bridge.link.envelope import LARGEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.journal.peers import Ask

EXTENSION: Final = "https://hearth.community/link/v1"
"""The name of our extension; it is never fetched."""
ENVELOPE: Final = f"{EXTENSION}/envelope"
"""The member of `metadata` with the text of an envelope."""
ENVELOPES: Final = "envelopes"
"""The parameter of our extension on an extended card: texts of our card and our grant for who fetches it."""

OVER: Final[Mapping[str, TaskState]] = {
    "answered": TaskState.TASK_STATE_COMPLETED,
    "refused": TaskState.TASK_STATE_REJECTED,
    "cancelled": TaskState.TASK_STATE_CANCELED,
    "dropped": TaskState.TASK_STATE_FAILED,
    "ended": TaskState.TASK_STATE_FAILED,
}
"""What the ends of an ask are called in A2A."""
TERMINAL: Final = frozenset(OVER.values())


class NoEnvelope(ValueError):
    """What came has no envelope of ours, or says something else than the one it has."""


def message_of(text: str) -> Message:
    """The message that carries the sealed `text`."""
    whole = json.loads(text)
    header, body = whole["envelope"], whole["body"]
    said: dict[str, Any] = {"messageId": header["id"], "role": "ROLE_USER", "extensions": [EXTENSION]}
    if header["kind"] == Kind.ASK:
        said |= {"contextId": body["contextId"], "parts": body["parts"]}
    else:
        said["parts"] = [{"text": header["kind"]}]
    message = Message()
    ParseDict(said | {"metadata": {ENVELOPE: text}}, message)
    return message


def envelope_in(message: Message, peer: str) -> str:
    """The sealed text that a message of `peer` carries. Nobody has looked at its signature.

    Raises `NoEnvelope`, also where the message says something else than its envelope.
    """
    text = _text(message.metadata)
    header = _header(text)
    if header.get("from") != peer:
        raise NoEnvelope("the envelope is another's than the token")
    try:
        meant = message_of(text)
    except (ValueError, KeyError, TypeError) as error:
        raise NoEnvelope("the envelope cannot be read") from error
    if (message.message_id, list(message.parts)) != (meant.message_id, list(meant.parts)):
        raise NoEnvelope("the message says something else than its envelope")
    return text


def cancel_in(metadata: Any, peer: str, task: str) -> str:
    """The sealed text with which `peer` cancels the ask of that id. Raises `NoEnvelope`."""
    text = _text(metadata)
    header = _header(text)
    whole: Any = parse(text)
    if header.get("from") != peer or header.get("kind") != Kind.CANCEL:
        raise NoEnvelope("a task is cancelled by an envelope of the kind cancel")
    if not isinstance(whole["body"], dict) or whole["body"].get("id") != task:
        raise NoEnvelope("the envelope cancels something else")
    return text


def task_of(ask: Ask, reply: str) -> Task:
    """An ask of a peer as its task; `reply` is the sealed text that ended it, `""` where none may be read."""
    state = OVER.get(ask.state, TaskState.TASK_STATE_WORKING)
    if ask.state in ("answered", "refused") and not reply:
        state = TaskState.TASK_STATE_WORKING  # it is signed, and waits for its last look at the rules
    task = Task(id=ask.id, context_id=ask.room_ref, status=TaskStatus(state=state))
    if reply:
        body = json.loads(reply)["body"]
        ParseDict({"status": body["status"]}, task)
        task.metadata.update({ENVELOPE: reply})
    return task


def reply_in(task: Task) -> str:
    """The sealed text that ends a task of a peer; `""` while there is none. Raises `NoEnvelope`."""
    if task.status.state not in TERMINAL:
        return ""
    return _text(task.metadata)


def _text(metadata: Any) -> str:
    text = MessageToDict(metadata).get(ENVELOPE)
    if not isinstance(text, str):
        raise NoEnvelope(f"metadata has no {ENVELOPE}")
    if len(text.encode()) > LARGEST:
        raise NoEnvelope(f"an envelope has at most {LARGEST:,} bytes")
    return text


def _header(text: str) -> Mapping[str, Any]:
    try:
        whole = parse(text)
    except NotCanonical as error:
        raise NoEnvelope("the envelope is not canonical JSON") from error
    header = whole.get("envelope") if isinstance(whole, dict) else None
    if not isinstance(header, dict) or not isinstance(whole.get("body"), dict):
        raise NoEnvelope("the envelope has no header or no body")
    return header
