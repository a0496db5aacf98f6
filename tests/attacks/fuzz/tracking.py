"""Tracking streams with frames of every kind. None states a fact: those are the bookings' own, and
the totals are compared afterwards.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from protos.tracking.v1 import event_pb2, tracking_pb2
from tests.attacks.fuzz.requests import change, spoilt, wire
from tests.attacks.fuzz.values import Values

MAX_FRAMES: Final = 4
MAX_EVENTS: Final = 8
INSTANCES: Final = 20
FACTS: Final = frozenset({"booking", "payment"})

_BODIES: Final = [
    field
    for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["body"].fields
    if field.name not in FACTS
]
_FRAME: Final[Any] = tracking_pb2.ClientFrame.DESCRIPTOR
_SIGNALS: Final = tracking_pb2.Signals(
    probe=tracking_pb2.Probe(result=tracking_pb2.Probe.REACHABLE, latency_us=900),
    pool=tracking_pb2.PoolGauges(size=2, idle=1, max=8),
    queries=tracking_pb2.QueryCounts(
        total=10,
        execute_us=tracking_pb2.Sketch(
            index_delta=[300, 1], count=[5, 5], sum=10.0, min=1.0, max=2.0
        ),
    ),
    operations=[tracking_pb2.OperationCounts(operation="get", total=10)],
    monitor=tracking_pb2.MonitorCost(queries=10),
)


async def stream_of(channel: Any, path: str, values: Values, number: int) -> list[bytes]:
    """Run one stream to its end; return what was sent."""
    sent = [_hello(values, number)]
    sent += [_frame(values, seq) for seq in range(1, values.random.randrange(MAX_FRAMES) + 2)]
    call = channel.stream_stream(path)()
    try:
        await _converse(call, sent)
    except asyncio.InvalidStateError:
        # The server ended the stream as a frame was written.
        await call.code()
    return sent


async def _converse(call: Any, frames: list[bytes]) -> None:
    await call.write(frames[0])
    # Before a Welcome every batch is refused; after a Hello that is refused it never comes.
    if await _welcomed(call) is grpc.aio.EOF:
        return
    for frame in frames[1:]:
        await call.write(frame)
    await call.done_writing()
    while await call.read() is not grpc.aio.EOF:
        pass


async def _welcomed(call: Any) -> Any:
    """Read until the Hello was answered, one way or the other."""
    while True:
        answer = await call.read()
        if answer is grpc.aio.EOF:
            return answer
        frame = tracking_pb2.ServerFrame.FromString(answer)
        if frame.WhichOneof("frame") in ("welcome", "nack", "drain", "heartbeat"):
            return answer


def _hello(values: Values, number: int) -> bytes:
    random = values.random
    facts = random.random() < 0.1
    hello = tracking_pb2.Hello(
        lane=tracking_pb2.LANE_FACTS if facts else tracking_pb2.LANE_TELEMETRY,
        producer_id=f"fuzz-{number}",
        epoch=1,
        schema=1,
        service="fuzz",
        instance=f"fuzz-{random.randrange(INSTANCES)}",
    )
    if random.random() < 0.25:
        change(hello, values)
    return tracking_pb2.ClientFrame(hello=hello).SerializeToString()


def _frame(values: Values, seq: int) -> bytes:
    random = values.random
    draw = random.random()
    if draw < 0.6:
        batch = tracking_pb2.Batch(
            lane=tracking_pb2.LANE_TELEMETRY, seq=seq, count=1, payload=_payload(values)
        )
        if random.random() < 0.15:
            payload = batch.payload
            change(batch, values)
            batch.payload = payload
        return tracking_pb2.ClientFrame(batch=batch).SerializeToString()
    if draw < 0.85:
        signals = tracking_pb2.Signals()
        signals.CopyFrom(_SIGNALS)
        for _ in range(random.randrange(4)):
            change(signals, values)
        heartbeat = tracking_pb2.ClientHeartbeat(signals=signals)
        return tracking_pb2.ClientFrame(heartbeat=heartbeat).SerializeToString()
    if draw < 0.92:
        return tracking_pb2.ClientFrame(goodbye=tracking_pb2.Goodbye()).SerializeToString()
    heartbeats = _FRAME.fields_by_name["heartbeat"].message_type
    data = spoilt(wire(heartbeats, values, 3), random)
    return b"\x1a" + len(data).to_bytes(1, "big") + data if len(data) < 128 else data


def _payload(values: Values) -> bytes:
    random = values.random
    events = event_pb2.EventList()
    for _ in range(random.randrange(1, MAX_EVENTS)):
        event = events.events.add(event_id=random.randbytes(random.choice((0, 8, 16, 16, 17))))
        body = random.choice(_BODIES)
        inner = getattr(event, body.name)
        inner.SetInParent()
        for _ in range(random.randrange(1, 12)):
            change(inner, values)
        if random.random() < 0.2:
            event.time_us = values.of(event.DESCRIPTOR.fields_by_name["time_us"])
    return events.SerializeToString()
