"""A server whose end of the tracking stream the test writes, to break it where it likes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import grpc

from protos.tracking.v1 import tracking_pb2, tracking_pb2_grpc
from tests.metrics.delivery_pair import FACTS

GROWING = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
"""The longest pauses before the next connections, or the next openings of a lane."""


class Pauses:
    """Stands for `random` in the client: notes the longest pause allowed, and does not wait."""

    def __init__(self) -> None:
        self.limits_s: list[float] = []

    def uniform(self, low: float, high: float) -> float:
        self.limits_s.append(high)
        return 0.0


class ScriptedServer(tracking_pb2_grpc.TrackingServiceServicer):
    """A server whose end of the stream is a coroutine of the test: script(read, write), once for
    each connection; read gives the next ClientFrame, or grpc.aio.EOF.
    """

    def __init__(self, script: Callable[[Any, Any], Any]) -> None:
        self._script = script
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.streams = 0
        self.target = ""

    async def Stream(  # type: ignore[override]  # grpc.aio streams with context.write
        self, request_iterator: Any, context: Any
    ) -> None:
        del request_iterator
        self.streams += 1
        await self._script(context.read, context.write)

    async def Track(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        tracking_pb2_grpc.add_TrackingServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.target = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)


def welcome_frame(
    lane: tracking_pb2.Lane.ValueType = FACTS, resume_after: int = 0, **fields: Any
) -> tracking_pb2.ServerFrame:
    # A script sends no heartbeats: its client is to wait for it for as long as it takes.
    terms = {"credit_bytes": 1 << 20, "max_batch_bytes": 1 << 20, "heartbeat_ms": 10_000, **fields}
    return tracking_pb2.ServerFrame(
        welcome=tracking_pb2.Welcome(lane=lane, resume_after=resume_after, **terms)
    )


def ack_frame(seq: int, lane: tracking_pb2.Lane.ValueType = FACTS) -> tracking_pb2.ServerFrame:
    return tracking_pb2.ServerFrame(
        ack=tracking_pb2.Ack(lane=lane, durable_seq=seq, durability=tracking_pb2.Ack.FSYNC)
    )


def nack_frame(lane: int, **fields: Any) -> tracking_pb2.ServerFrame:
    return tracking_pb2.ServerFrame(nack=tracking_pb2.Nack(lane=lane, **fields))  # type: ignore[arg-type]  # also lanes that are none


async def read_kind(read: Any, kind: str) -> Any:
    """The next client frame of a kind."""
    while True:
        frame = await read()
        assert frame is not grpc.aio.EOF
        if frame.WhichOneof("frame") == kind:
            return getattr(frame, kind)
