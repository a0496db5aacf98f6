"""From a call of the client library to the figure it ends in, over the real stream and fold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import metrics_service.client as client_module
from metrics_service.client import BookingQueries, PackageQueries, track_query, with_query_tracking
from protos.metrics.v1 import metrics_pb2
from tests.metrics.delivery_pair import Sink, running, until

flow = client_module.flow


@pytest.fixture
async def sink(metrics_dsn: str) -> AsyncIterator[Sink]:
    async with running(Sink(metrics_dsn)) as started:
        instrumentation = client_module.init(started.target, service="web")
        yield started
        await instrumentation.close()


async def figures(sink: Sink, calls: Callable[[], None]) -> metrics_pb2.MetricsSnapshot:
    """The metrics after all steps of the calls are folded in."""
    calls()
    emitter = flow.emitter
    assert emitter is not None
    emitter.drain()
    await until(lambda: sink.engine.state.metrics(None).quality.events > 0)
    return sink.engine.state.metrics(None)


async def test_the_steps_of_one_visitor_fill_the_funnel(sink: Sink) -> None:
    def visit() -> None:
        flow.track_view("p", "u")
        flow.track_start("p", "u")
        flow.track_complete("p", "u", "b", 90_000)
        flow.track_confirm("b", "u", {"amount": 24_990, "currency": "EUR"})

    funnel = (await figures(sink, visit)).funnel
    assert [(step.name, step.actors) for step in funnel.steps] == [
        ("view", 1),
        ("start", 1),
        ("complete", 1),
        ("confirm", 1),
    ]
    assert (funnel.entered, funnel.converted) == (1, 1)


async def test_a_visitor_who_leaves_counts_as_abandoned(sink: Sink) -> None:
    def leave() -> None:
        flow.track_view("p", "u")
        flow.track_start("p", "u")
        flow.track_abandon("p", "u", 30_000)

    funnel = (await figures(sink, leave)).funnel
    assert (funnel.entered, funnel.abandoned, funnel.open) == (1, 1, 0)


@pytest.mark.parametrize(
    ("error", "figure"),
    [
        ("HOLD_EXPIRED", "booking_errors"),
        ("PAYMENT_DECLINED", "payment_failures"),
        ("PACKAGE_CLOSED", "availability_errors"),
    ],
)
async def test_an_error_counts_under_its_kind_and_reason(
    sink: Sink, error: str, figure: str
) -> None:
    errors = (await figures(sink, lambda: flow.track_error(error, "p", "u"))).errors
    assert getattr(errors, figure) == 1
    assert [(entry.reason, entry.count) for entry in errors.breakdown] == [(error, 1)]


async def _answer() -> str:
    return "answer"


@track_query("decorated", model="bookings")
async def _decorated() -> str:
    return await _answer()


async def _in_context() -> str:
    async with track_query("in_context", model="bookings"):
        return await _answer()


async def test_every_way_to_track_an_operation_ends_in_its_statistics(sink: Sink) -> None:
    calls: dict[str, Callable[[], Awaitable[str]]] = {
        "bookings.create": lambda: BookingQueries.create(_answer),
        "bookings.check_availability": lambda: BookingQueries.check_availability("p", _answer),
        "bookings.get_user_bookings": lambda: BookingQueries.get_user_bookings("u", _answer),
        "bookings.update": lambda: BookingQueries.update("b", _answer),
        "packages.get_details": lambda: PackageQueries.get_details("p", _answer),
        "packages.check_availability": lambda: PackageQueries.check_availability("p", _answer),
        "packages.search": lambda: PackageQueries.search(_answer),
        "m.direct": lambda: with_query_tracking(_answer, model="m", operation="direct"),
        "bookings.decorated": _decorated,
        "bookings.in_context": _in_context,
    }
    for call in calls.values():
        assert await call() == "answer"
    await figures(sink, lambda: None)
    answer = sink.engine.state.query_stats(metrics_pb2.GetQueryStatsRequest())
    assert {stats.operation: stats.total for stats in answer.groups} == dict.fromkeys(calls, 1)


async def test_timings_of_one_process_are_all_counted(sink: Sink) -> None:
    await asyncio.gather(*(PackageQueries.search(_answer) for _ in range(1_300)))
    emitter = flow.emitter
    assert emitter is not None
    emitter.drain()
    await until(lambda: sink.engine.state.metrics(None).quality.query_timings == 1_300)
    assert emitter.dropped == 0
