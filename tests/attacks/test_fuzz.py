"""Random, boundary and malformed requests to every method of the pair: no fault, nothing lost.

FUZZ_SEED repeats a run, FUZZ_CALLS sets its size.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from booking_service.server import ACCESS as BOOKING
from metrics_service.server import ACCESS as METRICS
from servicekit.identity.access import PLATFORM
from tests.attacks.fuzz.calls import Fuzz, methods
from tests.attacks.fuzz.totals import drift, same_figures
from tests.pair.real_pair import Pair, running, serves
from tests.sizes import SIZE

_CALLS: Final = {"small": 3_000, "middle": 60_000, "full": 100_000}
CALLS: Final = int(os.environ.get("FUZZ_CALLS", _CALLS[SIZE]))
# `make test` makes the same calls each time, so that only a change can make it fail.
SEED: Final = int(
    os.environ.get("FUZZ_SEED", "1" if SIZE == "small" else str(secrets.randbits(31)))
)
MAX_RSS_BYTES: Final = 500_000_000
SERVICES: Final = ("booking_service", "metrics_service")

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120 if SIZE == "small" else 900)]


@pytest.fixture
def pair(booking_dsn: str, metrics_dsn: str, tmp_path: Path) -> Iterator[Pair]:
    with running(Pair(booking_dsn, metrics_dsn, tmp_path)) as pair:
        yield pair


def test_every_rpc_that_callers_may_have_is_called() -> None:
    listed = {
        f"/{rpc}"
        for access in (BOOKING, METRICS)
        for rpc in access.table
        if rpc not in PLATFORM and not rpc.startswith("http/")
    }
    assert {each.path for each in methods()} >= listed


async def test_no_request_of_any_method_is_a_fault(pair: Pair, booking_dsn: str) -> None:
    print(f"FUZZ_SEED={SEED} FUZZ_CALLS={CALLS}")
    before = {service: pair.pid(service) for service in SERVICES}
    answers = await Fuzz(pair, SEED).run(CALLS)
    print(answers)
    assert answers.faults[:20] == []
    assert set(answers.methods) == {each.path for each in methods()}
    packages, drifts = await drift(pair.booking, booking_dsn)
    figures = await same_figures(pair.booking, pair.metrics, booking_dsn)
    print(f"{packages} packages reconciled; {figures}")
    assert drifts == []
    assert figures["confirmed"] > 0
    for service, pid in before.items():
        peak = peak_rss_bytes(pid)
        print(f"{service}: {peak / 1e6:.0f} MB at its peak, slowest {answers.slowest_s:.1f} s")
        assert peak < MAX_RSS_BYTES
        # Neither was started again, nor left a trace of an error that it does not know.
        assert pair.pid(service) == pid
        assert [line for line in pair.lines(service) if "Traceback" in line] == []
    for target in (pair.booking, pair.metrics):
        assert await asyncio.to_thread(serves, target)


def peak_rss_bytes(pid: int) -> int:
    """The largest memory of a running process."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
