"""A client of the tracking stream that sends single frames."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from protos.tracking.v1 import tracking_pb2, tracking_pb2_grpc
from servicekit.channels import PLAINTEXT, ClientFiles
from tests.metrics.delivery_pair import BOUND_S, FACTS

FIRST_HEARTBEAT_S = 0.1


class RawClient:
    """Sends single frames, so that a test can break every rule.

    From its first Hello it also sends heartbeats without signals, so that neither the server nor
    the test has to be fast.
    """

    def __init__(self, target: str, files: ClientFiles = PLAINTEXT) -> None:
        self._channel = files.open(target, [("grpc.use_local_subchannel_pool", 1)])
        self._call: Any = tracking_pb2_grpc.TrackingServiceStub(self._channel).Stream()
        self._writing = asyncio.Lock()
        self._silent = False
        self._heartbeat_s = FIRST_HEARTBEAT_S
        self._beating: asyncio.Task[None] | None = None

    async def send(self, **frame: Any) -> None:
        async with self._writing:
            await self._call.write(tracking_pb2.ClientFrame(**frame))

    def start_heartbeats(self) -> None:
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    def stop_heartbeats(self) -> None:
        self._silent = True

    async def hello(
        self,
        producer_id: str,
        epoch: int = 1,
        *,
        lane: tracking_pb2.Lane.ValueType = FACTS,
        **fields: Any,
    ) -> None:
        hello = {"schema": 1, "service": "test", "instance": "i-1", **fields}
        await self.send(
            hello=tracking_pb2.Hello(lane=lane, producer_id=producer_id, epoch=epoch, **hello)
        )
        self.start_heartbeats()

    async def welcome(
        self,
        producer_id: str,
        epoch: int = 1,
        *,
        lane: tracking_pb2.Lane.ValueType = FACTS,
        **fields: Any,
    ) -> tracking_pb2.Welcome:
        await self.hello(producer_id, epoch, lane=lane, **fields)
        welcome = (await self.expect("welcome")).welcome
        self._heartbeat_s = welcome.heartbeat_ms / 1000
        return welcome

    async def batch(
        self, seq: int, payload: bytes, *, lane: tracking_pb2.Lane.ValueType = FACTS, count: int = 1
    ) -> None:
        await self.send(batch=tracking_pb2.Batch(lane=lane, seq=seq, count=count, payload=payload))

    async def read(self) -> Any:
        """The next frame, or grpc.aio.EOF."""
        async with asyncio.timeout(BOUND_S):
            return await self._call.read()

    async def expect(self, kind: str) -> tracking_pb2.ServerFrame:
        """The next frame of a kind; others are skipped."""
        async with asyncio.timeout(BOUND_S):
            while True:
                frame = await self.read()
                assert frame is not grpc.aio.EOF, f"the stream ended before a {kind}"
                assert isinstance(frame, tracking_pb2.ServerFrame)
                if frame.WhichOneof("frame") == kind:
                    return frame

    async def acked(self, seq: int, *, applied: bool = False) -> tracking_pb2.Ack:
        """The first ack that covers a batch."""
        while True:
            ack = (await self.expect("ack")).ack
            if (ack.applied_seq if applied else ack.durable_seq) >= seq:
                return ack

    async def ended(self) -> None:
        """Wait for the server to end the stream.

        A heartbeat that is written as the end arrives fails the call at this side.
        """
        try:
            while await self.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            if "SendMessageOperation" not in (error.debug_error_string() or ""):
                raise

    async def opened(self) -> None:
        """Wait until the server has taken the stream; raises its refusal."""
        await self._call.initial_metadata()
        if self._call.done():
            await self._call.read()

    async def half_close(self) -> None:
        self.stop_heartbeats()
        await self._call.done_writing()

    async def _beat(self) -> None:
        with contextlib.suppress(grpc.aio.BaseError, asyncio.InvalidStateError):
            while not self._silent:
                await self.send(heartbeat=tracking_pb2.ClientHeartbeat())
                await asyncio.sleep(self._heartbeat_s)

    async def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        self._call.cancel()
        await self._channel.close()


@asynccontextmanager
async def raw_client(target: str) -> AsyncIterator[RawClient]:
    client = RawClient(target)
    try:
        yield client
    finally:
        await client.close()
