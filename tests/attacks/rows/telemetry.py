"""Rows 1, 5, 7 and 17: what a producer's frames and events may do to the metrics."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

from protos.metrics.v1 import (
    health_pb2,
    health_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
)
from protos.tracking.v1 import event_pb2, tracking_pb2
from protos.tracking.v1.event_pb2 import Event, EventList
from protos.tracking.v1.tracking_pb2 import Probe
from tests.attacks.strike import ANSWER_S, OWN_CONNECTION, Strike, attack
from tests.metrics.delivery_pair import TELEMETRY
from tests.metrics.raw_client import RawClient, raw_client
from tests.metrics.state import extreme

Stats = metrics_pb2.GetQueryStatsRequest

YEAR_9999_US: Final = 253_400_000_000_000_000
YEAR_2199_US: Final = 7_258_000_000_000_000
LONG: Final = "x" * 60_000
MAX_ANSWER_BYTES: Final = 1 << 20
FORGED: Final = frozenset({"booking", "payment"})
"""Facts, which are for the identity of a producer to refuse."""

REAL_ERRORS: Final = 50


class Producer:
    """A telemetry lane of its own, whose batches are numbered and acknowledged."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._seq = 0

    async def send(self, strike: Strike, events: Iterable[Event]) -> None:
        """Send one batch and check that it is acknowledged as folded."""
        payload = EventList(events=events).SerializeToString()
        self._seq += 1
        await self._client.batch(self._seq, payload, lane=TELEMETRY, count=1)
        async with asyncio.timeout(ANSWER_S):
            ack = await self._client.acked(self._seq, applied=True)
        strike.tally.check(ack.durable_seq >= self._seq, "a batch was not acknowledged")


@asynccontextmanager
async def producer(strike: Strike, service: str = "stranger") -> AsyncIterator[Producer]:
    name = secrets.token_hex(8)
    async with raw_client(strike.at.metrics) as client:
        async with asyncio.timeout(ANSWER_S):
            await _welcomed(client, name, service)
        yield Producer(client)
        await client.send(goodbye=tracking_pb2.Goodbye())


async def _welcomed(client: RawClient, name: str, service: str) -> None:
    """Say Hello until it is welcomed: a log that cannot be written yet asks to try again."""
    while True:
        await client.hello(name, lane=TELEMETRY, service=service, instance=name)
        while (kind := (frame := await client.read()).WhichOneof("frame")) == "heartbeat":
            continue
        if kind == "welcome":
            return
        assert frame.nack.reason == tracking_pb2.Nack.UNAVAILABLE, frame
        await asyncio.sleep(frame.nack.retry_after_ms / 1000)


@asynccontextmanager
async def metrics_stub(strike: Strike) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(strike.at.metrics, options=OWN_CONNECTION) as channel:
        yield metrics_pb2_grpc.MetricsServiceStub(channel)


def columns(number: int, **values: Any) -> Event:
    """Timings of so many queries; `values` are of each of them."""
    timings = event_pb2.QueryTimings(
        fingerprints=[7],
        query=[0] * number,
        base_time_us=round(time.time() * 1e6),
        start_delta_us=[0] * number,
    )
    usual = {"pool_wait_us": 1, "execute_us": 100, "rows": 1, "outcome": 1}
    for name, value in (usual | values).items():
        getattr(timings, name)[:] = [value] * number
    return Event(event_id=secrets.token_bytes(16), query_timings=timings)


@attack(1, "37 batches whose rows add up beyond int64")
async def rows_overflow(strike: Strike) -> None:
    async with producer(strike) as lane:
        async for number in strike.paced(20):
            if number < 37:
                await lane.send(strike, [columns(100, rows=2**42)])
    await strike.readers_are_served()


@attack(1, "durations and counts at the ends of their types")
async def durations_overflow(strike: Strike) -> None:
    entry = event_pb2.RpcTally.Entry(
        rpc="x", ok=2**64 - 1, refused=2**63, queries=2**64 - 1, queries_max=2**64 - 1
    )
    step = event_pb2.FlowStep(step=event_pb2.FlowStep.COMPLETE, duration_us=2**63 - 1)
    loss = event_pb2.TelemetryLoss(dropped_events=2**64 - 1, dropped_timings=2**63)
    async with producer(strike) as lane:
        async for _ in strike.paced(20):
            await lane.send(
                strike,
                [
                    columns(50, execute_us=2**64 - 1, pool_wait_us=2**63, connect_us=2**63 - 1),
                    Event(rpc_tally=event_pb2.RpcTally(entries=[entry] * 20)),
                    Event(telemetry_loss=loss),
                    Event(flow_step=step),
                ],
            )
    await strike.readers_are_served()


@attack(1, "every number of every event at its ends")
async def extremes(strike: Strike) -> None:
    events = [
        each
        for body in extreme.bodies()
        if body not in FORGED
        for event in extreme.variants(body)
        for path in extreme.fields(body)
        for each in extreme.with_extremes(event, path)
    ]
    async with producer(strike) as lane:
        async for number in strike.paced(20):
            at = number * 20 % len(events)
            await lane.send(strike, events[at : at + 20])
    await strike.readers_are_served()


def ghost(name: str) -> bytes:
    """The Hello of an invented instance, as bytes."""
    hello = tracking_pb2.Hello(
        lane=TELEMETRY, producer_id=name, epoch=1, schema=1, service="ghosts", instance=name
    )
    return tracking_pb2.ClientFrame(hello=hello).SerializeToString()


async def hello_of(at: str, name: str, **fields: Any) -> RawClient:
    client = RawClient(at)
    await client.hello(name, lane=TELEMETRY, instance=name, **fields)
    return client


@attack(5, "one Hello each of invented instances, then gone")
async def ghosts(strike: Strike) -> None:
    async for number in strike.paced(40):
        client = await hello_of(strike.at.metrics, f"ghost-{number}", service="ghosts")
        await client.expect("welcome")
        await client.close()
        strike.tally.check(True, "")
    await real_instance_is_first(strike)


@attack(5, "heartbeats with NaN, infinity and negative sketches")
async def broken_heartbeats(strike: Strike) -> None:
    values = (math.nan, math.inf, -math.inf, -1.0, 1e308)
    async with raw_client(strike.at.metrics) as client:
        await client.welcome("nan", lane=TELEMETRY, service="ghosts", instance="nan")
        async for number in strike.paced(50):
            value = values[number % len(values)]
            sketch = tracking_pb2.Sketch(
                index_delta=[2**31 - 1, 1], count=[2**64 - 1, 2**63], zero_count=2**64 - 1
            )
            sketch.sum = sketch.min = sketch.max = value
            signals = tracking_pb2.Signals(
                probe=tracking_pb2.Probe(
                    result=tracking_pb2.Probe.REACHABLE, latency_us=2**64 - 1, age_ms=2**64 - 1
                ),
                queries=tracking_pb2.QueryCounts(total=2**64 - 1, execute_us=sketch),
                facts_pending=-(2**63),
            )
            await client.send(heartbeat=tracking_pb2.ClientHeartbeat(signals=signals))
            strike.tally.check(True, "")
    await real_instance_is_first(strike)


@attack(5, "a hundred invented instances whose database is down")
async def unreachable(strike: Strike) -> None:
    clients: list[RawClient] = []
    signals = tracking_pb2.Signals(probe=Probe(result=Probe.UNREACHABLE))
    try:
        async for number in strike.paced(80):
            if number < 100:
                clients.append(
                    await hello_of(strike.at.metrics, f"down-{number}", service="ghosts")
                )
            client = clients[number % len(clients)]
            await client.send(heartbeat=tracking_pb2.ClientHeartbeat(signals=signals))
            strike.tally.check(True, "")
        await real_instance_is_first(strike)
    finally:
        for client in clients:
            await client.close()


async def real_instance_is_first(strike: Strike) -> None:
    """Check that health speaks of booking_service, whoever else is there."""
    async with grpc.aio.insecure_channel(strike.at.metrics, options=OWN_CONNECTION) as channel:
        stub: Any = health_pb2_grpc.HealthServiceStub(channel)
        health = await stub.GetDatabaseHealth(
            health_pb2.GetDatabaseHealthRequest(), timeout=ANSWER_S
        )
    first = health.instances[0] if health.instances else health_pb2.InstanceHealth()
    strike.tally.check(first.service == "booking_service", f"first is {first.service!r}")
    strike.tally.check(
        health.status in (health.HEALTHY, health.DEGRADED),
        f"{health.Status.Name(health.status)}: {[each.criterion for each in health.reasons]}",
    )
    await strike.readers_are_served()


async def answers_are_small(strike: Strike) -> None:
    """Check that what was sent does not make answers large."""
    async with metrics_stub(strike) as stub:
        answers = (
            await stub.GetMetrics(metrics_pb2.GetMetricsRequest(), timeout=ANSWER_S),
            await stub.GetErrorBreakdown(metrics_pb2.GetErrorBreakdownRequest(), timeout=ANSWER_S),
            await stub.GetQueryStats(
                Stats(group_by=Stats.FINGERPRINT, limit=100), timeout=ANSWER_S
            ),
        )
    for answer in answers:
        size = answer.ByteSize()
        strike.tally.check(size <= MAX_ANSWER_BYTES, f"{answer.DESCRIPTOR.name} has {size:,} bytes")
    await strike.readers_are_served()


@attack(7, "reasons and names of 60 kB, each a new one")
async def long_reasons(strike: Strike) -> None:
    async with producer(strike) as lane:
        async for number in strike.paced(10):
            refused = [
                event_pb2.RpcRefused(
                    rpc=f"{number}-{at}-{LONG}",
                    code=5,
                    reason=f"{number}-{at}-{LONG}",
                    kind=LONG,
                    package_id=LONG,
                )
                for at in range(3)
            ]
            await lane.send(strike, [Event(session_id=LONG, rpc_refused=each) for each in refused])
    await answers_are_small(strike)


@attack(7, "statements, plans and views of 60 kB, each a new one")
async def long_statements(strike: Strike) -> None:
    async with producer(strike) as lane:
        async for number in strike.paced(10):
            definition = event_pb2.QueryDefinition(
                fingerprint=secrets.randbits(63), model=LONG, operation=f"{number}{LONG}", text=LONG
            )
            viewed = event_pb2.PackageViewed(
                package_id=f"{number}{LONG}", user_id=f"{number}{LONG}", location=LONG
            )
            plan = event_pb2.QueryPlan(fingerprint=definition.fingerprint, plan=LONG * 4)
            await lane.send(
                strike,
                [
                    Event(query_definitions=event_pb2.QueryDefinitions(definitions=[definition])),
                    Event(session_id=f"{number}{LONG}", package_viewed=viewed),
                    Event(query_plan=plan),
                ],
            )
    await answers_are_small(strike)


@attack(7, "Hellos and operations of 60 kB")
async def long_ids(strike: Strike) -> None:
    async with raw_client(strike.at.metrics) as client:
        await client.welcome("long", lane=TELEMETRY, service="ghosts", instance="long")
        async for number in strike.paced(20):
            operations = [
                tracking_pb2.OperationCounts(operation=f"{number}-{at}-{LONG}", total=9, failed=9)
                for at in range(3)
            ]
            signals = tracking_pb2.Signals(operations=operations)
            await client.send(heartbeat=tracking_pb2.ClientHeartbeat(signals=signals))
            if number % 10 == 0:
                async with raw_client(strike.at.metrics) as other:
                    await other.hello(LONG, lane=TELEMETRY, service=LONG, instance=LONG)
                    nack = (await other.expect("nack")).nack
                strike.tally.check(
                    nack.reason == tracking_pb2.Nack.INVALID, f"a long id was not refused: {nack}"
                )
    await answers_are_small(strike)


async def dated(strike: Strike, time_us: int) -> None:
    """Failures of one time, then REAL_ERRORS of now, which must show in the last five minutes."""
    refused = event_pb2.RpcRefused(
        rpc="x", code=8, reason="FORGED", kind="internal", counts_as_error=True
    )
    async with producer(strike) as lane, metrics_stub(strike) as stub:
        async for _ in strike.paced(10):
            await lane.send(strike, [Event(time_us=time_us, rpc_refused=refused)] * 1000)
        before, _ = await real_errors(stub)
        real = event_pb2.RpcRefused()
        real.CopyFrom(refused)
        real.reason = "REAL"
        now_us = round(time.time() * 1e6)
        await lane.send(strike, [Event(time_us=now_us, rpc_refused=real)] * REAL_ERRORS)
        after, last_5_minutes = await real_errors(stub)
    strike.tally.check(
        after - before == REAL_ERRORS, f"{after - before} of {REAL_ERRORS} errors are counted"
    )
    strike.tally.check(
        last_5_minutes >= REAL_ERRORS, f"{last_5_minutes} errors in the last five minutes"
    )


async def real_errors(stub: Any) -> tuple[int, int]:
    """How many real ones there are of all time, and how many errors in the last five minutes."""
    answer = await stub.GetErrorBreakdown(metrics_pb2.GetErrorBreakdownRequest(), timeout=ANSWER_S)
    real = sum(each.count for each in answer.breakdown if each.reason == "REAL")
    return real, int(answer.last_5_minutes)


@attack(17, "failures dated 9999")
async def of_the_year_9999(strike: Strike) -> None:
    await dated(strike, YEAR_9999_US)


@attack(17, "failures dated 2199, the last century that counts")
async def of_the_year_2199(strike: Strike) -> None:
    await dated(strike, YEAR_2199_US)


@attack(17, "failures of the next hour")
async def of_the_next_hour(strike: Strike) -> None:
    await dated(strike, round((time.time() + 3600) * 1e6))
