"""Rows 6, 15 and 16: connections and streams that take places or time from others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration

from protos.metrics.v1 import health_pb2, health_pb2_grpc, metrics_pb2, metrics_pb2_grpc
from tests.attacks.rows import http2
from tests.attacks.rows.requests import channel_to
from tests.attacks.rows.telemetry import ghost, real_instance_is_first
from tests.attacks.strike import Strike, attack

STREAM: Final = "/tracking.v1.TrackingService/Stream"
START: Final = "/booking.v1.BookingService/StartBooking"
METRICS: Final = "/metrics.v1.MetricsService/GetMetrics"
WATCH: Final = "/grpc.health.v1.Health/Watch"
SILENT: Final = 300
READERS: Final = 100
CALLS: Final = 900
"""Without their message, on one connection, which may have 1,024."""

RESETS_PER_S: Final = 2_000
FLOOD_PER_S: Final = 5_000
BURST: Final = 50


@attack(6, "300 idle tracking streams", bare=True)
async def idle_streams(strike: Strike) -> None:
    async with channel_to(strike.at.metrics) as channel:
        calls = []
        async for number in strike.paced(200):
            if number < SILENT:
                call = channel.stream_stream(STREAM)()
                calls.append(call)
                with contextlib.suppress(grpc.aio.BaseError, asyncio.InvalidStateError):
                    await call.write(ghost(f"idle-{number}"))
                strike.tally.check(True, "")
        await real_instance_is_first(strike)
        for call in calls:
            call.cancel()


async def silent(strike: Strike, address: str, said: bytes) -> None:
    """Open SILENT connections that say no more than this."""
    host, _, port = address.rpartition(":")
    writers: list[asyncio.StreamWriter] = []
    try:
        async for number in strike.paced(250):
            if number < SILENT:
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(said)
                writers.append(writer)
                strike.tally.check(True, "")
        await real_instance_is_first(strike)
    finally:
        for writer in writers:
            writer.close()


@attack(6, "300 silent HTTP connections")
async def silent_http(strike: Strike) -> None:
    await silent(strike, strike.at.http, b"")


@attack(6, "300 HTTP requests that are never finished")
async def unfinished_http(strike: Strike) -> None:
    await silent(strike, strike.at.http, b"GET /api/health/database HTTP/1.1\r\nHost: x\r\nX: ")


@attack(6, "300 silent connections to the gRPC port", bare=True)
async def silent_grpc(strike: Strike) -> None:
    await silent(strike, strike.at.metrics, b"")


@attack(6, "300 HTTP connections whose answers nobody reads")
async def unread_http(strike: Strike) -> None:
    request = b"GET /api/metrics/bookings HTTP/1.1\r\nHost: x\r\n\r\n"
    host, _, port = strike.at.http.rpartition(":")
    opened: list[socket.socket] = []
    async for number in strike.paced(250):
        if number < SILENT:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, (host, int(port)))
            client.send(request * 3)
            opened.append(client)
            strike.tally.check(True, "")
    await real_instance_is_first(strike)
    for client in opened:
        client.close()


async def unfinished_calls(strike: Strike, address: str, path: str, data: bytes) -> None:
    """Begin CALLS calls on each of two connections, whose message is not or half sent."""
    block = http2.headers(path)
    opened = [await http2.Connection.to(address) for _ in range(2)]
    async for number in strike.paced(40):
        if number < 2 * CALLS // BURST:
            connection = opened[number % 2]
            frames = []
            for _ in range(BURST):
                stream = connection.next_stream()
                frames.append(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block))
                if data:
                    frames.append(http2.frame(http2.DATA, 0, stream, data))
            connection.write(b"".join(frames))
            await connection.drain()
            strike.tally.tried += BURST
    await strike.readers_are_served()
    for connection in opened:
        await connection.close()


@attack(6, "1,800 calls that never send their message", bare=True)
async def calls_without_message(strike: Strike) -> None:
    await unfinished_calls(strike, strike.at.booking, START, b"")


@attack(6, "1,800 calls that send half of their message, at the metrics", bare=True)
async def calls_with_half_a_message(strike: Strike) -> None:
    await unfinished_calls(strike, strike.at.metrics, METRICS, b"\0\0\0\0\x40abc")


@attack(6, "600 watches of health that nobody reads", bare=True)
async def unread_watches(strike: Strike) -> None:
    connection = await http2.Connection.to(strike.at.booking)
    connection.write(http2.frame(http2.SETTINGS, 0, 0, http2.NO_WINDOW))
    block, empty = http2.headers(WATCH), b"\0\0\0\0\0"
    async for number in strike.paced(500):
        if number < 2 * SILENT:
            stream = connection.next_stream()
            connection.write(
                http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block)
                + http2.frame(http2.DATA, http2.END_STREAM, stream, empty)
            )
            await connection.drain()
            strike.tally.tried += 1
    await strike.readers_are_served()
    await connection.close()


async def reset(
    strike: Strike, address: str, connections: int, data: bytes = b"", per_s: int = RESETS_PER_S
) -> None:
    """Begin and reset so many calls a second on so many connections."""
    block = http2.headers(START)
    opened = [await http2.Connection.to(address) for _ in range(connections)]
    try:
        async for number in strike.paced(per_s / BURST):
            at = number % connections
            if not opened[at].open:
                # The server has had enough of it.
                await opened[at].close()
                opened[at] = await http2.Connection.to(address)
            connection = opened[at]
            frames = []
            for _ in range(BURST):
                stream = connection.next_stream()
                frames.append(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block))
                if data:
                    frames.append(http2.frame(http2.DATA, 0, stream, data))
                frames.append(http2.frame(http2.RST_STREAM, 0, stream, http2.CANCEL))
            connection.write(b"".join(frames))
            await connection.drain()
            strike.tally.tried += BURST
        await strike.readers_are_served()
    finally:
        for connection in opened:
            await connection.close()


@attack(15, "2,000 calls a second begun and reset, on one connection", bare=True)
async def resets(strike: Strike) -> None:
    await reset(strike, strike.at.booking, 1)


@attack(15, "2,000 calls a second begun and reset, on ten connections", bare=True)
async def spread_resets(strike: Strike) -> None:
    await reset(strike, strike.at.booking, 10)


@attack(15, "5,000 calls a second begun and reset, on one connection", bare=True)
async def flood_of_resets(strike: Strike) -> None:
    await reset(strike, strike.at.booking, 1, per_s=FLOOD_PER_S)


@attack(15, "calls reset in the middle of their message, at the metrics", bare=True)
async def resets_amid_data(strike: Strike) -> None:
    await reset(strike, strike.at.metrics, 1, b"\0\0\0\0\x40abc")


@attack(15, "2,000 whole requests a second reset at once", bare=True)
async def resets_of_whole_requests(strike: Strike) -> None:
    await reset(strike, strike.at.booking, 1, b"\0\0\0\0\0")


@attack(15, "5,000 pings and settings a second", bare=True)
async def pings(strike: Strike) -> None:
    connection = await http2.Connection.to(strike.at.booking)
    burst = (http2.frame(http2.PING, 0, 0, b"12345678") + http2.frame(http2.SETTINGS, 0, 0)) * (
        BURST // 2
    )
    async for _ in strike.paced(FLOOD_PER_S / BURST):
        if not connection.open:
            await connection.close()
            connection = await http2.Connection.to(strike.at.booking)
        connection.write(burst)
        await connection.drain()
        strike.tally.tried += BURST
    await connection.close()
    await strike.readers_are_served()


async def read_streams(strike: Strike, calls: list[Any], least: int) -> None:
    """Read streams until the end of the run; each must have answered at least so often."""
    answered = [0] * len(calls)

    async def read(at: int) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            while await calls[at].read() is not grpc.aio.EOF:
                answered[at] += 1

    readers = [asyncio.create_task(read(at)) for at in range(len(calls))]
    await strike.stopped()
    for at, call in enumerate(calls):
        refused = readers[at].done()
        strike.tally.check(refused or answered[at] >= least, f"{answered[at]} answers in a stream")
        call.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await strike.readers_are_served()


@attack(16, "100 readers of different windows", bare=True)
async def different_windows(strike: Strike) -> None:
    async with channel_to(strike.at.metrics) as channel:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
        windows = [Duration(seconds=60 * (number + 1)) for number in range(READERS)]
        await read_streams(
            strike,
            [stub.StreamMetrics(metrics_pb2.StreamMetricsRequest(window=each)) for each in windows],
            1,
        )


@attack(16, "100 readers of the shortest interval", bare=True)
async def short_intervals(strike: Strike) -> None:
    async with channel_to(strike.at.metrics) as channel:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
        request = metrics_pb2.StreamMetricsRequest(interval=Duration(nanos=100_000_000))
        await read_streams(strike, [stub.StreamMetrics(request) for _ in range(READERS)], 1)


@attack(16, "100 readers that take nothing", bare=True)
async def readers_that_stall(strike: Strike) -> None:
    async with channel_to(strike.at.metrics) as channel:
        stub: Any = metrics_pb2_grpc.MetricsServiceStub(channel)
        calls = [stub.StreamMetrics(metrics_pb2.StreamMetricsRequest()) for _ in range(READERS)]
        await strike.stopped()
        for call in calls:
            strike.tally.check(True, "")
            call.cancel()
        await strike.readers_are_served()


@attack(16, "100 readers of the verdict", bare=True)
async def watchers(strike: Strike) -> None:
    async with channel_to(strike.at.metrics) as channel:
        stub: Any = health_pb2_grpc.HealthServiceStub(channel)
        request = health_pb2.WatchDatabaseHealthRequest(interval=Duration(nanos=100_000_000))
        await read_streams(strike, [stub.WatchDatabaseHealth(request) for _ in range(READERS)], 1)
