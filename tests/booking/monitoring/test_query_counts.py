"""The metrics count the queries of booking RPCs: reads run few for lists of any length, and
writes those of the transaction that they were committed in.
"""

from __future__ import annotations

import asyncio

from protos.booking.v1 import booking_pb2, catalog_pb2
from protos.metrics.v1 import metrics_pb2
from tests.booking.running_service import RunningService, after, refusal_of, start_of
from tests.metrics.client.recording import Recording
from tests.metrics.state.log import Log


class Metrics:
    """The queries of a service since this was made, and those of its RPCs as the metrics answer
    them.
    """

    def __init__(self, service: RunningService) -> None:
        self._emitter = service.server.emitter
        self.recording = Recording()
        service.server.database.tracker.add_sink(self.recording)

    async def rpcs(self) -> dict[str, metrics_pb2.RpcQueries]:
        self._emitter.drain()
        await self._emitter.open(0, b"")
        batch = await self._emitter.next()
        log = Log()
        log.append_payload(batch.payload, batch.count)
        answer = log.state.metrics().performance.rpcs
        assert [each.mean for each in answer] == sorted((e.mean for e in answer), reverse=True)
        return {each.rpc.rpartition("/")[2]: each for each in answer}


async def test_a_read_of_two_queries_counts_two_and_a_list_of_any_length_counts_one(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=50)
    await asyncio.gather(*(booking.held(package.id, user_id=f"u{n}") for n in range(20)))
    metrics = Metrics(booking)
    for _ in range(2):
        await booking.catalog.CheckAvailability(
            catalog_pb2.CheckAvailabilityRequest(
                package_id=package.id, start_date=after(0), end_date=after(9)
            )
        )
    listed = await booking.booking.ListBookings(booking_pb2.ListBookingsRequest())
    assert len(listed.bookings) == 20
    unknown = catalog_pb2.GetPackageRequest(package_id="not an id")
    await refusal_of(booking.catalog.GetPackage(unknown))
    rpcs = await metrics.rpcs()
    check, listing, refused = (
        rpcs[rpc] for rpc in ("CheckAvailability", "ListBookings", "GetPackage")
    )
    assert (check.calls, check.queries, check.mean, check.max) == (2, 4, 2.0, 2)
    assert (listing.calls, listing.queries, listing.max) == (1, 1, 1)
    assert (refused.calls, refused.queries, refused.max) == (1, 0, 0)
    assert len(metrics.recording.user) == 5


async def test_a_write_counts_the_queries_of_its_transaction_in_a_group_of_any_size(
    booking: RunningService,
) -> None:
    package = await booking.package(capacity=50)
    metrics = Metrics(booking)
    await booking.held(package.id)
    one = len(metrics.recording.user)
    lines = [start_of(package.id, user_id=f"u{number}") for number in range(10)]
    batch = await booking.booking.BatchStartBookings(
        booking_pb2.BatchStartBookingsRequest(requests=lines)
    )
    assert all(result.WhichOneof("result") == "booking" for result in batch.results)
    rpcs = await metrics.rpcs()
    started, batched = rpcs["StartBooking"], rpcs["BatchStartBookings"]
    assert (started.calls, started.queries, started.max) == (1, one, one)
    # One transaction again, and not one for each line.
    assert (batched.calls, batched.queries) == (1, len(metrics.recording.user) - one)
    assert batched.queries == one
