"""The errors of the booking database; driver errors are translated into them.

They carry codes and names of constraints, never values, so that no data leaks into logs or answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from servicekit.errors import UNAVAILABLE, ApiError

# Texts of mistakes in this code, which the driver raises as the class of a closed connection.
_OUR_FAULTS: Final = ("another operation is in progress", "the server expects")


class DatabaseError(Exception):
    """The database refused a statement. Never carries values, only codes and names."""

    def __init__(self, sqlstate: str | None, constraint: str | None = None) -> None:
        at = f" ({constraint})" if constraint else ""
        super().__init__(f"the database refused a statement: {sqlstate or 'no code'}{at}")
        self.sqlstate = sqlstate
        self.constraint = constraint


class Conflict(DatabaseError):  # noqa: N818 - a condition to try again on
    """A deadlock or serialisation failure (40001, 40P01): try the transaction again."""


class LockTimeout(DatabaseError):  # noqa: N818 - as Conflict
    """A lock was not granted in time (55P03)."""


class DuplicateKey(DatabaseError):  # noqa: N818 - as Conflict
    """A unique constraint refused a row (23505); `constraint` names it."""


class DataRefused(DatabaseError):  # noqa: N818 - as Conflict
    """Values were malformed or broke a constraint (classes 22 and 23): one command's own fault."""


class DatabaseUnavailable(ApiError):  # noqa: N818 - named as its reason
    """The database cannot be reached or did not answer in time; UNAVAILABLE to the caller.

    The statement may or may not have been carried out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(UNAVAILABLE, message, retry_after_s=1.0)


class ConnectionLost(DatabaseUnavailable):
    """The connection broke, was refused or cannot write, or the server is starting or stopping.

    `absent` says that the server answered, but has no such database.
    """

    def __init__(self, message: str, *, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


class StatementTimeout(DatabaseUnavailable):
    """No answer, or no free connection, within the time limit."""


@contextmanager
def translate_driver_errors() -> Iterator[None]:
    """Raise this module's errors in place of the driver's, without their texts."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _of_sqlstate(error) from None
    except asyncpg.ClientConfigurationError:
        raise ConnectionLost("the driver cannot use an option of its address") from None
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):
            # The driver could not encode an argument.
            raise DataRefused(None) from None
        if any(fault in str(error) for fault in _OUR_FAULTS):
            raise
        raise ConnectionLost("the connection was closed") from None
    except asyncpg.InternalClientError:
        raise ConnectionLost("the connection broke") from None
    except TimeoutError:
        raise StatementTimeout("the database did not answer in time") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConnectionLost(f"the database cannot be reached: {reason}") from None


def _of_sqlstate(error: asyncpg.PostgresError) -> Exception:
    sqlstate: str = getattr(error, "sqlstate", None) or ""
    constraint: str | None = getattr(error, "constraint_name", None)
    match sqlstate:
        case "40001" | "40P01":
            return Conflict(sqlstate)
        case "55P03":
            return LockTimeout(sqlstate)
        case "23505":
            return DuplicateKey(sqlstate, constraint)
        case "57014":
            return StatementTimeout("the database ended a statement that took too long")
        case "3D000":
            return ConnectionLost("there is no such database", absent=True)
        case "28P01" | "28000":
            return ConnectionLost("the database refused the user or the password")
        case "25P03":
            return ConnectionLost("a transaction was idle for too long")
        case "25006":
            # As after a failover: the session is on what is now a replica.
            return ConnectionLost("the database is read-only")
    if sqlstate[:2] in ("22", "23"):
        return DataRefused(sqlstate, constraint)
    if sqlstate[:2] in ("08", "53", "57", "58"):
        return ConnectionLost(f"the connection was lost ({sqlstate})")
    return DatabaseError(sqlstate, constraint)
