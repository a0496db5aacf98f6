"""Runs one embedded PostgreSQL server on one data directory.

It listens on 127.0.0.1 with a random password, and never outlives the process that started it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from servicekit import binaries
from servicekit.migrations import migrate
from servicekit.start import StartError

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 3.0
# The server itself gives its children five seconds before it kills them.
QUIT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.02
# Another process can take a free port between its choice and the server's bind.
PORT_ATTEMPTS: Final = 5
PASSWORD_FILE: Final = "farehold.password"  # noqa: S105 - the name of a file
# Exists once template1 is complete, from which databases are made.
TEMPLATE_FILE: Final = "farehold.template"

_DURABLE: Final[Mapping[str, str]] = {"fsync": "on", "synchronous_commit": "on"}
_THROWAWAY: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}
_COMMON: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer:
    """One PostgreSQL server on `data_dir`, which the first start creates.

    The directory is made beside its place and renamed when it is complete, so that a start may be
    interrupted at any moment. One process at a time may start a server in it.

    `durable=False` is for tests: no fsync, and `stop` writes no last checkpoint. With `port` None,
    each start takes a free port. `settings` are further server settings. As root the server runs as
    the account `nobody`, which then owns `data_dir`; if that account cannot reach it, `data_dir` is
    a symbolic link to a directory under /var/tmp.

    The server ends when the thread that called `start` does: call it from the main thread.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or 0
        self._fixed_port = port is not None
        self._durable = durable
        self._settings = {**_COMMON, **(_DURABLE if durable else _THROWAWAY), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._password = ""

    def start(self) -> None:
        """Start the server and return when it accepts connections.

        Raises `StartError` when another server runs in `data_dir`, when that cannot be used, or
        when the server does not start. A postmaster.pid left by a crash does no harm.
        """
        try:
            self._start()
        except OSError as error:
            at = f"{error.filename}: " if error.filename else ""
            raise StartError(
                f"the data folder {self.data_dir} cannot be used: {at}{error.strerror or error}"
            ) from None

    def _start(self) -> None:
        if (other := self.running_pid()) is not None:
            raise StartError(
                f"PostgreSQL is already running in {self.data_dir} (process {other}); "
                "stop the other `make run` first"
            )
        home = binaries.reachable_directory(self.data_dir)
        programs = binaries.reachable_binaries(home)
        binaries.remove_unfinished(home)
        if not (home / PASSWORD_FILE).exists():
            self._initialise(home, programs)
        self._password = (home / PASSWORD_FILE).read_text()
        for _ in range(1 if self._fixed_port else PORT_ATTEMPTS):
            if not self._fixed_port:
                self.port = binaries.free_port()
            if self._launch(home, programs):
                if not (home / TEMPLATE_FILE).exists():
                    self.psql("template1", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
                    (home / TEMPLATE_FILE).touch()
                return
        raise StartError(f"PostgreSQL did not start in {self.data_dir}: {self._last_message()}")

    def migrate(self, database: str, folder: Path) -> None:
        """Apply the dbmate files of `folder`, if it has any.

        Raises `StartError` with the message of dbmate.
        """
        if any(folder.glob("*.sql")):
            migrate(self.dsn(database), folder)

    def attach(self) -> bool:
        """Use the server that another process runs in `data_dir`; False when there is none.

        `stop` leaves such a server running.
        """
        lines = self._pid_file()
        if self.running_pid() is None or len(lines) < 4:
            return False
        self.port = int(lines[3])
        self._password = (self.data_dir / PASSWORD_FILE).read_text()
        return self._answers()

    def stop(self) -> None:
        """End the server that `start` started and the connections to it; may be repeated."""
        # SIGINT is a fast shutdown with a checkpoint; SIGQUIT leaves recovery to the next start.
        self._end(signal.SIGINT if self._durable else signal.SIGQUIT)

    def kill(self) -> None:
        """End the server as a crash would; `start` may follow."""
        self._end(signal.SIGQUIT)

    def dsn(self, database: str) -> str:
        """Return the URL of `database` for asyncpg, libpq and dbmate."""
        return (
            f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/"
            f"{quote(database, safe='')}?sslmode=disable"
        )

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create `name`, as a copy of `template` if one is given, and return its URL."""
        clause = f' TEMPLATE "{template}"' if template else ""
        self.psql("postgres", f'CREATE DATABASE "{name}"{clause}')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop `name` if it exists, ending the connections to it."""
        self.psql("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def databases(self) -> set[str]:
        """Return the names of all databases."""
        return set(self.psql("postgres", "SELECT datname FROM pg_database").splitlines())

    def psql(self, database: str, sql: str) -> str:
        """Run `sql` and return the rows as unaligned text.

        Raises `subprocess.CalledProcessError` with the server's message in `stderr`.
        """
        command = [str(binaries.program("psql")), "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        # The environment, unlike the arguments, cannot be read by other accounts.
        environment = {**os.environ, "PGPASSWORD": self._password}
        done = subprocess.run(
            [*command, *address], check=True, capture_output=True, text=True, env=environment
        )
        return done.stdout.strip()

    def running_pid(self) -> int | None:
        """Return the process id of the server that runs in `data_dir`, also if another process
        started it.
        """
        lines = self._pid_file()
        if not lines:
            return None
        pid = int(lines[0])
        # After a crash the number may belong to another process; a server works in its directory.
        try:
            return pid if Path(f"/proc/{pid}/cwd").resolve() == self.data_dir.resolve() else None
        except OSError:  # It is another account's, or has ended meanwhile.
            return None

    @property
    def log_path(self) -> Path:
        """The file that the server writes its messages to."""
        return self.data_dir / "server.log"

    def _pid_file(self) -> list[str]:
        try:
            return (self.data_dir / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _last_message(self) -> str:
        lines = self.log_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def _initialise(self, home: Path, programs: Path) -> None:
        """Make the directory beside its place, and rename it when it is complete."""
        if any(home.iterdir()):
            raise StartError(
                f"{self.data_dir} cannot be used: it is neither empty nor a complete data "
                "directory; `make clean-data` removes it"
            )
        made = binaries.unfinished_directory(home)
        try:
            self._initdb(made, programs).replace(home)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _initdb(self, made: Path, programs: Path) -> Path:
        password = secrets.token_hex(16)
        account = binaries.unprivileged_account()
        # A folder of its own, since initdb insists on an empty one.
        data = made / "data"
        data.mkdir(mode=0o700)
        password_file = made / PASSWORD_FILE
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        if account:
            for path in (data, password_file):
                os.chown(path, account["user"], account["group"])
        command = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--no-locale"]
        command += ["--encoding=UTF8", "--auth=scram-sha-256", f"--pwfile={password_file}"]
        if not self._durable:
            command.append("--no-sync")
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=made,
            preexec_fn=binaries.end_with_parent,
            **account,
        )
        if done.returncode != 0:
            # Of initdb, or of the server that it runs.
            marks = ("error:", "FATAL:", "PANIC:")
            lines = done.stderr.splitlines()
            errors = [line for line in lines if any(mark in line for mark in marks)]
            message = " ".join(errors[:2]) or "initdb wrote nothing"
            raise StartError(f"the data folder {self.data_dir} cannot be used: {message}")
        return password_file.rename(data / PASSWORD_FILE).parent

    def _launch(self, home: Path, programs: Path) -> bool:
        command = [str(programs / "postgres"), "-D", str(home), "-p", str(self.port)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with binaries.open_messages(home / "server.log") as log:
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=home,
                # A new session: Ctrl-C in the terminal must reach the services first.
                start_new_session=True,
                preexec_fn=binaries.end_with_parent,
                **binaries.unprivileged_account(),
            )
        give_up = time.monotonic() + START_TIMEOUT_S
        try:
            while time.monotonic() < give_up and process.poll() is None:
                # The server writes the eighth line of the file when it is ready.
                if self._pid_file()[7:8] == ["ready   "] and self._answers():
                    return True
                time.sleep(POLL_S)
        except BaseException:
            self.kill()
            raise
        self.kill()
        return False

    def _answers(self) -> bool:
        probe = [str(binaries.program("pg_isready")), "-q", "-t", f"{ANSWER_TIMEOUT_S:.0f}"]
        address = ["-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run([*probe, *address], check=False).returncode == 0

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(QUIT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
