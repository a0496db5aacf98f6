"""Why the metrics database cannot be used; the text of each is one line for people."""

from __future__ import annotations


class LogNotReadyError(Exception):
    """The log cannot be used at start: the database is not there, too old, or not migrated."""


class LogUnavailableError(Exception):
    """The log cannot be written now: the database is away, or another process is the writer."""


class CheckpointConflictError(Exception):
    """Another process has written a checkpoint since: this one is no longer the writer."""


def line_of(trouble: BaseException) -> str:
    """The first line of an error's text, or its name."""
    text = str(trouble).strip()
    return text.splitlines()[0] if text else type(trouble).__name__
