"""Starts `python -m metrics_service` as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from servicekit.binaries import free_port

ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 30.0


@dataclass
class Ended:
    """How a process ended."""

    status: int
    out: str
    err: str


@contextlib.asynccontextmanager
async def process(*command: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Python -m metrics_service with a clean environment; killed at the end if it still runs."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("METRICS_")}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "metrics_service",
        *command,
        cwd=ROOT,
        env={**environ, "COLUMNS": "120", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()


async def ended(*command: str, **variables: str) -> Ended:
    """Run a command to its end."""
    async with process(*command, **variables) as child, asyncio.timeout(BOUND_S):
        out, err = await child.communicate()
    assert child.returncode is not None
    return Ended(child.returncode, out.decode(), err.decode())


@dataclass
class Serving:
    """A service in a process of its own."""

    child: asyncio.subprocess.Process
    port: int
    http_port: int

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; the exit status and what was logged."""
        self.child.send_signal(number)
        async with asyncio.timeout(BOUND_S):
            _, err = await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode, err.decode()


@contextlib.asynccontextmanager
async def serving(dsn: str, **variables: str) -> AsyncIterator[Serving]:
    port, http_port = free_port(), free_port()
    async with process(
        "serve",
        METRICS_DATABASE_URL=dsn,
        METRICS_PORT=str(port),
        METRICS_HTTP_PORT=str(http_port),
        METRICS_LOG_FORMAT="json",
        **variables,
    ) as child:
        assert child.stderr is not None
        async with asyncio.timeout(BOUND_S):
            while line := await child.stderr.readline():
                if b"service_started" in line:
                    break
            else:
                pytest.fail("it ended instead of serving")
        yield Serving(child, port, http_port)
