"""Bytes that are no message, and every method of a service's descriptors to send them to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status.rpc_status import from_call

from servicekit import reflection

# Malformed whatever the type is.
MALFORMED: Final = (
    b"\xff",
    b"\xff" * 16,
    b"\x07",
    b"\x0b",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x0b" * 500 + b"\x0c" * 500,
    b"<script>alert(1)</script>",
)

# What every server has.
SHARED_SERVICES: Final[tuple[Any, ...]] = (
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
    reflection.V1,
)


@dataclass(frozen=True, slots=True)
class Method:
    """A method as the wire knows it."""

    name: str
    request_streaming: bool
    response_streaming: bool


def methods_of(*services: ServiceDescriptor) -> list[Method]:
    """Every method of the services."""
    return [
        Method(f"{each.full_name}/{method.name}", method.client_streaming, method.server_streaming)
        for each in services
        for method in each.methods
    ]


async def refusal_of(channel: Any, method: Method, data: bytes) -> tuple[str, str]:
    """Send one message of bytes; returns code and reason of the refusal."""
    path = f"/{method.name}"
    try:
        if method.request_streaming and method.response_streaming:
            async for _ in channel.stream_stream(path)(_once(data)):
                pass
        elif method.request_streaming:
            await channel.stream_unary(path)(_once(data))
        elif method.response_streaming:
            async for _ in channel.unary_stream(path)(data):
                pass
        else:
            await channel.unary_unary(path)(data)
    except grpc.aio.AioRpcError as error:
        return error.code().name, reason_of(error)
    raise AssertionError(f"{method.name} was not refused")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason of the ErrorInfo; empty without one."""
    status = from_call(error)  # type: ignore[arg-type]  # it serves both kinds
    info = error_details_pb2.ErrorInfo()
    found = status is not None and any(detail.Unpack(info) for detail in status.details)
    return str(info.reason) if found else ""


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
