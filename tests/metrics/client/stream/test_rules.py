"""The client keeps the rules of the tracking stream with any behaviour of the server."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from protos.tracking.v1 import tracking_pb2
from tests.metrics.client.stream.scripted_server import (
    ScriptedServer,
    ack_frame,
    read_kind,
    welcome_frame,
)
from tests.metrics.delivery_pair import FACTS, ListSource, streaming, until


async def test_the_client_never_has_more_than_the_credit_unacknowledged() -> None:
    seen: list[int] = []

    async def script(read: Any, write: Any) -> None:
        await read_kind(read, "hello")
        await write(welcome_frame(credit_bytes=250))
        outstanding, last = 0, 0
        reading = asyncio.ensure_future(read_kind(read, "batch"))
        while last < 20:
            # Whatever comes without an ack is within the credit: wait until no more does.
            done, _ = await asyncio.wait({reading}, timeout=0.05)
            if done:
                batch = reading.result()
                outstanding, last = outstanding + len(batch.payload), batch.seq
                seen.append(outstanding)
                reading = asyncio.ensure_future(read_kind(read, "batch"))
            else:
                await write(ack_frame(last))
                outstanding = 0
        await write(ack_frame(last))
        await reading

    facts = ListSource()
    facts.put(*[bytes(100)] * 20)
    async with ScriptedServer(script) as server, streaming(server.target, facts):
        await until(lambda: facts.acked_seq == 20)
    assert max(seen) == 200
    assert len(seen) == 20


async def test_the_connection_ends_after_three_heartbeats_of_silence() -> None:
    async def script(read: Any, write: Any) -> None:
        await read_kind(read, "hello")
        await write(welcome_frame(heartbeat_ms=50))
        while await read() is not grpc.aio.EOF:
            pass

    facts = ListSource()
    async with ScriptedServer(script) as server, streaming(server.target, facts):
        await until(lambda: server.streams >= 3)
    assert len(facts.opened) >= 2


async def test_a_gap_and_an_unavailable_log_rewind_to_what_is_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hellos: list[list[int]] = []

    async def script(read: Any, write: Any) -> None:
        for resume_after, reason in (
            (0, tracking_pb2.Nack.GAP),
            (1, tracking_pb2.Nack.UNAVAILABLE),
        ):
            await read_kind(read, "hello")
            await write(welcome_frame(resume_after=resume_after))
            hellos.append([(await read_kind(read, "batch")).seq for _ in range(3 - resume_after)])
            await write(
                tracking_pb2.ServerFrame(
                    nack=tracking_pb2.Nack(
                        lane=FACTS, seq=resume_after + 1, reason=reason, retry_after_ms=10
                    )
                )
            )
        await read_kind(read, "hello")
        await write(welcome_frame(resume_after=2))
        hellos.append([(await read_kind(read, "batch")).seq])
        await write(ack_frame(3))
        while await read() is not grpc.aio.EOF:
            pass

    facts = ListSource()
    facts.put(b"1", b"2", b"3")
    async with ScriptedServer(script) as server:
        monkeypatch.setattr(facts, "_hash", lambda _: b"")
        async with streaming(server.target, facts):
            await until(lambda: facts.acked_seq == 3)
    assert hellos == [[1, 2, 3], [2, 3], [3]]
    assert facts.opened == [0, 1, 2]
