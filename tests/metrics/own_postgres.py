"""A database server that a test may kill and start again. A separate process holds it: to start it
is to fork, which a process with gRPC's threads does not survive.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class OwnPostgres:
    """The server at the other end of the pipes; its port stays the same."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.dsn = self._ask("start")

    def kill(self) -> None:
        """End the server as a crash would."""
        self._ask("kill")

    def start(self) -> None:
        """Start it again; returns when it takes connections."""
        self._ask("start")

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().strip()
        assert answer, "the process that holds the server has ended"
        return answer


@contextlib.contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """A running server with a migrated metrics database, removed afterwards."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.metrics.own_postgres"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield OwnPostgres(process)
        finally:
            process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            process.wait(20)


def hold() -> None:
    """Carry out the commands of standard input until it ends."""
    from servicekit import binaries
    from servicekit.devstack import PostgresServer

    base = Path(tempfile.mkdtemp(prefix="farehold-own-"))
    base.chmod(0o711)
    server = PostgresServer(base / "data", durable=False, port=binaries.free_port())
    try:
        for line in sys.stdin:
            if line.strip() == "start":
                server.start()
                if "metrics" not in server.databases():
                    server.create_database("metrics")
                    server.migrate("metrics", ROOT / "migrations" / "metrics")
            else:
                server.kill()
            print(server.dsn("metrics"), flush=True)
    finally:
        server.stop()
        binaries.remove_home(base / "data")
        base.rmdir()


if __name__ == "__main__":
    hold()
