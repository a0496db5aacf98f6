"""docs/walk-event.md describes how one fact reaches GetMetrics: each task is traced and compared
step by step.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import FrameType

import pytest

from booking_service.delivery import relay as relay_module
from booking_service.delivery.relay import OutboxRelay
from booking_service.storage.clock import DatabaseClock
from metrics_service.client.stream import lane_sender
from metrics_service.client.stream.client import StreamClient
from metrics_service.eventlog.event_log import EventLog
from protos.metrics.v1 import metrics_pb2
from protos.tracking.v1 import event_pb2, tracking_pb2
from servicekit.clock import wall_us
from tests.booking.running_service import FIRST_DAY, RunningService, day, start_of
from tests.booking.running_service import running as running_booking
from tests.metrics.running_service import BOUND_S, Facts, Service, until
from tests.metrics.running_service import running as running_metrics
from tests.pair.walks import ROOT, Walk, documented, name_of, traced

PAGE = ROOT / "docs/walk-event.md"
PACKAGES = ("booking_service/", "metrics_service/")
MAX_FILES = 17
MAX_FILES_WITH_CALLS = 42

# Days that are still to come by the database's own clock.
FAR = timedelta(36_500)
HOUR_S = 3_600.0
SESSION = "visit"
VIEWED_US: list[int] = []


def sections() -> list[Walk]:
    """One walk per section: the work of one task, or of the callbacks of futures."""
    return [documented(text) for text in PAGE.read_text().split("\n## ")[1:]]


class Tracer:
    """Records one walk per task; functions that run in no task share one."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self._walks: dict[asyncio.Task[object] | None, Walk] = {}

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        name = name_of(frame, ROOT)
        if event != "call" or name is None or not name.startswith(PACKAGES):
            return
        walk = self._walks.setdefault(asyncio.current_task(), Walk([], {}))
        caller = None if frame.f_back is None else name_of(frame.f_back, ROOT)
        walk.enter(name, caller, self._files)

    def beginning_with(self, step: str) -> list[Walk]:
        return [walk for walk in self._walks.values() if walk.steps[:1] == [step]]


@pytest.fixture
def _only_the_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep everything else from being sent, sealed or written: no polls, no ticks, no look at what
    takes long, and, from the view on, one receive time for all records, so that no slot of time
    ends.
    """
    VIEWED_US.clear()
    monkeypatch.setattr(relay_module, "POLL_S", HOUR_S)
    monkeypatch.setattr(lane_sender, "STALLED_S", HOUR_S)
    defaults = EventLog.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "tick_s", HOUR_S)
    monkeypatch.setitem(defaults, "now_us", lambda: VIEWED_US[0] if VIEWED_US else wall_us())


async def view(metrics: Service, package_id: str) -> None:
    """The view before the booking, so that its start extends a chain of the funnel."""
    facts = Facts(tracking_pb2.LANE_TELEMETRY)
    VIEWED_US.append(wall_us())
    stream = StreamClient(metrics.target, service="test", instance="front-end")
    stream.add_lane(facts)
    await stream.start()
    viewed = event_pb2.PackageViewed(package_id=package_id)
    facts.add([event_pb2.Event(time_us=wall_us(), session_id=SESSION, package_viewed=viewed)])
    await until(lambda: metrics.server.engine.position == 1, "the view")
    await stream.stop(BOUND_S)


async def start(booking: RunningService, package_id: str, session_id: str) -> None:
    request = start_of(
        package_id, start_date=day(FIRST_DAY + FAR), end_date=day(FIRST_DAY + FAR + timedelta(2))
    )
    await booking.booking.StartBooking(request, metadata=(("x-session-id", session_id),))


async def delivered(booking: RunningService, relay: OutboxRelay, segments: int) -> None:
    """Wait until so many segments are acknowledged, and the relay's connection is idle."""
    async with asyncio.timeout(BOUND_S):
        query = "SELECT acked_seq FROM relay"
        while await booking.server.database.pool.fetchval(query) < segments:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert relay._lane is not None
    # Statements take turns: this one comes after all others.
    await relay._lane._segments.kept()


async def traced_fact(booking: RunningService, metrics: Service, files: set[str]) -> Tracer:
    """Trace one StartBooking, from its row in the outbox to GetMetrics."""
    package = await booking.package()
    database = booking.server.database
    await database.pool.execute("UPDATE package_days SET day = day + $1::integer", FAR.days)
    await view(metrics, package.id)
    stream = StreamClient(metrics.target, service="booking_service", instance="booking-1")
    relay = OutboxRelay(database, stream, monotonic_s=lambda: 0.0)
    await stream.start()
    relay.start()
    try:
        # The first fact finds nothing prepared; the second, by another clock, is traced.
        await start(booking, package.id, "another visit")
        relay.notify()
        await delivered(booking, relay, 1)
        await until(lambda: metrics.server.engine.position == 2, "the first fact")
        database.clock = DatabaseClock()
        tracer = Tracer(files)
        await start(booking, package.id, SESSION)
        with traced(tracer):
            relay.notify()
            await delivered(booking, relay, 2)
            await until(lambda: metrics.server.engine.position == 3, "the second fact")
            answer = await metrics.metrics.GetMetrics(metrics_pb2.GetMetricsRequest())
    finally:
        await relay.stop()
        await stream.stop(BOUND_S)
    assert [(each.name, each.actors) for each in answer.funnel.steps[:2]] == [
        ("view", 1),
        ("start", 1),
    ]
    assert answer.funnel.bookings_started == 2
    return tracer


@pytest.mark.processes
@pytest.mark.usefixtures("_only_the_fact")
async def test_a_fact_goes_the_way_that_the_document_says(
    booking_dsn: str, metrics_dsn: str
) -> None:
    expected = sections()
    files = set().union(*(walk.files for walk in expected))
    async with (
        running_metrics(
            metrics_dsn, METRICS_HEARTBEAT_MS="60000", METRICS_CHECKPOINT_INTERVAL_S="3600"
        ) as metrics,
        running_booking(booking_dsn) as booking,
    ):
        tracer = await traced_fact(booking, metrics, files)
    for walk in expected:
        [found] = tracer.beginning_with(walk.steps[0])
        assert found.steps == walk.steps
        assert found.calls == walk.calls


def test_the_way_leads_through_few_files() -> None:
    walks = sections()
    margin = set().union(*(walk.files for walk in walks))
    called = {
        name.partition("::")[0] for walk in walks for names in walk.calls.values() for name in names
    }
    assert len(margin) <= MAX_FILES
    assert len(margin | called) <= MAX_FILES_WITH_CALLS
    assert walks[0].steps[0] == "booking_service/delivery/relay.py::OutboxRelay._run"
    assert walks[-1].steps[0] == "metrics_service/rpc/metrics.py::MetricsService.GetMetrics"
