"""Row 3: facts that were never committed, and Hellos that shut out who has. In the end the metrics
say what the bookings say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import grpc

from protos.booking.v1 import booking_pb2, booking_pb2_grpc
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from protos.tracking.v1 import event_pb2, tracking_pb2
from servicekit.channels import ClientFiles
from tests.allowance import Stopwatch, allowed_s
from tests.attacks.strangers.acts import DENIED
from tests.attacks.strangers.stage import ROLES, Speaker, Stage
from tests.attacks.strike import ANSWER_S
from tests.attacks.town import Town, in_days
from tests.metrics.raw_client import RawClient

FACTS, TELEMETRY = tracking_pb2.LANE_FACTS, tracking_pb2.LANE_TELEMETRY
NEWEST_EPOCH: Final = (1 << 63) - 1
BOOKINGS: Final = 3
NOW_US: Final = time.time_ns() // 1000
SETTLES_S: Final = 15.0
INVENTED_MINOR: Final = 12_300_000_000
TRACK: Final = "tracking.v1.TrackingService/Track"


@asynccontextmanager
async def _stream(stage: Stage, files: ClientFiles) -> AsyncIterator[RawClient]:
    client = RawClient(stage.pair.metrics, files)
    try:
        yield client
    finally:
        await client.close()


async def _answer(stage: Stage, files: ClientFiles, producer: str, **hello: Any) -> str:
    """What a Hello is answered with: "welcome", the reason of a Nack, or the code of the end."""
    async with _stream(stage, files) as client, asyncio.timeout(ANSWER_S):
        try:
            await client.opened()
            await client.hello(producer, **hello)
            while (frame := await client.read()) is not grpc.aio.EOF:
                if frame.HasField("nack"):
                    return str(tracking_pb2.Nack.Reason.Name(frame.nack.reason))
                if frame.HasField("welcome"):
                    return "welcome"
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return "OK"


def _fact() -> event_pb2.Event:
    """A confirmed booking that nobody has made."""
    event = event_pb2.Event(event_id=uuid4().bytes, time_us=NOW_US)
    event.booking.CopyFrom(
        event_pb2.BookingFact(
            transition=event_pb2.BookingFact.CONFIRMED,
            booking_id=str(uuid4()),
            version=3,
            confirm_time_us=event.time_us,
            amount_minor=INVENTED_MINOR,
            currency="EUR",
        )
    )
    return event


def _inventions() -> list[event_pb2.Event]:
    """Events that count on the lane of facts."""
    payment = event_pb2.PaymentFact(
        kind=event_pb2.PaymentFact.CAPTURED,
        booking_id=str(uuid4()),
        amount_minor=INVENTED_MINOR,
        currency="EUR",
    )
    return [
        _fact(),
        event_pb2.Event(event_id=uuid4().bytes, time_us=NOW_US, payment=payment),
        event_pb2.Event(facts_gap=event_pb2.FactsGap(lacking=1_000, beyond=1_000)),
        event_pb2.Event(facts_refill=event_pb2.FactsRefill(facts=1_000)),
    ]


async def _book(stage: Stage, town: Town, count: int) -> None:
    """What really happens: bookings that are started, completed and paid."""
    async with (
        Speaker(stage, stage.known("desk")) as desk,
        Speaker(stage, stage.known("till")) as till,
    ):
        stub: Any = booking_pb2_grpc.BookingServiceStub(desk.channel("booking"))
        paying: Any = booking_pb2_grpc.BookingServiceStub(till.channel("booking"))
        for _ in range(count):
            held = await stub.StartBooking(
                booking_pb2.StartBookingRequest(
                    package_id=town.packages[0],
                    user_id=str(uuid4()),
                    start_date=in_days(2),
                    end_date=in_days(3),
                ),
                timeout=ANSWER_S,
            )
            paid = booking_pb2.ConfirmBookingRequest(
                booking_id=held.id, provider="test", payment_id=held.id, amount=held.price
            )
            await paying.ConfirmBooking(paid, timeout=ANSWER_S)


async def _metrics(stage: Stage) -> metrics_pb2.MetricsSnapshot:
    async with Speaker(stage, stage.known("board")) as board:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(board.channel("metrics"))
        answer = await stub.GetMetrics(metrics_pb2.GetMetricsRequest(), timeout=ANSWER_S)
    assert isinstance(answer, metrics_pb2.MetricsSnapshot)
    return answer


async def _agree(stage: Stage, when: str) -> metrics_pb2.QualityMetrics:
    """Check that the metrics come to say what the bookings say; return how good they are."""
    [row] = await stage.query(
        "booking",
        "SELECT count(*) AS confirmed, coalesce(sum(price_minor), 0)::bigint AS gross"
        " FROM bookings WHERE state = 'CONFIRMED'",
    )
    wanted = (row["confirmed"], row["gross"])
    with Stopwatch() as passed:
        while True:
            metrics = await _metrics(stage)
            shown = (
                metrics.business.confirmed,
                sum(line.gross_minor for line in metrics.business.revenue),
            )
            if shown == wanted or passed.s > allowed_s(SETTLES_S):
                break
            await asyncio.sleep(0.1)
    stage.tally.check(shown == wanted, f"{when}: {shown} shown, {wanted} booked")
    return metrics.quality


async def forgers(stage: Stage) -> None:
    """Invent facts, and try to shut out the producer of the real ones."""
    async with Speaker(stage, stage.known("desk")) as desk:
        town = await Town.built(desk.channel("booking"), packages=1, days=10)
    await _book(stage, town, BOOKINGS)
    await _agree(stage, "before")
    rows = await stage.query("metrics", "SELECT id FROM producer ORDER BY lane")
    relay, process = (str(row["id"]) for row in rows)

    await _by_strangers(stage, relay)
    await _by_wrong_roles(stage, relay, process)
    await _by_telemetry(stage)
    await _by_its_own_name(stage, relay)

    await _book(stage, town, BOOKINGS)
    quality = await _agree(stage, "afterwards")
    counted = (quality.facts_gaps, quality.facts_lacking, quality.quarantined_batches)
    stage.tally.check(counted == (0, 0, len(_inventions())), f"{counted} gaps, lacking, refused")


async def _by_strangers(stage: Stage, relay: str) -> None:
    for who, (files, code) in stage.strangers().items():
        for epoch in (1, NEWEST_EPOCH):
            answer = await _answer(stage, files, relay, epoch=epoch, service="booking_service")
            stage.tally.check(answer == code, f"one {who}: Hello was answered {answer}")
        async with Speaker(stage, files) as stranger:
            answer = await stranger.code(
                TRACK, tracking_pb2.TrackRequest(service="booking_service")
            )
            stage.tally.check(answer == code, f"one {who}: Track was answered {answer}")


async def _by_wrong_roles(stage: Stage, relay: str, process: str) -> None:
    """Everybody but the bookings: those without the role, and a producer of another service."""
    for name in ROLES:
        for lane, producer in ((FACTS, relay), (TELEMETRY, process)):
            answer = await _answer(
                stage,
                stage.known(name),
                producer,
                epoch=NEWEST_EPOCH,
                lane=lane,
                service="booking_service",
            )
            stage.tally.check(answer == DENIED, f"{name}: Hello was answered {answer}")
    reviews = stage.known("reviews")
    answer = await _answer(stage, reviews, relay, lane=FACTS, service="reviews")
    stage.tally.check(answer == DENIED, f"facts of another service were answered {answer}")
    # As of its own service, where it may speak, it does not take over another's producer.
    answer = await _answer(
        stage, reviews, process, epoch=NEWEST_EPOCH, lane=TELEMETRY, service="reviews"
    )
    stage.tally.check(answer == "INVALID", f"another's producer was answered {answer}")


async def _by_telemetry(stage: Stage) -> None:
    """Facts on the lane of telemetry, where a producer may speak, and one by one."""
    inventions = _inventions()
    async with _stream(stage, stage.known("reviews")) as client:
        await client.welcome("reviews-1", lane=TELEMETRY, service="reviews")
        for seq, event in enumerate(inventions, start=1):
            payload = event_pb2.EventList(events=[event]).SerializeToString()
            await client.batch(seq, payload, lane=TELEMETRY)
        ack = await client.acked(len(inventions), applied=True)
        stage.tally.check(ack.applied_seq == len(inventions), "the batches are not passed over")
    async with Speaker(stage, stage.known("reviews")) as reviews:
        for event in inventions:
            request = tracking_pb2.TrackRequest(service="reviews", event=event)
            answer = await reviews.code(TRACK, request)
            stage.tally.check(answer == "INVALID_ARGUMENT", f"Track was answered {answer}")
    quality = await _agree(stage, "after facts as telemetry")
    stage.tally.check(
        quality.quarantined_batches == len(inventions),
        f"{quality.quarantined_batches} batches of {len(inventions)} are in quarantine",
    )


async def _by_its_own_name(stage: Stage, relay: str) -> None:
    """Who has the right certificate, but is not the relay or claims an epoch that it has not."""
    own = stage.known("booking")
    for producer, epoch, wanted in (
        ("another", 1, "FORKED"),
        (relay, NEWEST_EPOCH, "EPOCH_REFUSED"),
    ):
        answer = await _answer(stage, own, producer, epoch=epoch, service="booking_service")
        stage.tally.check(answer == wanted, f"{producer}, epoch {epoch}: {answer}")
