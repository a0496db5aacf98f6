"""A server of gRPC alone, as a process: every method of both services, registered as generated code
does it and with the options of ours, and nothing behind it. What an attack on it does to its other
callers is what gRPC for Python, the attackers and the machine take.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2 as grpc_health_pb2

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from protos.metrics.v1 import health_pb2, metrics_pb2
from protos.tracking.v1 import tracking_pb2
from servicekit.server import OPTIONS
from servicekit.start import run
from tests.malformed import methods_of

FRAME: Final = bytes(4_096)
FRAME_GAP_S: Final = 1.0
"""What a stream gets that is only read: about a StreamMetrics frame, as often."""

FILES: Final[tuple[Any, ...]] = (
    *(booking_pb2, catalog_pb2, payment_pb2, review_pb2, profile_pb2),
    *(metrics_pb2, health_pb2, tracking_pb2),
)


async def _answer(_: bytes, __: object) -> bytes:
    return b""


async def _frames(_: bytes, __: object) -> AsyncIterator[bytes]:
    while True:
        yield FRAME
        await asyncio.sleep(FRAME_GAP_S)


async def _end(messages: AsyncIterator[bytes], _: object) -> bytes:
    async for _message in messages:
        pass
    return b""


async def _replies(messages: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
    async for _message in messages:
        yield b""


_HANDLERS: Final[dict[tuple[bool, bool], Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler(_answer),
    (False, True): grpc.unary_stream_rpc_method_handler(_frames),
    (True, False): grpc.stream_unary_rpc_method_handler(_end),
    (True, True): grpc.stream_stream_rpc_method_handler(_replies),
}


def add_methods(server: grpc.aio.Server, files: Sequence[Any]) -> None:
    """Serve every method of the files, with nothing behind it."""
    for file in files:
        for service in file.DESCRIPTOR.services_by_name.values():
            handlers = {
                each.name.rpartition("/")[2]: _HANDLERS[
                    each.request_streaming, each.response_streaming
                ]
                for each in methods_of(service)
            }
            generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
            server.add_generic_rpc_handlers((generic,))
            server.add_registered_method_handlers(service.full_name, handlers)


async def serve(stop: asyncio.Event) -> None:
    """Serve until `stop` is set; print the port."""
    server = grpc.aio.server(options=OPTIONS)
    add_methods(server, (*FILES, grpc_health_pb2))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    sys.exit(run(serve))
