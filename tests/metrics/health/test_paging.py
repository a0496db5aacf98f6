"""The list of instances in pages: watched ones first, each once, whatever comes and goes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.health.instances import MAX_INSTANCES
from metrics_service.health.paging import MAX_PAGE_SIZE, Key, Page, key_of, token_of
from metrics_service.rpc import health, register
from metrics_service.web.app import create_app
from protos.metrics.v1 import health_pb2_grpc
from protos.metrics.v1.health_pb2 import (
    DatabaseHealth,
    GetDatabaseHealthRequest,
    WatchDatabaseHealthRequest,
)
from servicekit.identity.gate import EVERYBODY
from servicekit.server import GrpcServer
from servicekit.settings import ServerSettings
from tests.metrics.health.registry_world import World, reachable
from tests.metrics.web.no_figures import no_figures
from tests.sizes import size

# As they may come in a protobuf message.
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def pages(world: World, page_size: int) -> Iterator[DatabaseHealth]:
    page = Page(page_size)
    while True:
        health = world.registry.verdict(page)
        yield health
        if not health.next_page_token:
            return
        page = Page(page_size, key_of(health.next_page_token))


def full(world: World) -> None:
    for number in range(MAX_INSTANCES):
        world.registry.on_hello(f"other-{number}", f"service-{number % 7}")
        world.registry.on_hello(f"booking-{number}", "booking_service")


@pytest.mark.parametrize("page_size", [1, 7, 99, 100])
def test_pages_have_each_instance_once_watched_ones_first(world: World, page_size: int) -> None:
    full(world)
    answers = list(pages(world, page_size))
    listed = [
        (not one.watched, one.service, one.instance) for each in answers for one in each.instances
    ]
    assert len(listed) == 2 * MAX_INSTANCES
    assert listed == sorted(set(listed))
    assert {len(each.instances) for each in answers[:-1]} <= {page_size}
    assert {each.instances_total for each in answers} == {2 * MAX_INSTANCES}


def test_pages_skip_and_repeat_none_that_stays_while_others_come_and_go(world: World) -> None:
    for number in range(0, 60, 2):
        world.registry.on_hello(f"{number:02}", "booking_service")
    seen: list[str] = []
    for number, page in enumerate(pages(world, 5)):
        seen += [one.instance for one in page.instances]
        # The last one listed leaves, one before it and one after it come.
        world.registry.on_goodbye(seen[-1], "booking_service")
        world.registry.on_hello("00-new", "booking_service")
        world.registry.on_hello(f"{int(seen[-1][:2]) + 1:02}", "booking_service")
        assert number < 20
    assert len(seen) == len(set(seen))
    assert {f"{number:02}" for number in range(0, 60, 2)} <= set(seen)


@settings(max_examples=size(100, 2_000), deadline=None)
@given(other=st.booleans(), service=NAMES, instance=NAMES)
def test_a_token_is_its_place_again(other: bool, service: str, instance: str) -> None:
    key = Key(other, service, instance)
    assert key_of(token_of(key)) == key


@settings(max_examples=size(300, 10_000), deadline=None)
@given(st.text(max_size=60) | NAMES.map(lambda name: token_of(Key(True, name, name))[:-1]))
def test_another_text_is_no_token(text: str) -> None:
    key = key_of(text)
    assert key is None or token_of(key) == text


@contextlib.asynccontextmanager
async def serving(world: World) -> AsyncIterator[health_pb2_grpc.HealthServiceAsyncStub]:
    server = GrpcServer(ServerSettings.load({"PORT": "0"}), domain="metrics.farehold")
    verdicts = health.verdicts(world.registry.verdict)
    register.add_health(health.HealthService(world.registry.verdict, verdicts), server.grpc)
    port = await server.start([health.SERVICE])
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield health_pb2_grpc.HealthServiceStub(channel)
    finally:
        verdicts.close()
        await server.drain()


async def test_over_grpc(world: World) -> None:
    full(world)
    world.beat(reachable())
    async with serving(world) as stub:
        names: list[str] = []
        token = ""
        while token or not names:
            answer = await stub.GetDatabaseHealth(
                GetDatabaseHealthRequest(page_size=60, page_token=token)
            )
            names += [one.instance for one in answer.instances]
            token = answer.next_page_token
        assert len(set(names)) == len(names) == 2 * MAX_INSTANCES
        first = await stub.GetDatabaseHealth(GetDatabaseHealthRequest(page_size=1 << 30))
        assert len(first.instances) == MAX_PAGE_SIZE
        async for streamed in stub.WatchDatabaseHealth(WatchDatabaseHealthRequest()):
            assert [one.instance for one in streamed.instances] == names[:MAX_PAGE_SIZE]
            assert streamed.next_page_token == first.next_page_token
            break
        for bad in (
            GetDatabaseHealthRequest(page_size=-1),
            GetDatabaseHealthRequest(page_token="x"),
            GetDatabaseHealthRequest(page_token="A" * 100_000),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.GetDatabaseHealth(bad)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_over_http(world: World) -> None:
    full(world)
    app = create_app(no_figures, world.registry.verdict, gate=EVERYBODY)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        first = (await client.get("/api/health/database")).json()
        assert (len(first["instances"]), first["instances_total"]) == (100, 200)
        query = {"page_token": first["next_page_token"]}
        second = (await client.get("/api/health/database", params=query)).json()
        assert (len(second["instances"]), second["next_page_token"]) == (100, "")
        both = [*first["instances"], *second["instances"]]
        assert len({(each["service"], each["instance"]) for each in both}) == 200
        for bad in ("x", "\0", "é", "%ff", "A" * 10_000):
            answer = await client.get("/api/health/database", params={"page_token": bad})
            assert answer.status_code == 400
            assert answer.json()["error"] == "Bad Request"
        assert (await client.get("/api/health/database?page_token=%ff%00&page_token=")).is_error
