"""Measures the CPU that a process spends on calls that a client answers, resets or leaves open, for
which gRPC has no bound: a server of ours, and one of gRPC alone, with the same methods.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from servicekit.start import run
from tests.attacks.bare import FILES, add_methods
from tests.bench.report import table
from tests.servicekit.raw_http2 import RawHttp2, message, raw_http2

ROOT: Final = Path(__file__).resolve().parents[2]
OURS: Final = "tests.bench.resets"
BARE: Final = "tests.attacks.bare"
CALL: Final = "/booking.v1.BookingService/StartBooking"
STREAM: Final = "/metrics.v1.MetricsService/StreamMetrics"
CALLS: Final = 5_000
OPEN: Final = 500
BURST: Final = 50
FLOOD_PER_S: Final = 5_000
ROUNDS: Final = 3
SETTLE_S: Final = 0.3
"""By when a server has taken or ended streams: the calls of another method do not wait for them."""


class Cost(NamedTuple):
    """Microseconds of CPU for a call that is answered, one that is reset before its message, one
    that is reset after it, one that never sends it and a stream that is opened, until they are
    closed.
    """

    answered: float
    empty: float
    whole: float
    unfinished: float
    stream: float


async def serve(stop: asyncio.Event) -> None:
    """Serve the methods of both services, with nothing behind them, and print the port."""
    # It is not the log that is measured.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    server = GrpcServer(ServerSettings.load({"PORT": "0"}), domain="test.domain")
    add_methods(server.grpc, FILES)
    print(await server.start([]), flush=True)
    await stop.wait()


@contextmanager
def server(module: str) -> Iterator[tuple[int, int]]:
    """Yield the process and the port of a server."""
    arguments = ["serve"] if module == OURS else []
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def cpu_s(pid: int) -> float:
    """The CPU time of a process, in seconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


async def of_calls(pid: int, port: int, *, data: bytes | None, reset: bool) -> float:
    """The CPU that one call takes, in microseconds, of calls at the rate of a flood."""
    async with raw_http2(port) as client:
        await _answered(client, BURST)
        before_s = cpu_s(pid)
        last = 0
        for _ in range(CALLS // BURST):
            due_s = time.monotonic() + BURST / FLOOD_PER_S
            for _ in range(BURST):
                last = client.call(CALL, data, ends=data is not None)
                if reset:
                    client.reset(last)
            await client.writer.drain()
            if not reset:
                await client.until_ended(last)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await _answered(client)
        return (cpu_s(pid) - before_s) / CALLS * 1e6


async def of_open(pid: int, port: int, path: str, data: bytes | None) -> float:
    """The CPU that one call takes, in microseconds, of those that stay open until they are closed
    with their connection.
    """
    async with raw_http2(port) as other:
        await _answered(other, BURST)
        before_s = cpu_s(pid)
        async with raw_http2(port) as client:
            await client.until_settled()
            for _ in range(OPEN // BURST):
                for _ in range(BURST):
                    client.call(path, data, ends=data is not None)
                await client.writer.drain()
                await _answered(other)
            await asyncio.sleep(SETTLE_S)
        await asyncio.sleep(SETTLE_S)
        return (cpu_s(pid) - before_s) / OPEN * 1e6


async def _answered(client: RawHttp2, number: int = 1) -> None:
    """Wait until calls are answered, which come after all others. The first ones of a process pay
    for what is made once.
    """
    await client.until_settled()
    for stream in [client.call(CALL, message(b""), ends=True) for _ in range(number)]:
        await client.until_ended(stream)


async def of_server(module: str) -> Cost:
    with server(module) as (pid, port):
        return Cost(
            await of_calls(pid, port, data=message(b"x"), reset=False),
            await of_calls(pid, port, data=None, reset=True),
            await of_calls(pid, port, data=message(b"x"), reset=True),
            await of_open(pid, port, CALL, None),
            await of_open(pid, port, STREAM, message(b"")),
        )


async def measured(rounds: int = ROUNDS) -> tuple[Cost, Cost]:
    """What a server of ours and one of gRPC alone take, each the least of some rounds in turn."""
    found: dict[str, list[Cost]] = {OURS: [], BARE: []}
    for _ in range(rounds):
        for module, costs in found.items():
            costs.append(await of_server(module))
    ours, bare = (Cost(*map(min, zip(*costs, strict=True))) for costs in found.values())
    return ours, bare


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        sys.exit(run(serve))
    ours, bare = asyncio.run(measured())
    names = ("answered", "reset before its message", "reset after it", "that never sends it")
    rows = [
        [name, f"{our:.0f}", f"{its:.0f}", f"{our / its:.1f}"]
        for name, our, its in zip((*names, "a stream, until closed"), ours, bare, strict=True)
    ]
    print(table(["a call, us of CPU", "here", "gRPC alone", "ratio"], rows))
    left = 1 - FLOOD_PER_S * max(ours.empty, ours.whole) / 1e6
    print(f"{FLOOD_PER_S:,} resets a second leave {max(left, 0):.0%} of a core")


if __name__ == "__main__":
    main()
