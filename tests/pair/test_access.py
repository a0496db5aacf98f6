"""Every RPC of the contract x every role and nobody, over real connections with certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc import StatusCode
from pydantic_settings import SettingsConfigDict

from booking_service.server import ACCESS as BOOKING
from metrics_service.server import ACCESS as METRICS
from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from protos.metrics.v1 import alert_pb2, deployment_pb2, health_pb2, metrics_pb2
from protos.tracking.v1 import tracking_pb2
from servicekit.caller import ROLES
from servicekit.identity.access import PLATFORM, Access
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from tests.servicekit.identity.certificates import Folder

BOUND_S = 30.0
HTTP = {
    "http//",
    "http//api/health/database",
    "http//api/metrics/bookings",
    "http//api/stream",
    "http//assets/*",
    "http//metrics",
}
NOBODY = ""
CALLERS = (*sorted(ROLES), NOBODY)


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


def methods_of(*files: FileDescriptor) -> set[str]:
    return {
        f"{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }


BOOKING_METHODS = methods_of(
    *(
        module.DESCRIPTOR
        for module in (booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2)
    )
)
METRICS_METHODS = methods_of(
    *(
        module.DESCRIPTOR
        for module in (alert_pb2, deployment_pb2, health_pb2, metrics_pb2, tracking_pb2)
    )
)
SERVED = [(BOOKING, BOOKING_METHODS), (METRICS, METRICS_METHODS)]


def allowed(access: Access, *roles: str) -> set[str]:
    return {method for method, of in access.table.items() if not of.isdisjoint(roles)}


def test_every_rpc_has_an_entry_and_every_entry_is_an_rpc() -> None:
    assert set(BOOKING.table) - set(PLATFORM) - {"http//metrics"} == BOOKING_METHODS
    assert set(METRICS.table) - set(PLATFORM) - HTTP == METRICS_METHODS
    for access, methods in SERVED:
        assert all(access.table[method] <= ROLES and access.table[method] for method in methods)


def test_money_is_for_payment_alone_and_repairs_and_query_texts_for_ops_alone() -> None:
    payment = {method for method in BOOKING_METHODS if BOOKING.table[method] == {"payment"}}
    assert payment >= {
        "booking.v1.BookingService/ConfirmBooking",
        "booking.v1.PaymentService/RecordPayment",
        "booking.v1.PaymentService/RefundPayment",
    }
    assert BOOKING.table["booking.v1.BookingService/ReconcileInventory"] == {"ops"}
    assert BOOKING.table["booking.v1.ProfileService/EraseUser"] == {"ops"}
    texts = {"GetQueryStats", "ListRecentQueries", "ListSlowQueries"}
    assert all(METRICS.table[f"metrics.v1.MetricsService/{name}"] == {"ops"} for name in texts)
    tracking = {f"tracking.v1.TrackingService/{name}" for name in ("Stream", "Track")}
    assert allowed(METRICS, "producer") & METRICS_METHODS == tracking
    assert not allowed(METRICS, "service", "payment") & METRICS_METHODS
    assert not allowed(BOOKING, "producer", "monitor") & BOOKING_METHODS


@pytest.mark.parametrize(("access", "methods"), SERVED, ids=["booking", "metrics"])
async def test_only_the_listed_pairs_pass(
    tmp_path: Path, access: Access, methods: set[str]
) -> None:
    folder = Folder(tmp_path / "tls")
    for caller in CALLERS:
        folder.issue(caller or "nobody", f"{caller or 'nobody'}.example.test")
    folder.write("callers.toml", "".join(table(role) for role in sorted(ROLES)))
    settings = Settings.load({"TEST_PORT": "0", **folder.environ("TEST_")})
    server = GrpcServer(settings, domain="test", access=access)
    for service in {method.partition("/")[0] for method in methods}:
        names = [each.partition("/")[2] for each in methods if each.startswith(f"{service}/")]
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(answer) for name in names
        }
        generic = grpc.method_handlers_generic_handler(service, handlers)
        server.grpc.add_generic_rpc_handlers((generic,))
    port = await server.start([])
    passed: set[tuple[str, str]] = set()
    refused: dict[tuple[str, str], StatusCode] = {}
    try:
        for caller in CALLERS:
            async with folder.client(caller or "nobody").open(f"localhost:{port}") as channel:
                for method in methods:
                    call: Any = channel.unary_unary(f"/{method}")
                    try:
                        await call(b"", timeout=BOUND_S)
                        passed.add((method, caller))
                    except grpc.aio.AioRpcError as error:
                        refused[method, caller] = error.code()
    finally:
        await server.drain()
    assert passed == {(method, role) for method in methods for role in access.table[method]}
    assert len(passed) + len(refused) == len(methods) * len(CALLERS)
    for (_, caller), code in refused.items():
        wanted = StatusCode.PERMISSION_DENIED if caller else StatusCode.UNAUTHENTICATED
        assert code is wanted


async def answer(request: bytes, _context: Any) -> bytes:
    return request


def table(role: str) -> str:
    producer = 'services = ["x"]\nlanes = ["facts"]\n' if role == "producer" else ""
    return f'["{role}.example.test"]\nroles = ["{role}"]\n{producer}'
