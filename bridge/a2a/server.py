"""Being asked over HTTPS: A2A's methods, on what the journal knows. The wire is a2a-sdk's, the answers ours.

a2a-sdk's own request handler is not used: it runs an agent for every request, twice for a repeated one, keeps
tasks in memory, and lets everybody in (research/federation.md). Here a message is an envelope that is
admitted to the journal, once, before it is acknowledged; a task is an ask as the journal has it, and only for
the community that asked.
"""

from __future__ import annotations

import logging
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import uvicorn
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    Role,
    SendMessageRequest,
    Task,
)
from a2a.utils.errors import (
    ExtensionSupportRequiredError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from starlette.applications import Starlette

from bridge.a2a.card import extended
from bridge.a2a.gate import CARD, RPC, Gate
from bridge.a2a.wire import EXTENSION, TERMINAL, NoEnvelope, cancel_in, envelope_in, task_of
from bridge.platform import Misconfigured

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
    from pathlib import Path

    from a2a.server.context import ServerCallContext

    from bridge.journal.peers import Ask

AT_ONCE: Final = 32
"""Connections at the same time."""
LISTED: Final = 50
GRACE: Final = 1
"""Seconds that open connections get at the end; idle ones over TLS take all of it."""


class Desk(Protocol):
    """What is known behind the counter."""

    async def take(self, peer: str, text: str) -> bool:
        """Admit a sealed text of `peer`, once; whether it was believed. On disk when this returns."""
        ...

    async def asked_by(self, peer: str, name: str) -> tuple[Ask, str] | None:
        """The ask of `peer` with that id, and the sealed text that ended it (`""`: none may be fetched)."""
        ...

    async def asks_by(self, peer: str, limit: int) -> list[tuple[Ask, str]]:
        """The newest asks of `peer`, likewise."""
        ...

    async def told(self, peer: str) -> list[str]:
        """The sealed texts of our card and of our grant for `peer`."""
        ...


class Answering(RequestHandler):
    """The methods of A2A 1.0, section 3, for a peer whom the gate has let in."""

    def __init__(self, desk: Desk, card: AgentCard) -> None:
        self._desk = desk
        self._card = card

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Task | Message:
        """Take an envelope. An ask becomes a task; anything else is acknowledged."""
        if EXTENSION not in context.requested_extensions:
            raise ExtensionSupportRequiredError(f"send A2A-Extensions: {EXTENSION}")
        peer = _peer(context)
        try:
            text = envelope_in(params.message, peer)
        except NoEnvelope as error:
            raise InvalidParamsError(str(error)) from error
        believed = await self._desk.take(peer, text)
        found = await self._desk.asked_by(peer, params.message.message_id)
        if found is not None:
            return task_of(*found)
        if not believed:
            raise InvalidParamsError("the envelope is not believed")
        reply = Message(message_id=f"{params.message.message_id}-taken", role=Role.ROLE_AGENT)
        reply.parts.add(text="taken")
        return reply

    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task | None:
        """How an ask of this peer stands; what others asked is not there."""
        found = await self._desk.asked_by(_peer(context), params.id)
        return None if found is None else task_of(*found)

    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """The newest asks of this peer, on one page."""
        found = await self._desk.asks_by(_peer(context), min(params.page_size or LISTED, LISTED))
        tasks = [task_of(*one) for one in found]
        tasks = [
            task
            for task in tasks
            if params.context_id in ("", task.context_id) and params.status in (0, task.status.state)
        ]
        return ListTasksResponse(tasks=tasks, page_size=len(tasks), total_size=len(tasks))

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task | None:
        """Whoever asked no longer wants the answer, and has signed that."""
        peer = _peer(context)
        found = await self._desk.asked_by(peer, params.id)
        if found is None:
            raise TaskNotFoundError
        try:
            text = cancel_in(params.metadata, peer, params.id)
        except NoEnvelope as error:
            raise InvalidParamsError(str(error)) from error
        before = task_of(*found)
        if before.status.state in TERMINAL:
            raise TaskNotCancelableError
        await self._desk.take(peer, text)
        after = await self._desk.asked_by(peer, params.id)
        return None if after is None else task_of(*after)

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        """Our card, with what we have to tell this peer: who we are, and what we allow with it."""
        del params
        return extended(self._card, await self._desk.told(_peer(context)))

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Any]:
        """Refuse: an answer can take an hour, and has to outlive a connection."""
        del params, context
        raise UnsupportedOperationError("streaming is not offered; use SendMessage and GetTask")
        yield

    async def on_subscribe_to_task(self, params: Any, context: ServerCallContext) -> AsyncGenerator[Any]:
        """Refuse, as above."""
        del params, context
        raise UnsupportedOperationError("streaming is not offered; use GetTask")
        yield

    async def on_create_task_push_notification_config(self, params: Any, context: ServerCallContext) -> Any:
        """Refuse: we call no address that somebody sends us."""
        _no_push(params, context)

    async def on_get_task_push_notification_config(self, params: Any, context: ServerCallContext) -> Any:
        """Refuse, as above."""
        _no_push(params, context)

    async def on_list_task_push_notification_configs(self, params: Any, context: ServerCallContext) -> Any:
        """Refuse, as above."""
        _no_push(params, context)

    async def on_delete_task_push_notification_config(self, params: Any, context: ServerCallContext) -> None:
        """Refuse, as above."""
        _no_push(params, context)


def _no_push(*_asked: Any) -> NoReturn:
    raise PushNotificationNotSupportedError


def _peer(context: ServerCallContext) -> str:
    return str(context.user.user_name)


def application(
    desk: Desk, card: AgentCard, shown: AgentCard, tokens: Mapping[str, str], clock: Callable[[], float]
) -> Gate:
    """The whole: gate, card (`shown` is the signed one), JSON-RPC."""
    routes = [
        *create_agent_card_routes(shown, card_url=CARD, cache_control="public, max-age=300"),
        *create_jsonrpc_routes(Answering(desk, card), RPC),
    ]
    return Gate(Starlette(routes=routes), tokens, clock)


class Server(uvicorn.Server):
    """uvicorn, without its hands on signals: those are `bridge.app`'s. `should_exit` ends it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them where they are."""
        yield


def bound(listen: str) -> socket.socket:
    """The socket to serve on. Raises `Misconfigured` where the port is taken or the address is not ours."""
    host, _, port = listen.rpartition(":")
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        return socket.create_server((bare, int(port)), family=family)
    except OSError as error:
        raise Misconfigured(
            "a2a.listen", f"cannot listen on {listen} ({error.strerror}); choose another"
        ) from error


def server_of(app: Gate | None, certificate: Path | None, private_key: Path | None) -> Server:
    """A server of `app`, with TLS where there is a certificate. Blocks; raises `Misconfigured`."""
    config = uvicorn.Config(
        app or Starlette(),
        http="h11",
        ws="none",
        lifespan="off",
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
        log_config=None,
        log_level=logging.CRITICAL,  # a bug is logged by the gate, with nothing of the request
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=AT_ONCE,
        timeout_graceful_shutdown=GRACE,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured("a2a.certificate", f"cannot be used ({error}); check both files") from error
    return Server(config)
