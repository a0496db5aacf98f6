"""Formats exceptions for logs and Sentry. A database driver quotes statements and values, so if the
chain has one of its errors, or an error raised inside it, only types, codes and places are shown.
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
    """Return the traceback of an exception and of its causes, the earliest first."""
    error = exc_info[1]
    if not _quotes_values(error):
        return "".join(traceback.format_exception(error)).rstrip()
    return "\n\n".join(_words_withheld(each) for each in reversed([*_shown(error)]))


def write(file: TextIO, exc_info: ExcInfo) -> None:
    """Write text_of to a terminal."""
    file.write(f"\n{text_of(exc_info)}")


def withhold_words(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut the message of a driver's error to its first line (a structlog processor): asyncio puts
    the error's text into the following lines.
    """
    if _quotes_values(_error_of(event.get("exc_info"))):
        event["event"] = str(event["event"]).split("\n", 1)[0]
    return event


def before_send(event: Event, hint: Hint) -> Event:
    """Remove the text of a driver's error, and of its whole chain, from a Sentry event."""
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
    """Whether the driver is in its traceback: encoding values for COPY raises plain ValueErrors
    that quote them.
    """
    frames = traceback.walk_tb(error.__traceback__)
    return any(_is_driver(str(frame.f_globals.get("__name__"))) for frame, _ in frames)


def _is_driver(module: str) -> bool:
    return module.partition(".")[0] == DRIVER


def _shown(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the exception and the causes, contexts and members that a traceback shows."""
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
    """Return SQLSTATE and constraint, such as "SQLSTATE 23505 (bookings_pkey)"."""
    sqlstate = getattr(error, "sqlstate", None)
    constraint = getattr(error, "constraint_name", None)
    at = f" ({constraint})" if constraint else ""
    return f"SQLSTATE {sqlstate}{at}" if sqlstate else ""


def _error_of(exc_info: Any) -> BaseException | None:
    """Return the exception of any exc_info that logging takes: an exception, a tuple or a flag."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        error = exc_info[1]
        return error if isinstance(error, BaseException) else None
    return sys.exc_info()[1] if exc_info else None
