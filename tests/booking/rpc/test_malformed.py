"""Bytes that are no message are INVALID_ARGUMENT on every method, recorded once, without noise."""

from __future__ import annotations

import logging

import pytest
import structlog

from booking_service.errors import CATALOGUE
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from servicekit.rpc_end import RpcEnd
from tests.booking.running_service import running
from tests.malformed import MALFORMED, SHARED_SERVICES, methods_of, refusal_of

SERVER = "booking_service.server"
SERVICES = tuple(
    service
    for file in (booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)


async def test_every_method_refuses_malformed_bytes_and_records_each_once(
    booking_dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[RpcEnd] = []
    monkeypatch.setattr(f"{SERVER}.Telemetry.on_rpc", lambda _, end: ends.append(end))
    methods = methods_of(*SERVICES, *SHARED_SERVICES)
    sent = [(method, data) for method in methods for data in MALFORMED]
    with caplog.at_level(logging.WARNING), structlog.testing.capture_logs() as lines:
        async with running(booking_dsn, BOOKING_REFLECTION="true") as service:
            for method, data in sent:
                refusal = await refusal_of(service.channel, method, data)
                assert refusal == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), (method, data)
    assert "MALFORMED_REQUEST" in CATALOGUE
    ended = [(end.method, end.reason, end.request) for end in ends]
    assert sorted(ended, key=str) == sorted(
        ((method.name, "MALFORMED_REQUEST", None) for method, _ in sent), key=str
    )
    written = [line for line in lines if line.get("reason") == "MALFORMED_REQUEST"]
    assert 1 <= len(written) <= len(sent) / 10
    assert sum(1 + line.get("suppressed", 0) for line in written) <= len(sent)
    assert not any(line.get("exc_info") or line["event"] == "rpc_failed" for line in lines)
    assert not any(record.exc_info for record in caplog.records if record.name.startswith("grpc"))
