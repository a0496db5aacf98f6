"""Two metrics_services on one database: the leader is frozen, the other takes over, and a producer
of the thawed one goes to the new leader.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.metrics.delivery_pair import ListSource, events, streaming, until
from tests.metrics.delivery_proxy import Proxy
from tests.pair.real_pair import Pair

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


async def test_a_thawed_leader_sends_its_producers_to_the_new_one(
    metrics_dsn: str, tmp_path: Path
) -> None:
    settings = {"METRICS_HEARTBEAT_MS": "500"}
    old, new = (Pair("", metrics_dsn, tmp_path / name, settings) for name in ("old", "new"))
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    facts = ListSource()
    try:
        await asyncio.to_thread(old.start, "metrics_service")
        async with Proxy(_port(old)) as proxy, streaming(proxy.target, facts) as client:
            facts.put(events("before"))
            await until(lambda: facts.acked_seq == 1)
            os.kill(old.pid("metrics_service"), signal.SIGSTOP)
            try:
                await asyncio.to_thread(new.start, "metrics_service")
                facts.put(events("during"))
                await until(lambda: not client.connected)
                connections = proxy.connections
            finally:
                os.kill(old.pid("metrics_service"), signal.SIGCONT)
            # Its address still leads to the old one, and from here on to the new one.
            await until(lambda: client.connected or proxy.connections > connections)
            await until(lambda: "log_lead_awaited" in old.log("metrics_service"))
            proxy.forward_to(_port(new))
            await until(lambda: facts.acked_seq == 2, "the ack of the new leader")
            assert old.log("metrics_service").count("log_lead_taken") == 1
    finally:
        for pair in (old, new):
            pair.stop()


def _port(pair: Pair) -> int:
    return int(pair.metrics.rpartition(":")[2])
