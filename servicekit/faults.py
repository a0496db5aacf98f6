"""What is told of an exception, in logs and to Sentry: a database driver quotes statements and
values, so where one of its errors, or one that came out of it, is in the chain, only types, codes
and places are told.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, TextIO

from structlog.typing import EventDict, ExcInfo, WrappedLogger

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

DRIVER: Final = "asyncpg"


def text_of(exc_info: ExcInfo) -> str:
    """The traceback of an exception and of those it came from, the first of them first."""
    error = exc_info[1]
    if not _quotes_values(error):
        return "".join(traceback.format_exception(error)).rstrip()
    return "\n\n".join(_words_withheld(each) for each in reversed([*_shown(error)]))


def write(file: TextIO, exc_info: ExcInfo) -> None:
    """As text_of, for a terminal."""
    file.write(f"\n{text_of(exc_info)}")


def withhold_words(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: the first line alone of a message about a driver's error. asyncio puts
    the error's words into the lines below.
    """
    if _quotes_values(_error_of(event.get("exc_info"))):
        event["event"] = str(event["event"]).split("\n", 1)[0]
    return event


def before_send(event: Event, hint: Hint) -> Event:
    """A hook of Sentry: leaves the words of a driver's error, and of all in its chain, out."""
    exceptions: Any = event.get("exception") or {}
    values: list[dict[str, Any]] = exceptions.get("values") or []
    error = _error_of(hint.get("exc_info"))
    if _quotes_values(error) or any(_is_driver(str(value.get("module") or "")) for value in values):
        codes = {type(each).__name__: _code(each) for each in _shown(error)}
        for value in values:
            value["value"] = codes.get(str(value.get("type")), "")
    return event


def _quotes_values(error: BaseException | None) -> bool:
    return any(
        _is_driver(type(each).__module__) or _came_through_driver(each) for each in _shown(error)
    )


def _came_through_driver(error: BaseException) -> bool:
    """Whether the driver is in its traceback: what encodes values for COPY raises plain ValueErrors
    that quote them.
    """
    frames = traceback.walk_tb(error.__traceback__)
    return any(_is_driver(str(frame.f_globals.get("__name__"))) for frame, _ in frames)


def _is_driver(module: str) -> bool:
    return module.partition(".")[0] == DRIVER


def _shown(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and, as a traceback shows them, its causes, contexts and members, each once."""
    waiting = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting.append(each.__cause__)
        if not each.__suppress_context__:
            waiting.append(each.__context__)
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)


def _words_withheld(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    code = _code(error)
    return f"Traceback (most recent call last):\n{frames}{kind}{f': {code}' if code else ''}"


def _code(error: BaseException) -> str:
    """Such as "SQLSTATE 23505 (bookings_pkey)", the name that of a constraint."""
    sqlstate = getattr(error, "sqlstate", None)
    constraint = getattr(error, "constraint_name", None)
    at = f" ({constraint})" if constraint else ""
    return f"SQLSTATE {sqlstate}{at}" if sqlstate else ""


def _error_of(exc_info: Any) -> BaseException | None:
    """Of what logging takes for exc_info: an exception, sys.exc_info() or whether to ask it."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        error = exc_info[1]
        return error if isinstance(error, BaseException) else None
    return sys.exc_info()[1] if exc_info else None
