"""An HTTP/2 client that keeps what the rules allow and no more: it sends single frames, answers
pings and settings, and notes which streams the server has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.attacks.rows import http2

BOUND_S = 20.0
INITIAL_WINDOW = 4


def message(body: bytes, length: int | None = None) -> bytes:
    """A gRPC message, whose prefix may say another length."""
    return struct.pack(">BI", 0, len(body) if length is None else length) + body


class RawHttp2:
    """One connection to a server of gRPC."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._last = -1
        self.ended: set[int] = set()
        self._news = asyncio.Event()
        self._settled = False
        self.closed = False
        self._reading = asyncio.create_task(self._read())

    def call(self, path: str, data: bytes | None = None, *, ends: bool = False) -> int:
        """Begin a call and return its stream; `ends` is set on the last frame."""
        self._last += 2
        flag = http2.END_STREAM if ends else 0
        flags = http2.END_HEADERS | (flag if data is None else 0)
        frames = http2.frame(http2.HEADERS, flags, self._last, http2.headers(path))
        if data is not None:
            frames += http2.frame(http2.DATA, flag, self._last, data)
        self.writer.write(frames)
        return self._last

    def reset(self, stream: int) -> None:
        self.writer.write(http2.frame(http2.RST_STREAM, 0, stream, http2.CANCEL))

    async def until_ended(self, stream: int) -> None:
        """Wait for the server to end a stream."""
        await self._until(lambda: stream in self.ended)

    async def until_settled(self) -> None:
        """Wait for the server to take the connection."""
        await self._until(lambda: self._settled)

    async def until_closed(self) -> None:
        """Wait for the server to end the connection."""
        await self._until(lambda: self.closed)

    async def close(self) -> None:
        self._reading.cancel()
        self.writer.transport.abort()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def _read(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                size, kind = int.from_bytes(head[:3], "big"), head[3]
                flags, stream = head[4], int.from_bytes(head[5:], "big")
                payload = await self._reader.readexactly(size)
                if kind == http2.PING and not flags & http2.ACK:
                    self.writer.write(http2.frame(http2.PING, http2.ACK, 0, payload))
                elif kind == http2.SETTINGS and not flags & http2.ACK:
                    self._settled = True
                    self.writer.write(http2.frame(http2.SETTINGS, http2.ACK, 0))
                elif kind == http2.RST_STREAM or (
                    kind in (http2.DATA, http2.HEADERS) and flags & http2.END_STREAM
                ):
                    self.ended.add(stream)
                self._news.set()
        self.closed = True
        self._news.set()


@asynccontextmanager
async def raw_http2(
    port: int, *, window: int | None = None, speaks: bool = True
) -> AsyncIterator[RawHttp2]:
    """A connection; with a window, what the server may send on a stream is so many bytes. One that
    does not speak sends nothing at all.
    """
    client = RawHttp2(*await asyncio.open_connection("127.0.0.1", port))
    if speaks:
        settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW, window)
        client.writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, settings))
        # Of the connection, which is beside that of each stream.
        client.writer.write(http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)))
    try:
        yield client
    finally:
        await client.close()
