"""Where log lines go: pretty on a terminal, JSON otherwise, always on standard error.

Owns the one configuration of structlog and of the standard library's logging, which is routed
through it. Promises that nothing people wrote is logged above DEBUG: what matrix-nio says is cut
where it starts to quote events. Refuses libraries' chatter below WARNING unless asked (`verbose`).
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

CHATTY = ("nio", "peewee", "aiohttp", "openai", "httpx2", "httpcore2", "apscheduler", "asyncio")
_QUOTED_AT_MOST = 120


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be told from handlers of others (a test's)."""


def configure(*, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (default: standard error).

    `verbose` adds DEBUG lines, which may show what people wrote. Calling it again replaces what
    an earlier call set.
    """
    out = sys.stderr if stream is None else stream
    pretty = out.isatty()
    level = logging.DEBUG if verbose else logging.INFO
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
        structlog.processors.format_exc_info if not pretty else _as_is,
    ]
    render: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if pretty
        else structlog.processors.JSONRenderer()
    )
    handler = _Handler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, unquoted],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def unquoted(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Cut a line of matrix-nio at its first colon: what follows may quote an event with its words.

    Lines at DEBUG stay whole. matrix-nio 0.26, `responses.py`: "Error validating response: ...".
    """
    del logger, method
    if str(event.get("logger", "")).partition(".")[0] == "nio" and event.get("level") != "debug":
        said = str(event["event"])
        event["event"] = said.partition(":")[0][:_QUOTED_AT_MOST]
    return event


def _as_is(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Leave the traceback to the console renderer, which shows it better."""
    del logger, method
    return event


def silence() -> None:
    """Log nothing but errors: for commands whose output is for a person (`hearth chat`)."""
    configure()
    for name in (None, *CHATTY):
        logging.getLogger(name).setLevel(logging.ERROR)
