"""One event without a stream is stored before it is acknowledged, and counted once by its id."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from booking_service.group_commit.facts import booking_fact_id
from metrics_service.eventlog import single_events
from metrics_service.state import tables
from metrics_service.state.fold import State
from protos.tracking.v1 import event_pb2, tracking_pb2, tracking_pb2_grpc
from servicekit.channels import PLAINTEXT, ClientFiles
from tests.metrics.eventlog.test_event_log import everything
from tests.metrics.running_service import BOUND_S, Service, running, until
from tests.servicekit.identity.certificates import Folder

CALLERS = """
["shop.example.test"]
roles = ["producer"]
services = ["shop"]
lanes = ["telemetry"]

["relay.example.test"]
roles = ["producer"]
services = ["shop"]
lanes = ["facts"]

["desk.example.test"]
roles = ["service", "payment", "ops", "monitor"]
"""


@pytest.fixture(autouse=True)
def _a_fold_that_remembers_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what the fold remembers for a while is not what is tested."""
    monkeypatch.setattr(tables, "MAX_SEEN_EVENTS", 1)


def view(event_id: bytes = b"", **fields: Any) -> event_pb2.Event:
    return event_pb2.Event(
        event_id=event_id or uuid4().bytes,
        time_us=time.time_ns() // 1000,
        session_id=fields.pop("session_id", "visitor"),
        package_viewed=event_pb2.PackageViewed(**{"package_id": "p-1", **fields}),
    )


async def track(
    service: Service, event: event_pb2.Event, name: str = "shop", instance: str = ""
) -> bool:
    """Whether the event was stored already."""
    stub: Any = tracking_pb2_grpc.TrackingServiceStub(service.channel)
    request = tracking_pb2.TrackRequest(service=name, instance=instance, event=event)
    answer = await stub.Track(request, timeout=BOUND_S)
    return bool(answer.already_stored)


async def counted(service: Service, events: int) -> State:
    """The state once it has folded so many events, and no more."""
    state = service.server.engine.current_state
    await until(lambda: state().metrics().quality.events >= events, "the events are folded")
    assert state().metrics().quality.events == events
    return state()


async def stored(dsn: str) -> list[tuple[str, str, int]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [
            tuple(row)
            for row in await connection.fetch(
                "SELECT service, instance, event_count FROM event_log"
                " WHERE kind = 'batch' ORDER BY position"
            )
        ]
    finally:
        await connection.close()


async def test_an_event_is_counted_once_however_often_it_arrives_and_after_restarts(
    metrics_dsn: str,
) -> None:
    first, second = view(session_id="a"), view(session_id="b")
    async with running(metrics_dsn) as service:
        answers = await asyncio.gather(*(track(service, first) for _ in range(20)))
        assert sorted(answers) == [False] + [True] * 19
        assert await stored(metrics_dsn) == [("shop", "shop", 1)], "before it is acknowledged"
        assert not await track(service, second, instance="pod-7")
        assert await track(service, first)
        await counted(service, 2)
    async with running(metrics_dsn) as service:
        assert await track(service, first)
        assert not await track(service, view(session_id="c"))
        state = await counted(service, 3)
        assert state.metrics().funnel.steps[0].actors == 3
        refolded = State()
        for record in await everything(service.server.event_log):
            refolded.apply(record)
        assert list(refolded.metrics().funnel.steps) == list(state.metrics().funnel.steps)
    assert await stored(metrics_dsn) == [
        ("shop", "shop", 1),
        ("shop", "pod-7", 1),
        ("shop", "shop", 1),
    ]


async def test_an_id_belongs_to_its_service_and_takes_no_place_of_a_fact(metrics_dsn: str) -> None:
    fact_id = booking_fact_id(UUID(int=7), 1, "STARTED")
    async with running(metrics_dsn) as service:
        assert not await track(service, view(fact_id))
        assert not await track(service, view(fact_id), "other")
        assert await track(service, view(fact_id), "other")
        records = await everything(service.server.event_log)
    ids = {
        event.event_id
        for record in records
        for event in event_pb2.EventList.FromString(record.payload).events
    }
    assert len(ids) == 2
    assert fact_id not in ids


async def test_an_event_is_not_acknowledged_before_its_commit_and_may_be_sent_again(
    metrics_dsn: str,
) -> None:
    event = view()
    holder = await asyncpg.connect(metrics_dsn)
    try:
        async with running(metrics_dsn) as service:
            holding = holder.transaction()
            await holding.start()
            await holder.execute("LOCK TABLE single_event")
            call = asyncio.create_task(track(service, event))
            waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = $1::regclass"
            async with asyncio.timeout(BOUND_S):
                while (pid := await holder.fetchval(waiting, "single_event")) is None:
                    assert not call.done()
                    await asyncio.sleep(0.01)
            await holder.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            await holding.rollback()
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
            assert details(failed.value, error_details_pb2.RetryInfo) is not None
            assert await stored(metrics_dsn) == []
            async with asyncio.timeout(BOUND_S):
                await service.server.event_log.wait_leading()
            assert not await track(service, event)
            await counted(service, 1)
    finally:
        await holder.close()


def details(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    metadata: Any = error.trailing_metadata()
    packed = dict(metadata)["grpc-status-details-bin"]
    for part in status_pb2.Status.FromString(packed).details:
        if part.Is(kind.DESCRIPTOR):
            return kind.FromString(part.value)
    return None


def with_body(**body: Any) -> event_pb2.Event:
    return event_pb2.Event(event_id=uuid4().bytes, **body)


def tally(ok: int) -> event_pb2.Event:
    return with_body(rpc_tally={"entries": [{"rpc": "x", "ok": ok}]})


REFUSED = {
    "a booking's fact": ("event.body", with_body(booking={})),
    "a payment's fact": ("event.body", with_body(payment={})),
    "a gap of facts": ("event.body", with_body(facts_gap={})),
    "a running query": ("event.body", with_body(running_query={})),
    "no body": ("event.body", with_body()),
    "a short id": ("event.event_id", view(b"short")),
    "a long session": ("event.session_id", view(session_id="é" * 129)),
    "a long name": ("event.package_viewed.package_id", view(package_id="x" * 257)),
    "a name in a list": (
        "event.rpc_tally.entries.rpc",
        with_body(rpc_tally={"entries": [{"rpc": "x"}, {"rpc": "x" * 257}]}),
    ),
    "a long text": (
        "event.query_definitions.definitions.text",
        with_body(query_definitions={"definitions": [{"text": "x" * 2049}]}),
    ),
    "a huge event": ("event", with_body(query_plan={"plan": "x" * 17_000})),
    "an impossible count": ("event.rpc_tally", tally(1 << 43)),
    "columns that differ": ("event.query_timings", with_body(query_timings={"query": [0]})),
}


async def test_what_is_no_telemetry_or_out_of_bounds_is_refused_by_its_field(
    metrics_dsn: str,
) -> None:
    async with running(metrics_dsn) as service:
        for what, (field, event) in REFUSED.items():
            assert await refusal(service, event) == [field], what
        assert await refusal(service, view(), "") == ["service", "instance"]
        assert await refusal(service, view(), "x" * 129) == ["service", "instance"]
        assert not await track(service, tally(1 << 42))
    assert await stored(metrics_dsn) == [("shop", "shop", 1)]


async def refusal(service: Service, event: event_pb2.Event, name: str = "shop") -> list[str]:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await track(service, event, name)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = details(failed.value, error_details_pb2.BadRequest)
    return [each.field for each in bad.field_violations]


async def test_a_full_log_takes_no_event_and_says_when_to_try_again(metrics_dsn: str) -> None:
    event = view()
    async with running(metrics_dsn) as service:
        log = service.server.event_log
        log._max_bytes = -1
        await log._checkpoints.using(log._keep_within)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await track(service, event)
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(failed.value, error_details_pb2.RetryInfo) is not None
        log._max_bytes = 1 << 40
        await log._checkpoints.using(log._keep_within)
        assert not await track(service, event)


async def test_a_caller_sends_only_telemetry_of_its_services(
    metrics_dsn: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "tls")
    folder.write("callers.toml", CALLERS)
    for file in ("shop", "relay", "desk"):
        folder.issue(file, f"{file}.example.test")
    async with running(metrics_dsn, **folder.environ("METRICS_")) as service:
        target = service.target

        async def answer(files: ClientFiles, name: str) -> str:
            async with files.open(target) as channel:
                stub: Any = tracking_pb2_grpc.TrackingServiceStub(channel)
                request = tracking_pb2.TrackRequest(service=name, event=view())
                try:
                    return str((await stub.Track(request, timeout=BOUND_S)).already_stored)
                except grpc.aio.AioRpcError as error:
                    return f"{error.code().name}: {error.details()}"

        assert await answer(folder.client("shop"), "shop") == "False"
        assert await answer(folder.client("shop"), "booking_service") == (
            "PERMISSION_DENIED: shop.example.test may not send telemetry of 'booking_service'"
        )
        assert await answer(folder.client("relay"), "shop") == (
            "PERMISSION_DENIED: relay.example.test may not send telemetry of 'shop'"
        )
        assert await answer(folder.client("desk"), "shop") == (
            "PERMISSION_DENIED: desk.example.test may not call Track"
        )
        assert (await answer(PLAINTEXT, "shop")).startswith("UNAVAILABLE")
    assert await stored(metrics_dsn) == [("shop", "shop", 1)]


async def test_ids_are_forgotten_in_steps_when_their_days_are_not_kept(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_events, "MAX_DELETED_IDS", 2)
    first = datetime(2030, 6, 1, tzinfo=UTC)
    connection = await asyncpg.connect(metrics_dsn)
    try:
        for number in range(7):
            day = (first + timedelta(days=number - 5)).date()
            await connection.execute(
                "INSERT INTO single_event VALUES ($1, $2)", b"%016d" % number, day
            )
        await single_events.forget_ids(connection, first)
        left = await connection.fetch("SELECT id FROM single_event ORDER BY id")
        assert [row["id"] for row in left] == [b"%016d" % number for number in (5, 6)]
    finally:
        await connection.close()
