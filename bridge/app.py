"""The composition root: wires settings, journal, models, platforms; starts and stops them in order.

Start: data folder locked, journal, model, then per account: what was left is recovered, the loops.
Stop (SIGTERM or SIGINT): no more claims, running turns get 20 s and are then left pending, the outbox
gets 5 s, the platforms hang up, the journal is checkpointed. The platforms go last, because the session
that sends is the one that listens; what still arrives is admitted and waits for the next start. A second
signal exits at once. A unit's
`TimeoutStopSec` must exceed the sum (45 s).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import secrets
import signal
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import structlog

import bots
from bots.chat import Chat, parse_persona
from bots.envoy import Envoy
from bots.librarian import Librarian
from bots.scribe import Scribe
from bots.steward import Steward
from bridge.credentials import mastodon_token
from bridge.delivery import Delivery
from bridge.ears import listening
from bridge.journal import Journal
from bridge.link.community import Community
from bridge.link.key import link_key
from bridge.mastodon.platform import MastodonPlatform
from bridge.matrix.platform import MatrixPlatform
from bridge.notes import Notes
from bridge.options import Options
from bridge.platform import Misconfigured
from bridge.router import Router
from bridge.schedule import SystemClock, scheduler
from bridge.tools import Ears, House
from models.client import ChatClient, Deadlines
from models.host import ModelHost, ServeSpec, shares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from bots.base import Bot
    from bridge.a2a.beside import Beside
    from bridge.platform import Platform
    from bridge.schedule import Clock
    from bridge.sections import MastodonSettings, MatrixSettings
    from bridge.settings import Settings
    from policies.room import RoomPolicy

log = structlog.get_logger(__name__)

TURNS_GRACE = 20.0
OUTBOX_GRACE = 5.0
DAY_MS = 86_400_000
_SOCKET_PATH_ROOM = 90
_PERSONAS = Path(bots.__file__).parent / "personas"


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the data folder for this process. Raises `Misconfigured` if another Hearth has it."""
    for folder in (*reversed(data.parents), data):
        if not folder.exists():  # `parents=True` would open those to others
            folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(data / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misconfigured(
                str(data),
                "another Hearth is running on this data folder; stop it first, or name another folder "
                "(data_dir). Two on one folder would break the encryption.",
            ) from error
        yield
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Account:
    """One account on one network: what it is allowed, and how its router works."""

    platform: Platform
    policy: RoomPolicy
    options: Options
    links: bool = False
    """Whether it has link rooms."""
    beside: Callable[[Router], Beside] | None = None
    """Makes its peers over HTTPS; blocks."""


class _Service:
    """The loops of one account."""

    def __init__(self, account: Account, house: House, bots: Mapping[str, Bot], rng: random.Random) -> None:
        platform = account.platform
        self.name = platform.account
        self.delivery = Delivery(house.journal, platform, house.clock, rng)
        house = replace(house, policy=account.policy, community=house.community if account.links else None)
        self.router = Router(house, platform, self.delivery, bots, account.options, rng)
        if self.router.links is not None and isinstance(platform, MatrixPlatform):
            links = self.router.links
            platform.wants_link = links.wants
            platform.link_offered = links.offered
        self._make_beside = account.beside
        self._beside: Beside | None = None
        self._reaching: asyncio.Task[None] | None = None
        self._linking: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._unsealing: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The loops that were started."""
        loops = (
            self._listening, self._working, self._delivering, self._counting, self._linking, self._reaching,
            self._unsealing,
        )  # fmt: skip
        return [task for task in loops if task is not None]

    async def start(self) -> None:
        await self.router.recover()
        if self._make_beside is not None and self.router.links is not None:
            self._beside = await asyncio.to_thread(self._make_beside, self.router)
            await self._beside.start()
            self.delivery.beside = self._beside
            self._reaching = asyncio.create_task(self._beside.run())
        self.delivery.ring()
        self._listening = asyncio.create_task(self.router.listen())
        self._working = asyncio.create_task(self.router.work())
        self._delivering = asyncio.create_task(self.delivery.run())
        self._counting = asyncio.create_task(self.router.votes.watch())
        self._unsealing = asyncio.create_task(self.router.sealed.watch())
        if self.router.links is not None:
            self._linking = asyncio.create_task(self.router.links.watch())
        log.info("account_started", account=self.name)

    async def stop(self) -> None:
        """End in order: no more claims, what runs and what is to be sent gets its grace, then hang up."""
        await _end(self._working)
        await _end(self._counting)
        await _end(self._unsealing)
        await _end(self._linking)
        await self.router.finish(TURNS_GRACE)
        await _end(self._delivering)
        await self.delivery.drain(OUTBOX_GRACE)
        await _end(self._reaching)
        if self._beside is not None:
            await self._beside.close()
        await _end(self._listening)


class App:
    """Everything between a start and a stop, for any number of accounts."""

    def __init__(
        self, house: House, accounts: Sequence[Account], bots: Mapping[str, Bot], *, rng: random.Random
    ) -> None:
        self._house = house
        self._services = [_Service(account, house, bots, rng) for account in accounts]

    async def serve(self, stop: asyncio.Event, ready: Callable[[], None] | None = None) -> None:
        """Run until `stop` is set, or until something fails that only the operator can mend.

        An account that only the operator can mend (a revoked token) is stopped, and the others go on.
        """
        for service in self._services:
            await service.start()
        clock = scheduler(retention=self._retain, look=self._look)
        clock.start()
        stopping = asyncio.create_task(stop.wait())
        model = asyncio.create_task(self._house.model_can_work())
        if ready is not None:
            ready()
        try:
            ended = await self._until_one_ends([stopping, model])
        finally:
            stopping.cancel()
            await _end(model)
            clock.shutdown(wait=False)
            await asyncio.gather(*(service.stop() for service in self._services))
            await self._house.journal.checkpoint()
        for task in ended - {stopping}:
            task.result()  # raises what ended it: Misconfigured, or a bug that must not go unseen

    async def _until_one_ends(self, others: list[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
        """Wait until one of `others` ends, or a loop that cannot be done without; what ended."""
        while True:
            loops = [task for service in self._services for task in service.tasks]
            done, _ = await asyncio.wait([*others, *loops], return_when=asyncio.FIRST_COMPLETED)
            stopped = [service for service in self._services if done.intersection(service.tasks)]
            errors = [task.exception() for service in stopped for task in done.intersection(service.tasks)]
            expected = all(isinstance(error, Misconfigured) for error in errors)
            if done.intersection(others) or not expected or len(stopped) == len(self._services):
                return done
            for service, error in zip(stopped, errors, strict=False):
                assert isinstance(error, Misconfigured)
                log.error("account_stopped", account=service.name, what=error.path, remedy=error.remedy)
                self._services.remove(service)
                await service.stop()

    async def _retain(self) -> None:
        before = self._house.clock.now() - self._house.retention_days * DAY_MS
        erased = await self._house.journal.expire(before)
        if erased:
            log.info("retention", erased=erased, days=self._house.retention_days)

    def _look(self) -> None:
        for service in self._services:
            service.router.ring()
            service.router.votes.ring()
            service.delivery.ring()


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def opened(
    settings: Settings, clock: Clock | None = None, *, hears: bool = True
) -> AsyncIterator[House]:
    """The house of `settings`: data folder locked, journal open, models starting (speech if it `hears`)."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(stack.enter_context, locked(settings.data))
        journal = await Journal.open(settings.journal_path)
        stack.push_async_callback(journal.close)
        sockets = await asyncio.to_thread(_socket_folder, settings, stack)
        client, host = await _model(settings, sockets, stack)
        yield House(
            journal=journal,
            clock=clock,
            model=client,
            policy=settings.room_policy,
            salt=secrets.token_bytes(16),
            version=await asyncio.to_thread(version, "hearth-bridge"),
            model_name=_model_name(settings),
            model_is_bundled=settings.model.kind == "bundled",
            model_is_remote=settings.model.kind == "remote",
            language=settings.chat.language,
            host=host,
            ears=await _ears(settings, sockets, stack) if hears else None,
            notes=_notes(settings, stack),
            community=await asyncio.to_thread(_community, settings),
            retention_days=settings.retention_days,
        )


def _community(settings: Settings) -> Community | None:
    """Who we are towards other communities; None where there are no link rooms, or none are wanted."""
    if settings.matrix is None or not settings.links.enabled:
        return None
    return Community(
        key=link_key(settings.credentials()),
        name=settings.community or settings.matrix.user,
        about=settings.links.about,
        home=settings.links.home_room,
        languages=(settings.chat.language,),
    )


def _notes(settings: Settings, stack: AsyncExitStack) -> Notes | None:
    if not settings.notes:
        return None
    notes = Notes(settings.notes_path, settings.note_folders)
    stack.push_async_callback(notes.aclose)
    return notes


async def _model(
    settings: Settings, sockets: Path, stack: AsyncExitStack
) -> tuple[ChatClient, ModelHost | None]:
    """The client of the chat model, and the host of its server where that is ours."""
    deadlines = Deadlines(total=settings.model.deadline.total_seconds())
    if settings.model.kind == "remote":
        key = await asyncio.to_thread(settings.credentials().get, "model-api-key")
        client = ChatClient(
            settings.model.name or "",
            base_url=settings.model.base_url,
            api_key=None if key is None else key.get_secret_value(),
            deadlines=deadlines,
            context=settings.model.context,
        )
        stack.push_async_callback(client.close)
        return client, None
    name = _model_name(settings)
    path = settings.model_path
    hears = settings.speech.kind in {"bundled", "folder", "echo"}
    spec = ServeSpec(
        model="echo" if path is None else str(path),
        socket=sockets / "chat.sock",
        name=name,
        context=settings.model.context,
        threads=settings.model.threads or (shares(os.cpu_count() or 1)[0] if hears else 0),
        memory=settings.model.memory_limit or 0,
        echo_delay=settings.model.echo_delay,
    )
    host = await stack.enter_async_context(ModelHost(spec))
    # The bundled model is too small to be imaginative: it copies what it finds, or it errs.
    temperature = 0.0 if settings.model.kind == "bundled" else None
    client = ChatClient(name, socket=spec.socket, deadlines=deadlines, temperature=temperature)
    stack.push_async_callback(client.close)
    return client, host


async def _ears(settings: Settings, sockets: Path, stack: AsyncExitStack) -> Ears | None:
    """The speech model, or None where voice is off. If it cannot work, everything but voice goes on."""
    speech = settings.speech
    if speech.kind == "off":
        return None
    client, host = await stack.enter_async_context(listening(settings, sockets))
    return Ears(
        client=client,
        name=settings.speech_name,
        is_bundled=speech.kind == "bundled",
        max_bytes=speech.max_megabytes << 20,
        max_seconds=speech.max_minutes * 60.0,
        language=speech.language,
        spool=settings.data,
        host=host,
    )


def _socket_folder(settings: Settings, stack: AsyncExitStack) -> Path:
    """The data folder, or a private temporary one where its path is too long for a socket (108 bytes)."""
    if len(os.fsencode(settings.data)) < _SOCKET_PATH_ROOM:
        return settings.data
    return Path(stack.enter_context(TemporaryDirectory(prefix="hearth-")))


def _model_name(settings: Settings) -> str:
    if settings.model.kind == "remote":
        return settings.model.name or ""
    path = settings.model_path
    return "echo" if path is None else path.stem


def bots_of(settings: Settings) -> dict[str, Bot]:
    """The bots, with the files that they need already read. Raises `Misconfigured`."""
    chosen = settings.persona_path
    persona_file = chosen or _PERSONAS / f"{settings.chat.persona}.toml"
    try:
        persona = parse_persona(persona_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        known = ", ".join(sorted(path.stem for path in _PERSONAS.glob("*.toml")))
        raise Misconfigured(
            "chat.persona", f"{persona_file}: {error}; use one of {known}, or a file"
        ) from error
    persona = replace(
        persona,
        max_tokens=min(persona.max_tokens, settings.model.max_tokens),
        context_messages=min(persona.context_messages, settings.chat.context_messages),
    )
    chat = Librarian(persona) if settings.notes else Chat(persona)
    return {
        "chat": chat,
        "scribe": Scribe(chat),
        "steward": Steward(persona.name, settings.community),
        "envoy": Envoy(chat, persona.name, int(settings.links.wait.total_seconds() * 1000)),
    }


def options_of(settings: Settings, own_name: str) -> Options:
    """What the settings say about how a router works."""
    return Options(
        own_name=own_name,
        at_once=settings.limits.concurrent_turns,
        context_messages=settings.chat.context_messages,
        max_age_ms=None if settings.matrix is None else int(settings.matrix.max_age.total_seconds() * 1000),
        streaming=settings.delivery.streaming,
        receipts=settings.delivery.receipts,
        typing=settings.delivery.typing,
        admins=frozenset(() if settings.matrix is None else settings.matrix.admins),
    )


async def run(settings: Settings, *, ready: Callable[[], None] | None = None) -> int:
    """`hearth run`: answer on Matrix and Mastodon until SIGTERM or SIGINT; the exit status."""
    settings.need_account()
    rng = random.Random()  # noqa: S311 - jitter
    bots = await asyncio.to_thread(bots_of, settings)
    async with opened(settings) as house, AsyncExitStack() as stack:
        chat = bots["chat"]
        own_name = chat.own_name if isinstance(chat, Chat) else "Hearth"
        options = options_of(settings, own_name)
        accounts: list[Account] = []
        if settings.matrix is not None:
            matrix = await _matrix(settings, settings.matrix, house, rng, own_name)
            account = Account(matrix, settings.room_policy, options, links=True)
            if settings.a2a_peers or settings.a2a.listen:
                account = replace(account, beside=partial(_beside, settings, house, matrix.account))
            accounts.append(account)
        accounts += [await _mastodon(settings, one, options, house, rng) for one in settings.mastodon]
        for account in accounts:
            stack.push_async_callback(account.platform.close)
        await App(house, accounts, bots, rng=rng).serve(_stop_on_signal(), ready)
    return 0


async def _matrix(
    settings: Settings, matrix: MatrixSettings, house: House, rng: random.Random, own_name: str
) -> MatrixPlatform:
    credentials = settings.credentials()
    password = await asyncio.to_thread(credentials.get, "matrix-password")
    token = await asyncio.to_thread(credentials.get, "matrix-access-token")
    recovery_key = await asyncio.to_thread(credentials.get, "matrix-recovery-key")
    return MatrixPlatform(
        homeserver=matrix.homeserver,
        user_id=matrix.user,
        password=None if password is None else password.get_secret_value(),
        access_token=None if token is None else token.get_secret_value(),
        recovery_key=None if recovery_key is None else recovery_key.get_secret_value(),
        device_name=matrix.device_name,
        store=settings.matrix_store,
        pickle_key=(await asyncio.to_thread(credentials.pickle_key)).get_secret_value(),
        may_invite=house.policy.admits,
        known_bots=frozenset(matrix.bots),
        has_admins=bool(matrix.admins),
        rng=rng,
        own_name=own_name,
    )


def _beside(settings: Settings, house: House, account: str, router: Router) -> Beside:
    """The peers over HTTPS. Raises `Misconfigured`, also where what that needs is not installed."""
    try:
        from bridge.a2a.start import beside  # noqa: PLC0415 - the extra `a2a`, off unless configured
    except ImportError as error:
        raise Misconfigured("a2a", "links over HTTPS need more; install `hearth-bridge[a2a]`") from error
    return beside(settings, house, account, router)


async def _mastodon(
    settings: Settings, account: MastodonSettings, options: Options, house: House, rng: random.Random
) -> Account:
    """The account with its token. Posts cannot be drafts: everybody would be told of each edit."""
    name = mastodon_token(account.user)
    credentials = settings.credentials()
    token = await asyncio.to_thread(credentials.get, name)
    if token is None:
        remedy = f"no access token; run `hearth mastodon login {account.user}`"
        raise Misconfigured(str(credentials.write / name), remedy)
    platform = MastodonPlatform(
        url=account.instance,
        account=account.user,
        token=token.get_secret_value(),
        admins=frozenset(account.admins),
        language=account.language,
        accept_private_mentions=account.accept_private_mentions,
        private_media=account.private_media,
        poll_every=account.poll.total_seconds(),
        clock=house.clock,
        rng=rng,
    )
    options = replace(
        options,
        max_age_ms=int(account.max_age.total_seconds() * 1000),
        streaming=False,
        receipts=False,
        typing=False,
        admins=frozenset(account.admins),
        place_is_person=True,
        refusals_per_day=1,
    )
    return Account(platform, settings.mastodon_policy(account), options)


def _stop_on_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one exits at once."""
    stop = asyncio.Event()

    def stopping() -> None:
        if stop.is_set():
            os._exit(130)
        log.info("stopping", again="exits at once")
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    return stop
