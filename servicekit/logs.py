"""Sets up logging once per process: readable on a terminal, one JSON object a line otherwise.

A line written while an RPC is served carries its method, request id, caller and trace;
tracebacks never show the values of local variables or the text of a database driver's errors.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from servicekit import faults
from servicekit.context import current_call

LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def configure(log_format: LogFormat = "auto", level: LogLevel = "info") -> None:
    """Send structlog's and the standard library's records to standard error.

    `auto` is console when standard error is a terminal and json otherwise.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_call,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    final: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        faults.withhold_words,
    ]
    if console:
        # Its default, rich tracebacks, prints local variables: guests' names and passwords.
        final.append(structlog.dev.ConsoleRenderer(exception_formatter=faults.write))
    else:
        exceptions = structlog.processors.ExceptionRenderer(faults.text_of)
        final += [exceptions, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)


def _add_call(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    call = current_call.get()
    if call is not None:
        event.setdefault("rpc", call.method)
        event.setdefault("request_id", call.request_id)
        event.setdefault("caller", call.caller)
        if call.span is not None:
            event.setdefault("trace_id", call.span.trace_id.hex())
    return event
