"""Provides the databases of `make run`, of the database targets and of the tests.

At most one process runs the embedded PostgreSQL of a data folder; a database whose URL is in the
environment is used as it is.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from servicekit import binaries
from servicekit.postgres import PostgresServer
from servicekit.start import INTERRUPTED, StartError, fail

__all__ = ["DATABASES", "PostgresServer", "databases", "remove", "sole_user"]

# Each service has its own database; NAME_DATABASE_URL is its address.
DATABASES: Final = ("booking", "metrics")
URLS: Final = {f"{name.upper()}_DATABASE_URL": name for name in DATABASES}


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Lock `folder` (such as `.data`) for one stack at a time.

    Raises `StartError` naming the process that holds it, or why `folder` cannot be used. The lock
    ends with the process.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = (folder / "lock").open("a+")
    except OSError as error:
        raise StartError(
            f"the data folder {folder} cannot be used: {error.filename}: {error.strerror}"
        ) from None
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StartError(
                f"{folder} is in use by process {lock.read().strip() or '?'}: stop it first"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def databases(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    refused: StartError | None = None,
    names: Mapping[str, str] = URLS,
) -> Iterator[dict[str, str]]:
    """Provide BOOKING_DATABASE_URL and METRICS_DATABASE_URL for child processes, or the variables
    of `names`, each with the name of its database.

    A URL in `environ` (by default the process's) is passed on; DATABASE_URL also counts for
    booking. The others are databases of the embedded server under `folder`, which is used if it
    runs, else started and, at the end, stopped. Missing databases are created, empty. Call it from
    the main thread, as the `sole_user` of `folder`; one who was refused that passes the error, and
    may only use a server that runs. Raises `StartError`.
    """
    given = os.environ if environ is None else environ
    found = {variable: given[variable] for variable in names if given.get(variable)}
    if given.get("DATABASE_URL") and "BOOKING_DATABASE_URL" in names:
        found.setdefault("BOOKING_DATABASE_URL", given["DATABASE_URL"])
    missing = [variable for variable in names if variable not in found]
    with ExitStack() as stack:
        if missing:
            server = PostgresServer(folder / "postgres")
            if not server.attach():
                if refused is not None:
                    raise refused
                # Also when the start is interrupted.
                stack.callback(server.stop)
                server.start()
            present = server.databases()
            for variable in missing:
                name = names[variable]
                if name not in present:
                    server.create_database(name)
                found[variable] = server.dsn(name)
        yield found


def remove(folder: Path) -> None:
    """Remove `folder` and all data in it. Raises `StartError` while a stack uses it."""
    if not folder.is_dir():
        return
    with sole_user(folder):
        server = PostgresServer(folder / "postgres")
        if (pid := server.running_pid()) is not None:
            raise StartError(f"PostgreSQL is running in {folder} (process {pid}): stop it first")
        try:
            binaries.remove_home(server.data_dir)
            shutil.rmtree(folder)
        except OSError as error:
            raise StartError(
                f"{folder} cannot be removed: {error.filename}: {error.strerror}"
            ) from None


def _execute(folder: Path, command: list[str]) -> int:
    with ExitStack() as stack:
        refused = None
        try:
            stack.enter_context(sole_user(folder))
        except StartError as error:
            # If another process holds the folder, its server is used.
            refused = error
        urls = stack.enter_context(databases(folder, refused=refused))
        # Ctrl-C reaches the command as well, and the server is stopped after it has ended. A
        # handler, unlike SIG_IGN, is not inherited.
        previous = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            return subprocess.Popen(command, env={**os.environ, **urls}).wait()
        finally:
            signal.signal(signal.SIGINT, previous)


def main() -> int:
    """Run `exec -- COMMAND`, a command with both URLs set, or `clean`, which removes all data."""
    parser = argparse.ArgumentParser(prog="python -m servicekit.devstack")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="data folder")
    actions = parser.add_subparsers(dest="action", required=True)
    execute = actions.add_parser("exec", help="run a command with both databases there")
    execute.add_argument("command", nargs="+")
    actions.add_parser("clean", help="remove the data folder")
    arguments = parser.parse_args()
    try:
        if arguments.action == "exec":
            return _execute(arguments.data, arguments.command)
        remove(arguments.data)
    except StartError as error:
        return fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
