"""How long a metrics_service takes to listen and to serve, by what it has to fold again.

For each case a log is filled, `python -m metrics_service serve` is started on it, asked for its
health over HTTP until it answers, and watched until it serves. CPU is that of the process, so that
it can be compared between machines: 250,000 events may take 10 s.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import asyncpg

from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import ProducerKey
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS, LANE_TELEMETRY
from servicekit.binaries import free_port
from servicekit.devstack import PostgresServer
from tests.bench.fold_rate import SECOND_US, SESSION_US, fact_events, timing_events
from tests.bench.report import ROOT, throwaway_server

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
MAX_START_S: Final = 300.0
APPENDS: Final = 256
HOUR_US: Final = 3_600 * SECOND_US


@dataclass(frozen=True)
class Start:
    """Seconds since the process began, and the CPU that it had used."""

    listens_s: float
    listens_cpu_s: float
    serves_s: float
    serves_cpu_s: float


class Service:
    """A metrics_service as a process."""

    def __init__(self, dsn: str) -> None:
        self._port = free_port()
        environ = {name: value for name, value in os.environ.items() if "METRICS_" not in name}
        variables = {
            "METRICS_DATABASE_URL": dsn,
            "METRICS_PORT": str(free_port()),
            "METRICS_HTTP_PORT": str(self._port),
            "METRICS_LOG_LEVEL": "error",
        }
        self._began_s = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "metrics_service", "serve"], cwd=ROOT, env=environ | variables
        )

    def started(self) -> Start:
        """Wait until it serves."""
        opener = build_opener(ProxyHandler({}))
        listens: tuple[float, float] | None = None
        while self._since() < MAX_START_S and self._process.poll() is None:
            status = 0
            try:
                opener.open(f"http://127.0.0.1:{self._port}/api/metrics/bookings", timeout=5)
                status = 200
            except HTTPError as error:
                status = error.code
            except (URLError, OSError):
                pass
            if status:
                listens = listens or (self._since(), cpu_s(self._process.pid))
            if listens and status == 200:
                return Start(*listens, self._since(), cpu_s(self._process.pid))
            time.sleep(0.01)
        raise RuntimeError("it does not serve")

    def end(self, number: signal.Signals) -> None:
        self._process.send_signal(number)
        self._process.wait()

    def _since(self) -> float:
        return time.monotonic() - self._began_s


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


class Arrival:
    """The clocks of a log that receives each batch soon after its last event."""

    def __init__(self, us: int) -> None:
        self.us = us

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / SECOND_US


async def fill(dsn: str, events: Iterable[event_pb2.Event], size: int, lane: int) -> int:
    """Append batches of `size` events, and return how many events."""
    waiting = iter(events)
    first = next(waiting, event_pb2.Event())
    arrival = Arrival(first.time_us)
    batches = _batches(chain([first], waiting), size)
    log = EventLog(dsn, tick_s=3_600, now_us=arrival.now_us, monotonic_s=arrival.monotonic_s)
    await log.start()
    await log.wait_leading()
    key = ProducerKey(lane, f"bench-{random.getrandbits(64):x}")
    point = await log.open_producer(key, epoch=1, instance="bench", service="bench", backfill=False)
    seq = filled = 0
    while group := list(islice(batches, APPENDS)):
        filled += sum(map(len, group))
        arrival.us = group[0][0].time_us + SECOND_US
        await asyncio.gather(
            *(
                log.append(
                    key,
                    token=point.token,
                    epoch=1,
                    seq=seq + number,
                    count=len(batch),
                    payload=event_pb2.EventList(events=batch).SerializeToString(),
                )
                for number, batch in enumerate(group, 1)
            )
        )
        seq += len(group)
    await log.stop()
    return filled


def _batches(events: Iterable[event_pb2.Event], size: int) -> Iterator[list[event_pb2.Event]]:
    rest = iter(events)
    while batch := list(islice(rest, size)):
        yield batch


async def forget_checkpoint(dsn: str) -> None:
    """Make the log one that no checkpoint covers."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE checkpoint SET state_version = 0")
    await connection.close()


def main() -> None:
    """Print each case on a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=250_000)
    parser.add_argument("--restart", type=int, default=600_000)
    arguments = parser.parse_args()
    dice = random.Random(1)
    print(f"{'case':<44} {'listens':>16} {'serves':>16}   events/s CPU")
    with throwaway_server(durable=False) as server:
        _report("an empty log", _database(server), 0, signal.SIGKILL)
        for size in (200, 4):
            facts = _facts(dice, arguments.events)
            _measure(server, f"{arguments.events:,} facts, {size} a batch", facts, size, LANE_FACTS)
        start_us = time.time_ns() // 1000 - HOUR_US
        timings = timing_events(dice, arguments.events // 100, 100, start_us)
        _measure(server, "as many query timings, 100 an event", timings, 10, LANE_TELEMETRY)
        facts = _facts(dice, arguments.restart)
        _restart(server, f"{arguments.restart:,} facts", facts)


def _facts(dice: random.Random, events: int) -> Iterator[event_pb2.Event]:
    """Yield facts up to now."""
    sessions = events // 4
    return fact_events(dice, sessions, time.time_ns() // 1000 - sessions * SESSION_US)


def _measure(
    server: PostgresServer, name: str, events: Iterable[event_pb2.Event], size: int, lane: int
) -> None:
    database = _database(server)
    filled = asyncio.run(fill(database, events, size, lane))
    _report(name, database, filled, signal.SIGKILL)


def _restart(server: PostgresServer, name: str, events: Iterable[event_pb2.Event]) -> None:
    database = _database(server)
    filled = asyncio.run(fill(database, events, 200, LANE_FACTS))
    _report(f"{name}, no checkpoint", database, filled, signal.SIGTERM)
    _report(f"{name}, restart after a clean stop", database, 0, signal.SIGKILL)
    _report(f"{name}, restart after a kill", database, 0, signal.SIGKILL)


def _database(server: PostgresServer) -> str:
    name = f"bench{len(server.databases())}"
    server.create_database(name)
    server.migrate(name, ROOT / "migrations" / "metrics")
    return server.dsn(name)


def _report(name: str, dsn: str, events: int, end: signal.Signals) -> None:
    service = Service(dsn)
    start = service.started()
    service.end(end)
    cpu_s = start.serves_cpu_s - start.listens_cpu_s
    rate = f"{events / cpu_s:,.0f}" if events else ""
    print(
        f"{name:<44} {start.listens_s:>5.2f} s ({start.listens_cpu_s:.2f} CPU)"
        f" {start.serves_s:>5.2f} s ({start.serves_cpu_s:.2f} CPU)   {rate}",
        flush=True,
    )


if __name__ == "__main__":
    main()
