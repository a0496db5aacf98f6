"""Every RPC ends with the number of queries that were run for it, whichever of its tasks ran them:
a query in a loop shows, what the driver and the service do for themselves does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from pydantic_settings import SettingsConfigDict

from metrics_service.client.queries.count import count_queries
from metrics_service.client.queries.record import NamedQuery
from metrics_service.client.tracked import TrackedPool, Tracker, track_query
from servicekit.errors import INTERNAL, ApiError
from servicekit.rpc_end import RpcEnd
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings

BOUND_S = 20.0
LIST = NamedQuery("SELECT generate_series(1, $1)", model="orders", operation="list")
LINES = NamedQuery("SELECT $1 + 1", model="orders", operation="lines")
POLL = NamedQuery("SELECT 1", model="poll", operation="poll", internal=True)
Context = grpc.aio.ServicerContext[Any, Any]


class Settings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="TEST_")


class Orders:
    """A service of raw bytes: the request says what the handler does, and how often."""

    def __init__(self, pool: TrackedPool) -> None:
        self.pool = pool
        self.hanging = asyncio.Event()

    async def do(self, request: bytes, context: Context) -> bytes:
        del context
        what, _, count = request.decode().partition(" ")
        await getattr(self, what)(int(count or 0))
        return b"ok"

    async def watch(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            await self.lines()
            yield b"line"
        # Beside the answers, in tasks of its own.
        await self.side_by_side(2)

    async def talk(self, requests: AsyncIterator[bytes], context: Context) -> None:
        async for request in requests:
            await context.write(await self.do(request, context))

    async def two(self, _: int) -> None:
        await self.pool.fetch(LIST, 1)
        await self.lines()

    async def for_each(self, count: int) -> None:
        for _ in await self.pool.fetch(LIST, count):
            await self.lines()

    async def for_each_inside_an_operation(self, count: int) -> None:
        async with track_query("all_lines", model="orders", tracker=self.pool.tracker):
            await self.for_each(count)

    async def side_by_side(self, count: int) -> None:
        await asyncio.gather(*(self.lines() for _ in range(count)))

    async def many_arguments(self, count: int) -> None:
        async with self.pool.acquire() as connection:
            await connection.executemany(LINES, [(number,) for number in range(count)])

    async def cursor(self, count: int) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            async for _ in connection.cursor(LIST, count, prefetch=10):
                pass

    async def abandoned_cursor(self, count: int) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            cursor = await connection.cursor(LIST, count)
            await cursor.fetchrow()

    async def nothing_of_its_own(self, _: int) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(POLL)

    async def refuse(self, count: int) -> None:
        await self.for_each(count)
        raise ApiError(INTERNAL, "no")

    async def hang(self, count: int) -> None:
        await self.for_each(count)
        self.hanging.set()
        await asyncio.Event().wait()

    async def lines(self) -> None:
        await self.pool.fetchval(LINES, 1)


class Stack:
    """A server of orders over a pool, a channel to it, and the ends of its RPCs."""

    def __init__(self, pool: TrackedPool) -> None:
        self.ends: asyncio.Queue[RpcEnd] = asyncio.Queue()
        self.orders = orders = Orders(pool)
        self.server = GrpcServer(
            Settings.load({"TEST_PORT": "0", "TEST_DRAIN_TIMEOUT_S": "0"}),
            domain="test.domain",
            on_rpc=self.ends.put_nowait,
            count_queries=count_queries,
        )
        handlers: dict[str, Any] = {
            "Do": grpc.unary_unary_rpc_method_handler(orders.do),
            "Watch": grpc.unary_stream_rpc_method_handler(orders.watch),
            "Talk": grpc.stream_stream_rpc_method_handler(orders.talk),
        }
        generic = grpc.method_handlers_generic_handler("test.Orders", handlers)
        self.server.grpc.add_generic_rpc_handlers((generic,))
        self.channel: Any = None

    async def do(self, request: str, **options: Any) -> None:
        await self.channel.unary_unary("/test.Orders/Do")(request.encode(), **options)

    async def queries(self) -> int:
        """Of the next RPC that ends."""
        async with asyncio.timeout(BOUND_S):
            return (await self.ends.get()).queries


@pytest.fixture
async def stack(empty_dsn: str) -> AsyncIterator[Stack]:
    async with running(empty_dsn) as stack:
        yield stack


@asynccontextmanager
async def running(dsn: str) -> AsyncIterator[Stack]:
    async with TrackedPool(dsn, tracker=Tracker(), min_size=1, max_size=4) as pool:
        stack = Stack(pool)
        port = await stack.server.start([])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stack.channel = channel
            try:
                yield stack
            finally:
                await stack.server.drain()


@pytest.mark.parametrize(
    ("request_text", "queries"),
    [
        ("two", 2),
        ("for_each 25", 26),
        ("for_each_inside_an_operation 25", 26),
        ("side_by_side 6", 6),
        ("many_arguments 100", 1),
        ("cursor 45", 1),
        ("abandoned_cursor 5", 1),
        ("nothing_of_its_own", 0),
    ],
)
async def test_an_rpc_counts_the_queries_it_ran(
    stack: Stack, request_text: str, queries: int
) -> None:
    await stack.do(request_text)
    assert await stack.queries() == queries


async def test_concurrent_rpcs_count_their_own_queries(stack: Stack) -> None:
    sizes = [1, 2, 4, 8, 16]
    await asyncio.gather(*(stack.do(f"for_each {size}") for size in sizes))
    assert sorted([await stack.queries() for _ in sizes]) == [size + 1 for size in sizes]


async def test_a_refused_rpc_and_a_cancelled_one_count_what_they_ran(stack: Stack) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await stack.do("refuse 3")
    assert await stack.queries() == 4
    call = stack.channel.unary_unary("/test.Orders/Do")(b"hang 2")
    async with asyncio.timeout(BOUND_S):
        await stack.orders.hanging.wait()
    call.cancel()
    assert await stack.queries() == 3


async def test_a_stream_counts_from_its_first_message_to_its_end(stack: Stack) -> None:
    lines = [line async for line in stack.channel.unary_stream("/test.Orders/Watch")(b"7")]
    assert len(lines) == 7
    assert await stack.queries() == 9
    talk = stack.channel.stream_stream("/test.Orders/Talk")(iter([b"two", b"for_each 3"]))
    assert [answer async for answer in talk] == [b"ok", b"ok"]
    assert await stack.queries() == 6
