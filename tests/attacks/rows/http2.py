"""An HTTP/2 client that sends single frames, faster than a library would let it."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL: Final = struct.pack(">I", 8)
NO_WINDOW: Final = struct.pack(">HI", 4, 0)
"""The setting of a client that takes nothing on any stream."""

MAX_STREAM_ID: Final = (1 << 31) - 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def headers(path: str) -> bytes:
    """The header block of a gRPC request, without compression."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(value: str) -> bytes:
    data = value.encode()
    return bytes([len(data)]) + data


class Connection:
    """One connection; what the server says is read and dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._stream = -1
        self._dropping = asyncio.create_task(self._drop())

    @classmethod
    async def to(cls, address: str) -> Connection:
        """Connect and exchange settings."""
        host, _, port = address.rpartition(":")
        connection = cls(*await asyncio.open_connection(host, int(port)))
        connection.write(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
        return connection

    @property
    def open(self) -> bool:
        """Whether the server has not ended it."""
        return not self._dropping.done() and not self._writer.is_closing()

    def next_stream(self) -> int:
        """The number of a new stream."""
        self._stream += 2
        return self._stream

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the server takes more; returns where it has ended the connection."""
        with contextlib.suppress(OSError):
            await self._writer.drain()

    async def close(self) -> None:
        self._dropping.cancel()
        self._writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._writer.wait_closed()

    async def _drop(self) -> None:
        with contextlib.suppress(OSError):
            while await self._reader.read(1 << 16):
                pass
