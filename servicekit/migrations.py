"""Applies and rolls back the dbmate files of a database, one run at a time on each database."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from servicekit import binaries, database_url
from servicekit.settings import SettingsError
from servicekit.start import INTERRUPTED, StartError, fail

MIGRATIONS: Final = Path(__file__).resolve().parent.parent / "migrations"
"""Holds one folder for each database."""

LOCK_TIMEOUT: Final = "60s"


def migrate(url: str, folder: Path) -> list[str]:
    """Create the database if it is missing, apply every file that is not applied yet, and return
    their names.

    If a file fails, those before it stay applied. Raises `StartError`, one line.
    """
    return re.findall(r"^Applied: (\S+)", _dbmate(url, folder, "up"), re.MULTILINE)


def rollback(url: str, folder: Path) -> list[str]:
    """Roll back the applied file of the highest version, and return its name; an empty list if
    nothing is applied.

    Raises `StartError`, one line.
    """
    if "[X]" not in _dbmate(url, folder, "status"):
        return []
    return re.findall(r"^Rolled back: (\S+)", _dbmate(url, folder, "rollback"), re.MULTILINE)


def _dbmate(url: str, folder: Path, command: str) -> str:
    if not folder.is_dir():
        raise StartError(f"there are no migrations in {folder}: run from a source tree")
    _check(url, folder.name)
    program = [str(binaries.dbmate()), "--no-dump-schema", "--migrations-table=schema_migrations"]
    program += ["--migration-lock", f"--migration-lock-timeout={LOCK_TIMEOUT}"]
    program += [f"--migrations-dir={folder}", command]
    # The environment, unlike the arguments, cannot be read by other accounts.
    environment = {**os.environ, "DATABASE_URL": _for_dbmate(url)}
    done = subprocess.run(program, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        reason = lines[-1].removeprefix("Error: ") if lines else "dbmate wrote nothing"
        reason = database_url.without_secrets(reason, url)
        raise StartError(f"the {folder.name} database could not be migrated: {reason}")
    return done.stdout


def _check(url: str, name: str) -> None:
    try:
        database_url.check(url, name)
    except ValueError as error:
        given = f"={database_url.hidden(url)!r}" if url else " is not set"
        raise SettingsError(f"{name.upper()}_DATABASE_URL{given}: {error}") from None


def _for_dbmate(url: str) -> str:
    """Encode user and password, since dbmate prints a URL that it cannot read, and set
    sslmode=prefer where none is set, for which its driver would require TLS.
    """
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    options.setdefault("sslmode", "prefer")
    netloc = database_url.canonical_netloc(parts)
    return urlunsplit(parts._replace(netloc=netloc, query=urlencode(options)))


def main() -> int:
    """Apply migrations/NAME to NAME_DATABASE_URL: `python -m servicekit.migrations NAME`."""
    (name,) = sys.argv[1:]
    try:
        applied = migrate(os.environ.get(f"{name.upper()}_DATABASE_URL", ""), MIGRATIONS / name)
    except StartError as error:
        return fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    print(f"{name}: {len(applied)} migrations applied")
    return 0


if __name__ == "__main__":
    sys.exit(main())
