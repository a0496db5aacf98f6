"""Batches that were made to break the fold, over the wire to a real process: it answers throughout,
starts again after a kill, and counts another producer exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import httpx
import pytest

from metrics_service.measure.sums import MAX_SUM
from metrics_service.state.queries.columns import MAX_DURATION_US, MAX_ROWS
from metrics_service.state.ranges import MAX_COUNT, MAX_MONEY_MINOR
from metrics_service.state.record import MAX_EVENTS, MAX_ITEMS, MAX_TIME_US, MIN_TIME_US
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.metrics.v1.metrics_pb2 import GetMetricsRequest, GetQueryStatsRequest
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.event_pb2 import BookingFact, Event, EventList, PaymentFact, QueryTimings
from protos.tracking.v1.tracking_pb2 import ClientHeartbeat, Lane, Probe, Signals
from tests.metrics.delivery_pair import FACTS, TELEMETRY
from tests.metrics.raw_client import RawClient, raw_client
from tests.metrics.running_service import confirmed_booking
from tests.metrics.service_process import BOUND_S, Serving, serving

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(300)]

SETTINGS = {"METRICS_CHECKPOINT_INTERVAL_S": "1"}
# So many columns of 37 batches add up beyond an int64, in batches just below the limit of 1 MiB.
BATCHES = (1 << 63) // (MAX_ITEMS * MAX_ROWS) + 1
POISON_CURRENCY, GOOD_CURRENCY = "XTS", "EUR"


@dataclass(frozen=True, slots=True)
class Batch:
    """A payload of a lane, and whether all of it must be quarantined."""

    lane: Lane.ValueType
    payload: bytes
    unusable: bool = False
    count: int = 1


def timings(count: int, **columns: int) -> Event:
    """Return an event of so many equal queries; columns that are not given are zeros."""
    event = Event(query_timings=QueryTimings(fingerprints=[7]))
    columns = {"outcome": event_pb2.QUERY_OUTCOME_OK, **columns}
    for field in QueryTimings.DESCRIPTOR.fields:
        if field.is_repeated and field.name not in NOT_COLUMNS:
            column = getattr(event.query_timings, field.name)
            column[:] = [columns.get(field.name, 0)] * count
    return event


NOT_COLUMNS = frozenset({"fingerprints", "sqlstates", "traces", "captures"})


def telemetry(*events: Event, unusable: bool = False, count: int = 1) -> Batch:
    return Batch(TELEMETRY, EventList(events=events).SerializeToString(), unusable, count)


def facts(*events: Event, unusable: bool = False) -> Batch:
    return Batch(FACTS, EventList(events=events).SerializeToString(), unusable)


def rows_beyond_an_int64() -> Iterator[Batch]:
    """As it was seen to end the service for good, with 37 batches of 57,000 timings."""
    for _ in range(BATCHES):
        yield telemetry(timings(MAX_ITEMS, rows=MAX_ROWS))


def money_and_times_at_their_ends() -> Iterator[Batch]:
    """The most money again and again in one cell, in the first and the last year."""
    number = 0
    for at_us in (MIN_TIME_US, MAX_TIME_US):
        for _ in range(50):
            number += 1
            booking = BookingFact(
                transition=BookingFact.CONFIRMED,
                booking_id=f"poison-{number}",
                version=1,
                package_id="poison",
                quantity=(1 << 31) - 1,
                hold_time_us=MIN_TIME_US,
                complete_time_us=at_us,
                confirm_time_us=MAX_TIME_US,
                amount_minor=MAX_MONEY_MINOR,
                refund_minor=MAX_MONEY_MINOR,
                currency=POISON_CURRENCY,
            )
            payments = [
                PaymentFact(
                    kind=kind,
                    booking_id=booking.booking_id,
                    payment_id=f"{number}-{kind}",
                    amount_minor=MAX_MONEY_MINOR,
                    currency=POISON_CURRENCY,
                    confirm_time_us=at_us,
                )
                for kind in PaymentFact.Kind.values()
            ]
            yield facts(
                Event(time_us=at_us, booking=booking),
                *(Event(time_us=at_us, payment=payment) for payment in payments),
            )
    for over in (MIN_TIME_US - 1, MAX_TIME_US + 1, -(1 << 63), (1 << 63) - 1):
        yield facts(Event(time_us=over, booking=BookingFact(booking_id="x")), unusable=True)
    for money in (-1, MAX_MONEY_MINOR + 1, (1 << 63) - 1):
        fact = BookingFact(booking_id="x", amount_minor=money)
        yield facts(Event(time_us=MIN_TIME_US, booking=fact), unusable=True)


def counts_columns_and_lists() -> Iterator[Batch]:
    """The largest counts, empty and unequal columns, and lists without an end."""
    most = event_pb2.RpcTally.Entry(
        rpc="poison", ok=MAX_COUNT, refused=MAX_COUNT, queries=MAX_COUNT, queries_max=MAX_COUNT
    )
    loss = event_pb2.TelemetryLoss(dropped_events=MAX_COUNT, dropped_timings=MAX_COUNT)
    for _ in range(5):
        yield telemetry(Event(rpc_tally=event_pb2.RpcTally(entries=[most] * MAX_ITEMS)))
        yield telemetry(*[Event(telemetry_loss=loss)] * MAX_EVENTS)
    longer = event_pb2.RpcTally(entries=[most] * (MAX_ITEMS + 1))
    yield telemetry(Event(rpc_tally=longer), unusable=True)
    worst = dict.fromkeys(
        ("pool_wait_us", "connect_us", "cancel_wait_us", "execute_us"), MAX_DURATION_US
    )
    yield telemetry(timings(MAX_ITEMS, start_delta_us=(1 << 63) - 1, **worst))
    yield telemetry(timings(MAX_ITEMS, start_delta_us=-(1 << 63), batch_size=(1 << 32) - 1))
    yield telemetry(timings(0), timings(1), *[Event()] * (MAX_EVENTS - 2), count=-1)
    yield telemetry(*[Event()] * 100_000, count=-1, unusable=True)
    uneven = timings(3)
    uneven.query_timings.rows.append(1)
    yield telemetry(uneven, unusable=True)
    yield telemetry(timings(1, query=(1 << 32) - 1), unusable=True)
    yield telemetry(timings(1, execute_us=MAX_DURATION_US + 1), unusable=True)
    yield telemetry(timings(1, rows=MAX_ROWS + 1), unusable=True)
    yield Batch(TELEMETRY, b"\xff" * 1_000, unusable=True, count=(1 << 31) - 1)
    # Groups within groups, as deep as the bytes last.
    yield Batch(TELEMETRY, b"\x0b" * 500_000, unusable=True)


def heartbeat() -> Signals:
    """Signals whose numbers are none."""
    signals = Signals(probe=Probe(result=Probe.UNREACHABLE, latency_us=(1 << 64) - 1))
    signals.queries.total = signals.queries.failed = (1 << 64) - 1
    sketch = signals.queries.execute_us
    sketch.index_delta.extend([(1 << 31) - 1] * 3)
    sketch.count.extend([(1 << 64) - 1] * 3)
    sketch.sum, sketch.min, sketch.max = math.nan, math.inf, -math.inf
    return signals


class Readers:
    """Reads over gRPC and HTTP, one answer after the other."""

    def __init__(self, service: Serving, channel: grpc.aio.Channel) -> None:
        self._metrics = metrics_pb2_grpc.MetricsServiceStub(channel)
        self._http = f"http://127.0.0.1:{service.http_port}/api"
        self.answers = 0

    async def read_on(self) -> None:
        """Read until this is cancelled; each answer is one, and of numbers."""
        async with httpx.AsyncClient(trust_env=False, timeout=BOUND_S) as client:
            while True:
                await self.metrics()
                await self._metrics.GetQueryStats(GetQueryStatsRequest(limit=500))
                answer = await client.get(f"{self._http}/metrics/bookings")
                assert answer.status_code == 200
                assert json.loads(answer.text, parse_constant=pytest.fail)["metrics"]
                answer = await client.get(f"{self._http}/health/database")
                assert answer.status_code in (200, 503)
                assert json.loads(answer.text, parse_constant=pytest.fail)["instances"]
                self.answers += 1

    async def metrics(self) -> metrics_pb2.MetricsSnapshot:
        return await self._metrics.GetMetrics(GetMetricsRequest(), timeout=BOUND_S)


class Producer:
    """Sends batches in order, and waits until each is folded."""

    def __init__(self, client: RawClient, name: str) -> None:
        self._client = client
        self._name = name
        self._next = dict.fromkeys((FACTS, TELEMETRY), 1)

    async def open(self, *lanes: Lane.ValueType) -> None:
        for lane in lanes:
            welcome = await self._client.welcome(
                f"{self._name}-{lane}",
                lane=lane,
                service=self._name,
                instance=self._name,
            )
            self._next[lane] = welcome.resume_after + 1

    async def send(self, batch: Batch) -> None:
        seq = self._next[batch.lane]
        await self._client.batch(seq, batch.payload, lane=batch.lane, count=batch.count)
        while True:
            ack = (await self._client.expect("ack")).ack
            if ack.lane == batch.lane and ack.applied_seq >= seq:
                break
        self._next[batch.lane] = seq + 1


@asynccontextmanager
async def attacked(service: Serving) -> AsyncIterator[tuple[Producer, Producer, Readers]]:
    """A producer of telemetry, one of facts, and readers that read all the time."""
    async with (
        raw_client(service.target) as poisoner,
        raw_client(service.target) as client,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        bad, good = Producer(poisoner, "poison"), Producer(client, "good")
        await bad.open(TELEMETRY)
        await good.open(FACTS)
        await poisoner.send(heartbeat=ClientHeartbeat(signals=heartbeat()))
        readers = Readers(service, channel)
        reading = asyncio.create_task(readers.read_on())
        try:
            yield bad, good, readers
            assert not reading.done() or reading.result()
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
        assert readers.answers


def good_figures(snapshot: metrics_pb2.MetricsSnapshot) -> tuple[int, int]:
    """Return what the good producer's bookings are: how many, and their revenue."""
    (revenue,) = (each for each in snapshot.business.revenue if each.currency == GOOD_CURRENCY)
    return revenue.confirmed, revenue.gross_minor


async def test_a_real_process_answers_and_starts_again_whatever_is_sent(metrics_dsn: str) -> None:
    attacks = (rows_beyond_an_int64, money_and_times_at_their_ends, counts_columns_and_lists)
    booked = quarantined = 0
    # Killed after the first and the second attack, right after the last batch.
    for attack in attacks:
        async with serving(metrics_dsn, **SETTINGS) as service:
            async with attacked(service) as (bad, good, readers):
                for number, batch in enumerate(attack()):
                    # The log takes facts of one producer only: theirs are among its good ones.
                    await (good if batch.lane == FACTS else bad).send(batch)
                    quarantined += batch.unusable
                    if number % 5 == 0:
                        booked += 1
                        await good.send(facts(*confirmed_booking(booked)))
                snapshot = await readers.metrics()
                assert snapshot.quality.quarantined_batches == quarantined
                assert good_figures(snapshot) == (booked, booked * 10_000)
                assert all(
                    abs(value) <= MAX_SUM
                    for each in snapshot.business.revenue
                    for value in (each.gross_minor, each.refunded_minor)
                )
            status, log = await service.end(signal.SIGKILL)
            assert status == -signal.SIGKILL
            assert "fold_failed" not in log
    async with (
        serving(metrics_dsn, **SETTINGS) as service,
        grpc.aio.insecure_channel(service.target) as channel,
    ):
        snapshot = await Readers(service, channel).metrics()
        assert snapshot.quality.quarantined_batches == quarantined > 0
        assert good_figures(snapshot) == (booked, booked * 10_000)
        assert (await service.end(signal.SIGTERM))[0] == 0
