"""The processes of a run: the pair with a PostgreSQL of its own, the bare server, the victim and
the attackers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from servicekit import binaries
from servicekit.devstack import PostgresServer
from tests.attacks.judge import Sample
from tests.attacks.strike import Addresses, Tally
from tests.attacks.victim import BARE
from tests.pair.real_pair import ROOT, Pair, running

SERVICES: Final = ("booking_service", "metrics_service")
POLL_S: Final = 0.05
FEW: Final = 4
"""Calls of the victim that wait for their answers at any time."""


class World:
    """The pair that is attacked, and its databases."""

    def __init__(self, pair: Pair, server: PostgresServer, bare: str) -> None:
        self.pair = pair
        self.server = server
        self.at = Addresses(pair.booking, pair.metrics, pair.http, bare)
        # By the name of a service; a scenario that ends one says so.
        self.pids = {service: pair.pid(service) for service in SERVICES}

    @property
    def dsns(self) -> dict[str, str]:
        return {service: self.server.dsn(service.removesuffix("_service")) for service in SERVICES}

    def restarted(self, service: str) -> None:
        """A service was ended and started again on purpose."""
        self.pids[service] = self.pair.pid(service)

    def alive(self, service: str) -> bool:
        """Whether a service is still the process that it was."""
        status = Path(f"/proc/{self.pids[service]}/stat")
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"

    def rss_bytes(self, service: str) -> int:
        """The memory of a service; 0 once it has ended."""
        try:
            pages = Path(f"/proc/{self.pids[service]}/statm").read_text().split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def log_bytes(self) -> int:
        """How much both services have written so far."""
        return sum((self.pair.logs / f"{service}.log").stat().st_size for service in SERVICES)


@contextmanager
def world(**settings: str) -> Iterator[World]:
    """Both services on new databases, until the end of the block."""
    base = Path(tempfile.mkdtemp(prefix="farehold-attacked-"))
    # The server's account must be able to enter.
    base.chmod(0o711)
    server = PostgresServer(base / "data", durable=False)
    try:
        server.start()
        for name in ("booking", "metrics"):
            server.create_database(name)
            server.migrate(name, ROOT / "migrations" / name)
        pair = Pair(server.dsn("booking"), server.dsn("metrics"), base, settings)
        with running(pair), _program("tests.attacks.bare") as bare:
            assert bare.stdout is not None
            yield World(pair, server, f"127.0.0.1:{int(bare.stdout.readline())}")
    finally:
        server.stop()
        binaries.remove_home(base / "data")
        for left in base.glob("*"):
            left.unlink()
        base.rmdir()


@contextmanager
def _program(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=binaries.end_with_parent,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Victims:
    """The samples of the victim's process, as they come: of the pair and of the bare server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.samples: list[Sample] = []
        self.of_bare: list[Sample] = []
        self._waiting = 0
        self._process = process
        self._first = threading.Event()
        threading.Thread(target=self._read, daemon=True, name="samples").start()

    def wait_first(self, within_s: float) -> bool:
        """Wait until it calls."""
        return self._first.wait(within_s)

    def settle(self, within_s: float) -> None:
        """Wait until the calls are answered that waited during an attack."""
        begun_s = time.monotonic()
        while time.monotonic() < begun_s + within_s:
            time.sleep(POLL_S)
            samples = self.samples[-1:]
            if samples and samples[0].due_s > begun_s and self._waiting <= FEW:
                return

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            due_s, took_s, code, kind, waiting = line.split()
            samples = self.of_bare if kind == BARE else self.samples
            samples.append(Sample(float(due_s), float(took_s), code == "OK", f"{kind} {code}"))
            self._waiting = int(waiting)
            self._first.set()


class Strikers:
    """The process of the attackers, which runs one attack at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self, number: int, *, bare: bool = False) -> None:
        """Begin an attack, by its number in the table, on the pair or the bare server."""
        self._say(f"{number} bare" if bare else str(number))

    def end(self) -> Tally:
        """End it; return what was tried."""
        self._say("")
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the process of the attackers has ended"
        return Tally(**json.loads(answer))

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)


@contextmanager
def victims(at: Addresses) -> Iterator[Victims]:
    with _program("tests.attacks.victim", at.booking, at.metrics, at.bare) as process:
        yield Victims(process)


@contextmanager
def strikers(at: Addresses) -> Iterator[Strikers]:
    with _program("tests.attacks.striker", at.booking, at.metrics, at.http, at.bare) as process:
        yield Strikers(process)
