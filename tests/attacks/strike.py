"""What an attack is, and what it is given while it runs."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc

ANSWER_S: Final = 15.0
"""By which every answer must come that an attack waits for, from a service or its HTTP side."""

MAX_SAID: Final = 5
"""Of each attack's failures those that are printed."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the pair and the bare server listen, as host:port."""

    booking: str
    metrics: str
    http: str
    bare: str = ""


@dataclass(slots=True)
class Tally:
    """What was tried, and what did not hold."""

    tried: int = 0
    failed: int = 0
    said: list[str] = field(default_factory=list)

    def check(self, holds: object, what: str) -> None:
        """Count one thing that was tried; `what` is said where it does not hold."""
        self.tried += 1
        if not holds:
            self.failed += 1
            if len(self.said) < MAX_SAID:
                self.said.append(what[:300])

    def add(self, other: Tally) -> None:
        """Count what another one has counted."""
        self.tried += other.tried
        self.failed += other.failed
        self.said = (self.said + other.said)[:MAX_SAID]


class Strike:
    """One run of an attack, until `stop`. It goes on as fast as `paced` lets it, and no faster."""

    def __init__(self, at: Addresses) -> None:
        self.at = at
        self.tally = Tally()
        self._stopped = asyncio.Event()

    @property
    def going(self) -> bool:
        return not self._stopped.is_set()

    def stop(self) -> None:
        self._stopped.set()

    async def stopped(self) -> None:
        """Wait for the end of the run."""
        await self._stopped.wait()

    async def paced(self, per_s: float) -> AsyncIterator[int]:
        """Yield numbers from 0, so many a second and later none to make up for, until the end."""
        number, due_s = 0, time.monotonic()
        while self.going:
            yield number
            number += 1
            due_s = max(due_s + 1 / per_s, time.monotonic() - 0.05)
            pause_s = due_s - time.monotonic()
            if pause_s > 0:
                try:
                    async with asyncio.timeout(pause_s):
                        await self._stopped.wait()
                except TimeoutError:
                    continue

    async def refused(self, call: Awaitable[object], *codes: str) -> None:
        """Try a call that must be refused with one of the codes."""
        code = await code_of(call)
        self.tally.check(code in codes, f"answered {code}, not {' or '.join(codes)}")

    async def together(self, *tries: Awaitable[object]) -> None:
        """Run several at a time; what one of them raises is a failure."""
        for each in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(each, BaseException):
                self.tally.check(False, f"{type(each).__name__}: {each}")

    async def readers_are_served(self) -> None:
        """Check what a monitor asks for."""
        status = await asyncio.to_thread(http_status, self.at.http, "/api/health/database")
        self.tally.check(status == 200, f"GET /api/health/database answered {status}")
        status = await asyncio.to_thread(http_status, self.at.http, "/api/metrics/bookings")
        self.tally.check(status == 200, f"GET /api/metrics/bookings answered {status}")
        async with grpc.aio.insecure_channel(self.at.metrics, options=OWN_CONNECTION) as channel:
            stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
            code = await code_of(stub.GetMetrics(metrics_pb2.GetMetricsRequest(), timeout=ANSWER_S))
        self.tally.check(code == "OK", f"GetMetrics answered {code}")


@dataclass(frozen=True, slots=True)
class Attack:
    """A variant of one row of the table: what is done, under load, while a victim is measured."""

    row: int
    name: str
    run: Callable[[Strike], Awaitable[None]]
    # Whether it needs no more than gRPC of what it attacks, so that the bare server can be
    # attacked likewise.
    bare: bool = False


OWN_CONNECTION: Final = [("grpc.use_local_subchannel_pool", 1)]

ATTACKS: Final[list[Attack]] = []

Runner = Callable[[Strike], Awaitable[None]]


def attack(row: int, name: str, *, bare: bool = False) -> Callable[[Runner], Runner]:
    """Register a function as an attack of a row."""

    def register(run: Runner) -> Runner:
        ATTACKS.append(Attack(row, name, run, bare))
        return run

    return register


async def code_of(call: Awaitable[object]) -> str:
    """The status code of a call; LOST where it is not answered within ANSWER_S."""
    try:
        async with asyncio.timeout(ANSWER_S):
            await call
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    except TimeoutError:
        return "LOST"
    return "OK"


def http_status(address: str, path: str) -> int:
    """The status of a GET on a connection of its own; 0 where none came."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=ANSWER_S) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
