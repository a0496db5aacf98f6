"""A server that breaks the rules is believed nothing, and is tried ever less often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from metrics_service.client.stream import client as client_module
from metrics_service.client.stream import lane_sender as lane_module
from metrics_service.client.telemetry.emitter import Emitter
from protos.tracking.v1 import event_pb2, tracking_pb2
from tests.metrics.client.stream.scripted_server import (
    GROWING,
    Pauses,
    ScriptedServer,
    ack_frame,
    nack_frame,
    read_kind,
    welcome_frame,
)
from tests.metrics.delivery_pair import FACTS, TELEMETRY, ListSource, streaming, until

YEAR_MS = 2**31 - 1


@pytest.fixture
def connection_pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    pauses = Pauses()
    monkeypatch.setattr(client_module, "random", pauses)
    return pauses


@pytest.fixture
def lane_pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    pauses = Pauses()
    monkeypatch.setattr(lane_module, "random", pauses)
    return pauses


def answering(*frames: tracking_pb2.ServerFrame) -> Callable[[Any, Any], Awaitable[None]]:
    """A script that answers the first Hello with the frames and then only reads."""

    async def script(read: Any, write: Any) -> None:
        await read_kind(read, "hello")
        for frame in frames:
            await write(frame)
        while await read() is not grpc.aio.EOF:
            pass

    return script


def credit_frame(credit_bytes: int) -> tracking_pb2.ServerFrame:
    return tracking_pb2.ServerFrame(credit=tracking_pb2.Credit(credit_bytes=credit_bytes))


@pytest.mark.parametrize(
    "frames",
    [
        [welcome_frame(), credit_frame(-1)],
        [welcome_frame(), credit_frame(2**62)],
        [welcome_frame(credit_bytes=-1)],
        [welcome_frame(credit_bytes=2**63 - 1)],
        [welcome_frame(heartbeat_ms=0)],
        [welcome_frame(heartbeat_ms=-5)],
        [welcome_frame(heartbeat_ms=YEAR_MS)],
        [welcome_frame(resume_after=-1)],
        [welcome_frame(lane=TELEMETRY)],
        [welcome_frame(lane=7)],  # type: ignore[arg-type]  # no lane
        [welcome_frame(), ack_frame(1, lane=TELEMETRY)],
        [welcome_frame(), nack_frame(TELEMETRY, reason=tracking_pb2.Nack.FENCED)],
        [welcome_frame(), nack_frame(0, reason=tracking_pb2.Nack.INVALID)],
    ],
)
async def test_a_frame_that_no_server_may_send_ends_the_connection_and_pauses_grow(
    frames: list[tracking_pb2.ServerFrame], connection_pauses: Pauses
) -> None:
    facts = ListSource()
    async with ScriptedServer(answering(*frames)) as server, streaming(server.target, facts):
        await until(lambda: len(connection_pauses.limits_s) >= len(GROWING))
    assert connection_pauses.limits_s[: len(GROWING)] == GROWING
    assert facts.acked_seq == 0
    assert not facts.is_fenced


@pytest.mark.parametrize("seq", [2**62, 3, 2**63 - 1])
async def test_an_acknowledgement_of_more_than_was_sent_acknowledges_nothing(
    seq: int, connection_pauses: Pauses
) -> None:
    async def script(read: Any, write: Any) -> None:
        await read_kind(read, "hello")
        await write(welcome_frame(credit_bytes=2))
        for _ in range(2):
            await read_kind(read, "batch")
        await write(ack_frame(seq))
        while await read() is not grpc.aio.EOF:
            pass

    facts = ListSource()
    # The third is not sent: the credit is used up.
    facts.put(b"1", b"2", b"3")
    async with ScriptedServer(script) as server, streaming(server.target, facts):
        await until(lambda: len(connection_pauses.limits_s) >= len(GROWING))
    assert facts.acked_seq == 0
    assert connection_pauses.limits_s[: len(GROWING)] == GROWING


async def test_telemetry_that_was_not_sent_is_kept_whatever_is_acknowledged(
    connection_pauses: Pauses,
) -> None:
    emitter = Emitter("test", instance="i-1", flush_interval_s=60)
    emitter.emit(event_pb2.PackageViewed(package_id="p"), session_id="kept")
    script = answering(welcome_frame(lane=TELEMETRY), ack_frame(2**62, lane=TELEMETRY))
    async with ScriptedServer(script) as server, streaming(server.target, emitter):
        await until(lambda: len(connection_pauses.limits_s) >= 3)
        kept = [await _first_batch(emitter)]
    assert b"kept" in kept[0]


async def test_acknowledgements_that_go_back_end_the_connection(
    connection_pauses: Pauses,
) -> None:
    async def script(read: Any, write: Any) -> None:
        await read_kind(read, "hello")
        await write(welcome_frame())
        for _ in range(2):
            await read_kind(read, "batch")
        for seq in (2, 1):
            await write(ack_frame(seq))
        while await read() is not grpc.aio.EOF:
            pass

    facts = ListSource()
    facts.put(b"1", b"2")
    async with ScriptedServer(script) as server, streaming(server.target, facts):
        await until(lambda: server.streams >= 2)
    assert connection_pauses.limits_s[:1] == [0.1]


async def test_a_server_that_welcomes_and_ends_is_tried_ever_less_often(
    connection_pauses: Pauses,
) -> None:
    async def script(read: Any, write: Any) -> None:
        await read_kind(read, "hello")
        await write(welcome_frame())

    facts = ListSource()
    async with ScriptedServer(script) as server, streaming(server.target, facts):
        await until(lambda: len(connection_pauses.limits_s) >= len(GROWING))
    assert connection_pauses.limits_s[: len(GROWING)] == GROWING


@pytest.mark.parametrize("resume_after", [1, 2**62])
async def test_telemetry_starts_new_epochs_ever_less_often_for_a_resume_point_that_never_was(
    resume_after: int, lane_pauses: Pauses
) -> None:
    async def script(read: Any, write: Any) -> None:
        while True:
            await read_kind(read, "hello")
            await write(welcome_frame(lane=TELEMETRY, resume_after=resume_after))

    emitter = Emitter("test", instance="i-1", flush_interval_s=60)
    async with ScriptedServer(script) as server, streaming(server.target, emitter):
        await until(lambda: len(lane_pauses.limits_s) >= len(GROWING))
        assert server.streams == 1
    assert lane_pauses.limits_s[: len(GROWING)] == GROWING


async def test_a_lane_that_is_sent_back_again_and_again_opens_ever_less_often(
    lane_pauses: Pauses,
) -> None:
    async def script(read: Any, write: Any) -> None:
        while True:
            await read_kind(read, "hello")
            await write(welcome_frame())
            await read_kind(read, "batch")
            await write(nack_frame(FACTS, seq=1, reason=tracking_pb2.Nack.GAP))

    facts = ListSource()
    facts.put(b"1")
    async with ScriptedServer(script) as server, streaming(server.target, facts):
        await until(lambda: len(lane_pauses.limits_s) >= len(GROWING))
    assert lane_pauses.limits_s[: len(GROWING)] == GROWING


@pytest.mark.parametrize(
    ("retry_after_ms", "pause_s"), [(0, 0.1), (-1, 0.1), (500, 0.5), (YEAR_MS, 30.0)]
)
async def test_the_pause_that_a_refusal_asks_for_has_bounds(
    retry_after_ms: int, pause_s: float, lane_pauses: Pauses
) -> None:
    refused = nack_frame(FACTS, reason=tracking_pb2.Nack.UNAVAILABLE, retry_after_ms=retry_after_ms)
    facts = ListSource()
    async with ScriptedServer(answering(refused)) as server, streaming(server.target, facts):
        await until(lambda: lane_pauses.limits_s)
    assert lane_pauses.limits_s == [pause_s]


async def _first_batch(emitter: Emitter) -> bytes:
    emitter.drain()
    return (await emitter.next()).payload
