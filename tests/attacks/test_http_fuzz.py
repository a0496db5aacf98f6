"""No HTTP request, and nothing that is none, is a fault of metrics_service.

FUZZ_SEED repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from random import Random
from typing import Final

import pytest
import structlog

from tests.attacks.fuzz.http import request
from tests.metrics.running_service import BOUND_S, Producer, running
from tests.sizes import SIZE, size

SEED: Final = int(os.environ.get("FUZZ_SEED") or (1 if SIZE == "small" else secrets.randbits(31)))
REQUESTS: Final = size(1_000, 20_000)
AT_A_TIME: Final = 32
# Of the server: that it does not know a method or a version is no fault.
NO_FAULT: Final = {"501", "505"}

pytestmark = pytest.mark.timeout(60 if SIZE == "small" else 600)


async def test_no_http_request_is_a_fault(metrics_dsn: str) -> None:
    print(f"FUZZ_SEED={SEED}")
    numbers = iter(range(REQUESTS))
    answers: Counter[str] = Counter()
    faults: list[tuple[str, bytes]] = []

    async def work(port: int) -> None:
        for number in numbers:
            sent = request(Random(SEED * 1_000_003 + number))
            code = await answer_to(port, sent)
            answers[code] += 1
            if code.startswith("5") and code not in NO_FAULT:
                faults.append((code, sent[:500]))

    with structlog.testing.capture_logs() as lines:
        async with running(metrics_dsn) as service, Producer(service):
            while await answer_to(service.http_port, HEALTH) != "200":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await asyncio.gather(*(work(service.http_port) for _ in range(AT_A_TIME)))
            assert await answer_to(service.http_port, HEALTH) == "200"
    print(dict(answers))
    assert faults == []
    assert {"200", "400", "404", "405", "421"} <= set(answers)
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []


HEALTH: Final = b"GET /api/health/database HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def answer_to(port: int, sent: bytes) -> str:
    """The status of the first answer; "none" where the connection is ended without one."""
    async with asyncio.timeout(BOUND_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        first = b""
        try:
            writer.write(sent)
            # Nothing more comes: what is not whole is not waited for.
            writer.write_eof()
            first = await reader.readline()
            while await reader.read(1 << 16):
                pass
        except OSError:
            # The server has ended it before all was sent or read.
            pass
        finally:
            writer.close()
    words = first.decode(errors="replace").split()
    return words[1] if len(words) > 1 else "none"
