"""Measures the CPU that a process spends on calls that a client begins and resets, for which gRPC
has no bound, and on calls that it answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from tests.servicekit.raw_http2 import message, raw_http2

ROOT: Final = Path(__file__).resolve().parents[2]
PATH: Final = "/test.Echo/Do"
CALLS: Final = 10_000
BURST: Final = 50
FLOOD_PER_S: Final = 5_000


async def serve() -> None:
    """Serve a method that answers its request, and print the port."""

    async def do(request: bytes, context: object) -> bytes:
        return request

    # It is not the log that is measured.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    server = GrpcServer(ServerSettings.load({"PORT": "0"}), domain="test.domain")
    methods: dict[str, Any] = {"Do": grpc.unary_unary_rpc_method_handler(do)}
    server.grpc.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Echo", methods),)
    )
    print(await server.start([]), flush=True)
    await asyncio.Event().wait()


@contextmanager
def server() -> Iterator[tuple[int, int]]:
    """Yield the process and the port of a server."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.resets", "serve"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def cpu_s(pid: int) -> float:
    """The CPU time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def of_calls(pid: int, port: int, *, data: bytes | None, reset: bool) -> float:
    """The CPU that one call takes, in microseconds, of calls at the rate of a flood."""
    async with raw_http2(port) as client:
        await client.until_settled()
        # The first calls pay for what is made once.
        for stream in [client.call(PATH, message(b""), ends=True) for _ in range(BURST)]:
            await client.until_ended(stream)
        before_s = cpu_s(pid)
        last = 0
        for _ in range(CALLS // BURST):
            due_s = time.monotonic() + BURST / FLOOD_PER_S
            for _ in range(BURST):
                last = client.call(PATH, data, ends=data is not None)
                if reset:
                    client.reset(last)
            await client.writer.drain()
            if not reset:
                await client.until_ended(last)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        await client.until_ended(client.call(PATH, message(b""), ends=True))
        return (cpu_s(pid) - before_s) / CALLS * 1e6


async def measured() -> tuple[float, float, float]:
    """Microseconds of CPU for a call that is answered, one that is reset before its message, and
    one that is reset after it.
    """
    with server() as (pid, port):
        answered_us = await of_calls(pid, port, data=message(b"x"), reset=False)
        empty_us = await of_calls(pid, port, data=None, reset=True)
        whole_us = await of_calls(pid, port, data=message(b"x"), reset=True)
        return answered_us, empty_us, whole_us


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
        return
    answered_us, empty_us, whole_us = asyncio.run(measured())
    print(f"{answered_us:.0f} us of CPU for a call that is answered")
    print(
        f"{empty_us:.0f} us for a call that is reset before its message, {whole_us:.0f} us after it"
    )
    left = 1 - FLOOD_PER_S * max(empty_us, whole_us) / 1e6
    print(f"{FLOOD_PER_S:,} of them a second leave {max(left, 0):.0%} of a core")


if __name__ == "__main__":
    main()
