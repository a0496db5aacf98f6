"""Copies of booking_service as processes on one database, which can be killed and started again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pair.real_pair import Pair

SETTINGS = {
    "BOOKING_LOG_LEVEL": "warning",
    # A pause of the machine is no reason to refuse anything.
    "BOOKING_QUEUE_WAIT_MAX_MS": "60000",
}


class Copies:
    """Copies of booking_service on one database, each in its own process."""

    def __init__(self, dsn: str, logs: Path, number: int, settings: dict[str, str]) -> None:
        self.dsn = dsn
        self._copies = [
            Pair(dsn, "", logs / str(n), {**SETTINGS, **settings}) for n in range(number)
        ]
        for n in range(number):
            (logs / str(n)).mkdir()
        self._running: set[int] = set()

    @property
    def targets(self) -> list[str]:
        return [copy.booking for copy in self._copies]

    def start(self) -> None:
        """Starts those that do not run, and returns when they serve."""
        for n, copy in enumerate(self._copies):
            if n not in self._running:
                copy.start("booking_service")
                self._running.add(n)

    def kill(self, n: int) -> None:
        """Kill -9."""
        self._running.discard(n)
        self._copies[n].kill("booking_service")

    def stop(self) -> None:
        self._running.clear()
        for copy in self._copies:
            copy.stop()


@contextmanager
def copies_of_the_service(dsn: str, logs: Path, number: int, **settings: str) -> Iterator[Copies]:
    """Running copies until the block ends; call it from the main thread."""
    copies = Copies(dsn, logs, number, settings)
    try:
        copies.start()
        yield copies
    finally:
        copies.stop()
