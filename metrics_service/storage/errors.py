"""The reasons for which the metrics database cannot be used; each has a text of one line."""

from __future__ import annotations


class LogNotReadyError(Exception):
    """The log cannot be used at start: the database is unreachable, too old, or not migrated."""


class LogUnavailableError(Exception):
    """The log cannot be used now: the database is unavailable, or another process is the writer."""


class CheckpointConflictError(Exception):
    """Another process has written a checkpoint since: this one is no longer the writer."""


class BusyError(Exception):
    """Too many reads wait for each other."""


def line_of(trouble: BaseException) -> str:
    """Return the first line of an error's text, or the name of its class."""
    text = str(trouble).strip()
    return text.splitlines()[0] if text else type(trouble).__name__
