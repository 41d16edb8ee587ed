"""The log: one JSON object a line for machines, nothing people wrote, no chatter of libraries."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from bridge import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The process's own logging comes back after each test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)
    structlog.reset_defaults()


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_our_lines_and_those_of_libraries_have_the_same_form() -> None:
    """structlog and the standard library end in the same JSON, with level, logger and time."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("bridge.router").info("turn", outcome="answered", tokens=12)
    logging.getLogger("elsewhere").warning("it %s", "rains")
    ours, theirs = _lines(stream)
    assert (ours["event"], ours["outcome"], ours["tokens"]) == ("turn", "answered", 12)
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("it rains", "elsewhere", "warning")
    assert ours.keys() >= {"level", "logger", "timestamp"}
    assert theirs.keys() >= {"level", "logger", "timestamp"}


def test_what_matrix_nio_quotes_is_cut() -> None:
    """matrix-nio warns with the event that it could not read: the words stay out of the log."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("nio.responses").warning("Error validating response: 'my secret diary' is not a list")
    (line,) = _lines(stream)
    assert line["event"] == "Error validating response"
    assert "diary" not in stream.getvalue()


@pytest.mark.parametrize("library", logs.CHATTY)
def test_libraries_are_heard_only_when_they_warn(library: str) -> None:
    """Each request of a library is not a line of ours, unless asked for."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger(f"{library}.client").info("GET /sync")
    assert stream.getvalue() == ""
    logs.configure(stream=stream, verbose=True)
    logging.getLogger(f"{library}.client").debug("GET /sync")
    assert len(_lines(stream)) == 1


def test_a_second_call_replaces_the_first() -> None:
    """A line is written once, however often the log was set up."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.configure(stream=stream)
    structlog.get_logger("bridge").warning("once")
    assert len(_lines(stream)) == 1


def test_exceptions_are_part_of_their_line() -> None:
    """A traceback does not break the one-object-a-line form."""
    stream = io.StringIO()
    logs.configure(stream=stream)
    try:
        raise ValueError("no")  # noqa: TRY301 - the exception is the subject
    except ValueError:
        structlog.get_logger("bridge").exception("failed")
    (line,) = _lines(stream)
    assert "ValueError: no" in line["exception"]


def test_commands_for_people_are_not_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    """Between the lines of a conversation nothing is logged but errors."""
    logs.silence()
    structlog.get_logger("bridge").warning("retrying")
    logging.getLogger("nio.crypto").warning("Missing session")
    assert capsys.readouterr().err == ""
    structlog.get_logger("bridge").error("broken")
    assert "broken" in capsys.readouterr().err
