"""Asking over HTTPS: what we send to the address in the settings, and what became of it; all of it bounded.

No redirect is followed, no address out of an answer is called, an answer ends at `LARGEST_ANSWER` bytes and
`DEADLINE` seconds, and only certificates that this machine trusts are believed. Errors are the four families.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httpx
from a2a.client import A2ACardResolver
from a2a.client.client import ClientCallContext
from a2a.client.errors import A2AClientError, A2AClientTimeoutError, AgentCardResolutionError
from a2a.client.service_parameters import ServiceParametersFactory, with_a2a_extensions
from a2a.client.transports.jsonrpc import JsonRpcTransport
from a2a.types import (
    AgentCard,
    CancelTaskRequest,
    GetExtendedAgentCardRequest,
    GetTaskRequest,
    Message,
    SendMessageConfiguration,
    SendMessageRequest,
    Task,
)
from a2a.utils.errors import A2AError, InternalError, TaskNotCancelableError, TaskNotFoundError
from google.protobuf.json_format import ParseError

from bridge.a2a.card import VERSION
from bridge.a2a.wire import EXTENSION
from bridge.platform import Broken, Misconfigured, Refused, Retryable

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable
    from typing import TypeVar

    T = TypeVar("T")

DEADLINE: Final = 20.0
"""Seconds for one request; an ask is acknowledged at once, and answered later."""
LARGEST_ANSWER: Final = 512 * 1024
"""Bytes of one answer. An envelope has 32,768 at most."""
MANY_HEADERS: Final = httpx.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30)
_TOO_MANY, _SERVER_ERROR = 429, 500
_UNAUTHORIZED: Final = frozenset({401, 403})
_ODD: Final = (
    httpx.HTTPError, ParseError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
)  # fmt: skip
"""What a2a-sdk lets through of an answer that is none."""


class TooLarge(httpx.HTTPError):
    """An answer that goes on beyond `LARGEST_ANSWER`."""


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise TooLarge(f"the answer has more than {LARGEST_ANSWER:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Transport(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise TooLarge("the answer is compressed, which nobody asked for")
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Bounded(response.stream)
        return response


def http_client(token: str, verify: ssl.SSLContext) -> httpx.AsyncClient:
    """A client that presents `token`, where there is one, to one peer and to nobody else."""
    headers = {"A2A-Version": VERSION, "Accept-Encoding": "identity"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(
        transport=_Transport(verify=verify, limits=MANY_HEADERS),
        headers=headers,
        timeout=DEADLINE,
        follow_redirects=False,
        trust_env=False,
    )


class Client:
    """One peer at the address that the settings give it. `rpc` is where it speaks JSON-RPC.

    `credential` is the file that our token for it is in.
    """

    def __init__(self, url: str, http: httpx.AsyncClient, *, credential: str) -> None:
        self.url = url
        self._http = http
        self._credential = credential

    async def card(self) -> AgentCard:
        """Its public card. Proven by nothing but TLS."""
        return await self._made(A2ACardResolver(self._http, self.url).get_agent_card())

    async def send(self, rpc: str, message: Message, *, extension: bool = True) -> Task | Message:
        """Send a message, and do not wait until it is answered."""
        request = SendMessageRequest(
            message=message, configuration=SendMessageConfiguration(return_immediately=True)
        )
        sent = await self._made(self._speak(rpc).send_message(request, context=_context(extension=extension)))
        return sent.task if sent.HasField("task") else sent.message

    async def task(self, rpc: str, name: str, *, extension: bool = True) -> Task | None:
        """How a task stands; None where it is not known there."""
        try:
            context = _context(extension=extension)
            return await self._made(self._speak(rpc).get_task(GetTaskRequest(id=name), context=context))
        except Gone:
            return None

    async def cancel(self, rpc: str, name: str, metadata: dict[str, Any]) -> None:
        """Cancel a task; one that is over, or not known there, is as good as cancelled."""
        request = CancelTaskRequest(id=name)
        request.metadata.update(metadata)
        try:
            await self._made(
                self._speak(rpc).cancel_task(request, context=_context(extension=bool(metadata)))
            )
        except Gone:
            return

    async def extended_card(self, rpc: str) -> AgentCard:
        """What it shows only to us."""
        transport = self._speak(rpc)
        transport.agent_card.capabilities.extended_agent_card = True
        context = _context(extension=True)
        return await self._made(
            transport.get_extended_agent_card(GetExtendedAgentCardRequest(), context=context)
        )

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    def _speak(self, rpc: str) -> JsonRpcTransport:
        return JsonRpcTransport(self._http, AgentCard(), rpc)

    async def _made(self, call: Awaitable[T]) -> T:
        """What `call` gives; whatever goes wrong is one of the four families, or `Gone`."""
        try:
            async with asyncio.timeout(DEADLINE):
                return await call
        except (TimeoutError, A2AClientTimeoutError) as error:
            raise Retryable(f"{self.url}: no answer within {DEADLINE:.0f} s") from error
        except (TaskNotFoundError, TaskNotCancelableError) as error:
            raise Gone(f"{self.url}: {type(error).__name__}") from error
        except InternalError as error:
            raise Retryable(f"{self.url}: {type(error).__name__}") from error
        except AgentCardResolutionError as error:
            self._raise(error.status_code, None, error)
        except A2AClientError as error:
            cause = error.__cause__
            response = cause.response if isinstance(cause, httpx.HTTPStatusError) else None
            status = None if response is None else response.status_code
            after = None if response is None else response.headers.get("retry-after")
            self._raise(status, after, error)
        except A2AError as error:
            raise Refused(type(error).__name__, "the other side does not take this request") from error
        except _ODD as error:
            raise Retryable(f"{self.url}: {type(error).__name__}") from error

    def _raise(self, status: int | None, after: str | None, error: Exception) -> NoReturn:
        if status in _UNAUTHORIZED:
            remedy = f"{self.url} does not accept this token; ask whoever runs it for another"
            raise Misconfigured(self._credential, remedy) from error
        if status == _TOO_MANY:
            wait = float(after) if after is not None and after.isdigit() else None
            raise Retryable(f"{self.url}: too many requests", wait) from error
        if status is None or status >= _SERVER_ERROR:
            raise Retryable(f"{self.url}: {status or type(error).__name__}") from error
        remedy = f"{self.url} answers {status}; is that the address of an agent?"
        raise Misconfigured("a2a_peers.url", remedy) from error


class Gone(Broken):
    """The task is not known there, or over."""


def _context(*, extension: bool) -> ClientCallContext:
    wanted = [with_a2a_extensions([EXTENSION])] if extension else []
    return ClientCallContext(service_parameters=ServiceParametersFactory.create(wanted))
