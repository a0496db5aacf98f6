"""Bytes that are no message are INVALID_ARGUMENT on every method, also amid a good stream."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
import structlog

from metrics_service.rpc.register import SERVICES
from protos.metrics.v1 import alert_pb2, deployment_pb2, health_pb2, metrics_pb2
from protos.tracking.v1 import tracking_pb2
from servicekit.interceptors import RpcInterceptor
from tests.malformed import MALFORMED, SHARED_SERVICES, methods_of, reason_of, refusal_of
from tests.metrics.running_service import BOUND_S, Service, running

OWN_SERVICES = tuple(
    service
    for file in (tracking_pb2, metrics_pb2, alert_pb2, deployment_pb2, health_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
REFUSED = ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


async def test_every_method_refuses_malformed_bytes_without_noise(
    metrics_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert {service.full_name for service in OWN_SERVICES} == set(SERVICES)
    methods = methods_of(*OWN_SERVICES, *SHARED_SERVICES)
    sent = [(method, data) for method in methods for data in MALFORMED]
    with caplog.at_level(logging.WARNING), structlog.testing.capture_logs() as lines:
        async with running(metrics_dsn, METRICS_REFLECTION="true") as service:
            for method, data in sent:
                assert await refusal_of(service.channel, method, data) == REFUSED, (method, data)
    written = [line for line in lines if line.get("reason") == "MALFORMED_REQUEST"]
    assert 1 <= len(written) <= len(sent) / 8
    assert not any(line.get("exc_info") or line["event"] == "rpc_failed" for line in lines)
    assert not any(record.exc_info for record in caplog.records if record.name.startswith("grpc"))


@pytest.mark.parametrize("data", MALFORMED, ids=range(len(MALFORMED)))
async def test_malformed_bytes_amid_a_good_tracking_stream_end_it_with_their_reason(
    metrics_dsn: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    original = RpcInterceptor._end

    def end(self: RpcInterceptor, *args: object, **fields: object) -> None:
        error = fields.get("error")
        reasons.append(getattr(getattr(error, "spec", None), "reason", ""))
        original(self, *args, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(RpcInterceptor, "_end", end)
    async with running(metrics_dsn) as service, asyncio.timeout(BOUND_S):
        stored, error = await _store_one_then_send(service, data)
    assert stored == 1
    assert (error.code().name, reason_of(error)) == REFUSED
    assert reasons == ["MALFORMED_REQUEST"]


async def _store_one_then_send(service: Service, data: bytes) -> tuple[int, grpc.aio.AioRpcError]:
    """A batch that is stored, then data; returns the acknowledged batch and how the stream ends."""
    channel: Any = service.channel
    call = channel.stream_stream("/tracking.v1.TrackingService/Stream")()
    await service.server.event_log.wait_leading()
    hello = tracking_pb2.Hello(
        lane=tracking_pb2.LANE_FACTS,
        producer_id="p",
        epoch=1,
        schema=1,
        service="test",
        instance="i-1",
    )
    batch = tracking_pb2.Batch(lane=tracking_pb2.LANE_FACTS, seq=1, count=1, payload=b"")
    await call.write(tracking_pb2.ClientFrame(hello=hello).SerializeToString())
    stored, sent = 0, False
    try:
        while (raw := await call.read()) is not grpc.aio.EOF:
            frame = tracking_pb2.ServerFrame.FromString(raw)
            if frame.WhichOneof("frame") == "welcome":
                await call.write(tracking_pb2.ClientFrame(batch=batch).SerializeToString())
            stored = max(stored, frame.ack.durable_seq)
            if stored and not sent:
                sent = True
                await call.write(data)
    except grpc.aio.AioRpcError as error:
        return stored, error
    raise AssertionError("the stream ended well")
