"""What an envelope carries: one shape for each kind, strict and frozen. Pure.

`ask` is an A2A 1.0 `Message`; `progress`, `answer` and `refuse` are a `Task`; `cancel` is a
`CancelTaskRequest` (A2A specification 1.0, sections 3 and 4, in its JSON names). Of those objects only the
fields here are allowed, so that nothing travels that nobody looks at. `card`, `grant` and `revoke` are ours.

Everything in here was written by the other side: data, never instructions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from policies.classes import Class
from policies.grant import LONGEST_TERM_MS, Grant, read_grant

LONGEST_QUESTION: Final = 4_000
LONGEST_ANSWER: Final = 6_000
"""Characters in all parts of an answer together. Of four bytes each they still fit `envelope.LARGEST`."""
LONGEST_GRANT: Final = 4_000
MOST_PARTS: Final = 16
LONGEST_MS: Final = LONGEST_TERM_MS
"""A `retryAfterMs` is at most the longest term of a grant: 180 days."""

PLAIN: Final = r"[^\x00-\x08\x0b-\x1f\x7f]"
"""Any character but controls; line feeds and tabs are allowed."""
ID: Final = r"[A-Za-z0-9_-]{22,64}"
REFERENCE: Final = r"[a-z2-7]{26}"

Id = Annotated[str, StringConstraints(pattern=rf"^{ID}$")]
RoomRef = Annotated[str, StringConstraints(pattern=rf"^({REFERENCE})?$")]
Asker = Annotated[str, StringConstraints(pattern=rf"^{REFERENCE}$")]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{43}$")]
"""An Ed25519 public key (32 bytes) in unpadded base64."""
Code = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
LANGUAGE: Final = r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}"
Language = Annotated[str, StringConstraints(pattern=rf"^{LANGUAGE}$")]
"""A language tag (BCP 47), as in `nl` or `de-CH`."""
Text = Annotated[str, StringConstraints(pattern=rf"^{PLAIN}+$", max_length=LONGEST_ANSWER)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Reason = Annotated[str, StringConstraints(pattern=rf"^{PLAIN}{{0,500}}$")]


class Kind(StrEnum):
    """What an envelope is for."""

    ASK = "ask"
    """A question to the peer."""
    PROGRESS = "progress"
    """It is being worked on."""
    ANSWER = "answer"
    """The answer to an ask."""
    REFUSE = "refuse"
    """An ask is not answered, by which rule. Is itself never answered."""
    CANCEL = "cancel"
    """Whoever asked no longer wants the answer."""
    CARD = "card"
    """Who we are, and what we can do. Its key is shown to people and believed by nobody."""
    GRANT = "grant"
    """What our room allows with the peer, for the peer to keep until its end."""
    REVOKE = "revoke"
    """Every grant that we sent before is over."""


class Share(StrEnum):
    """What an ask wants of the peer. `compute` is reserved: computing power, in a later version."""

    ANSWERS = "answers"
    """An answer of the peer's own model."""
    INFORMATION = "information"
    """Passages of the peer's shared notes, with their sources."""


def wire_name(name: str) -> str:
    """A field's name in JSON: A2A's are in camel case, and two are keywords of Python."""
    return {"cls": "class", "sender": "from"}.get(name) or to_camel(name)


class _Shape(BaseModel):
    # By its own names in code only: `read_body` takes those of the wire.
    # What is wrong is logged; the words in which it is are not.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=wire_name,
        validate_by_name=True,
        hide_input_in_errors=True,
    )

    def plain(self) -> dict[str, Any]:
        """The JSON object, by its names on the wire."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Passage(_Shape):
    """Words out of a note, and where they stand."""

    passage: Text = Field(description="The words of the note.")
    source: Line = Field(description="Where they stand, as in `pool.md:12-18`.")


class Part(_Shape):
    """A2A `Part`: a text, or a passage as `data`."""

    text: Text | None = Field(default=None, description="Words. Either this or `data`.")
    data: Passage | None = Field(default=None, description="A passage of a note (`Passage`).")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.text is None) == (self.data is None):
            raise ValueError("either text or data")
        return self

    def __len__(self) -> int:
        return len(self.text or "") + (len(self.data.passage) if self.data else 0)


Parts = Annotated[tuple[Part, ...], Field(min_length=1, max_length=MOST_PARTS)]


class About(_Shape):
    """The `metadata` of an ask."""

    asker: Asker = Field(description="The pseudonym of the person who asks (section Pseudonyms).")
    cls: Class = Field(description="The class of the question, as the asking room declares it.")
    share: Share = Field(description="What is wanted: `answers` or `information`.")
    language: Language | None = Field(default=None, description="Language of the question, BCP 47. Optional.")


class Ask(_Shape):
    """An A2A `Message` of a user."""

    kind: ClassVar = Kind.ASK
    message_id: Id = Field(description="The `id` of the envelope.")
    context_id: RoomRef = Field(description="The `room_ref` of the envelope.")
    role: Literal["ROLE_USER"] = "ROLE_USER"
    parts: Parts = Field(description="The question, texts only; 4,000 characters in all.")
    metadata: About

    @model_validator(mode="after")
    def _short(self) -> Self:
        if any(part.text is None for part in self.parts) or sum(map(len, self.parts)) > LONGEST_QUESTION:
            raise ValueError("texts only, and at most so many characters")
        return self


class Said(_Shape):
    """An A2A `Message` of an agent, inside the status of a task."""

    message_id: Id = Field(description="The `id` of the envelope.")
    role: Literal["ROLE_AGENT"] = "ROLE_AGENT"
    parts: Parts = Field(description="What is said; 6,000 characters in all.")

    @model_validator(mode="after")
    def _short(self) -> Self:
        if sum(map(len, self.parts)) > LONGEST_ANSWER:
            raise ValueError("at most so many characters")
        return self


class _Task(_Shape):
    id: Id = Field(description="The `id` of the ask.")
    context_id: RoomRef = Field(description="The `room_ref` of the envelope.")


class Working(_Shape):
    """The status of an ask that is being worked on."""

    state: Literal["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"] = "TASK_STATE_WORKING"


class Progress(_Task):
    """An A2A `Task` that goes on. It has no words: whoever asked is told in their own."""

    kind: ClassVar = Kind.PROGRESS
    status: Working


class Completed(_Shape):
    """The status of an ask that was answered."""

    state: Literal["TASK_STATE_COMPLETED"] = "TASK_STATE_COMPLETED"
    message: Said


class By(_Shape):
    """The `metadata` of an answer."""

    share: Share = Field(description="What it is: `answers` or `information`.")
    model: Line | None = Field(default=None, description="The model that wrote it. Optional.")


class Answer(_Task):
    """An A2A `Task` that is done."""

    kind: ClassVar = Kind.ANSWER
    status: Completed
    metadata: By


class Rejected(_Shape):
    """The status of an ask that is not answered."""

    state: Literal["TASK_STATE_REJECTED", "TASK_STATE_FAILED"] = "TASK_STATE_REJECTED"


class Because(_Shape):
    """The `metadata` of a refusal."""

    code: Code = Field(description="Why, in one word, as in `quota`.")
    rule: Code = Field(description="The rule that refused, as in `policy.peer_per_day`.")
    retry_after_ms: int | None = Field(
        default=None, ge=0, le=LONGEST_MS, description="When to ask again, from now, ms. Optional."
    )


class Refuse(_Task):
    """An A2A `Task` that was rejected. It has codes and no words: whoever asked is told in their own."""

    kind: ClassVar = Kind.REFUSE
    status: Rejected
    metadata: Because


class Cancel(_Shape):
    """An A2A `CancelTaskRequest`."""

    kind: ClassVar = Kind.CANCEL
    id: Id = Field(description="The `id` of the ask.")


class Card(_Shape):
    """Who a community is; after the example of an A2A `AgentCard`, without its addresses."""

    kind: ClassVar = Kind.CARD
    name: Line = Field(description="The community's name.")
    description: Reason = Field(description="What can be asked there; may be empty.")
    key: Key = Field(description="Its Ed25519 public key. Shown, never believed.")
    capabilities: Annotated[tuple[Code, ...], Field(max_length=16)] = Field(
        description="What can be asked for: `answers`, `information`; unknown ones are passed over."
    )
    languages: Annotated[tuple[Language, ...], Field(max_length=16)] = Field(
        description="Languages that it answers in, BCP 47."
    )


class Granted(_Shape):
    """The grant of a room for whom it is sent to, as text: the signature counts, not how it is spelt."""

    kind: ClassVar = Kind.GRANT
    grant: Annotated[str, StringConstraints(max_length=LONGEST_GRANT)] = Field(
        description="The JSON text of a grant (docs/grant.schema.json); its `peer` is the envelope's `to`."
    )

    def read(self, peer: str) -> Grant | None:
        """The grant, if it can be read and is for `peer`."""
        found = read_grant(self.grant, peer)
        return found if isinstance(found, Grant) else None


class Revoke(_Shape):
    """The end of every grant of the sender's that is held by the receiver."""

    kind: ClassVar = Kind.REVOKE
    reason: Reason = Field(description="For people; may be empty.")


Body = Ask | Progress | Answer | Refuse | Cancel | Card | Granted | Revoke
BODIES: Final[dict[Kind, type[Body]]] = {
    one.kind: one for one in (Ask, Progress, Answer, Refuse, Cancel, Card, Granted, Revoke)
}


def read_body(kind: Kind, text: bytes) -> Body:
    """The body of that kind. Raises `pydantic.ValidationError`."""
    return BODIES[kind].model_validate_json(text, by_alias=True, by_name=False)
