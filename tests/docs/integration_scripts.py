"""Runs the examples of docs/integration.md, each as the web application that it is."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock
from uuid import uuid4

import grpc
import httpx

from protos.booking.v1 import catalog_pb2, catalog_pb2_grpc
from protos.metrics.v1 import journey_pb2, metrics_pb2_grpc
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.binaries import free_port
from servicekit.devstack import PostgresServer
from tests.docs.snippet_runner import BOUND_S, counts_of_scripts, here, until
from tests.docs.snippets import Block
from tests.pair.real_pair import Pair


class Asked(NamedTuple):
    """A request to an example; JSON makes it a POST."""

    path: str
    json: dict[str, Any] | None = None


def answers(text: str, *requests: Asked, **environ: str) -> list[httpx.Response]:
    """What an application answers from its start to its end."""
    module = ModuleType("shop")
    # close() gives up after two seconds, which a machine that stalls exceeds.
    patient = text.replace("telemetry.close()", f"telemetry.close({BOUND_S})")
    with mock.patch.dict(os.environ, environ):
        exec(compile(patient, "docs/integration.md", "exec"), module.__dict__)
        return asyncio.run(_answers(module.app, requests))


async def _answers(app: Any, requests: tuple[Asked, ...]) -> list[httpx.Response]:
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(served),
            base_url="http://shop.test",
            cookies={"visitor": "visitor-7"},
        )
        async with client:
            return [
                await client.request(
                    "GET" if each.json is None else "POST", *each[:1], json=each.json
                )
                for each in requests
            ]


def handler_example(block: Block, pair: Pair, _: Path, postgres: PostgresServer) -> None:
    """Its query is timed under its name, and its page as one operation."""
    dsn = postgres.create_database("snippets_rooms")
    postgres.psql(
        "snippets_rooms",
        "CREATE TABLE rooms (name text, free boolean);"
        " INSERT INTO rooms VALUES ('attic', true), ('cellar', false)",
    )
    before = counts_of_scripts(pair)
    page, count = answers(
        here(block.text, pair), Asked("/rooms"), Asked("/rooms/free"), DATABASE_URL=dsn
    )
    assert page.json() == {"rooms": ["attic", "cellar"], "free": 1}
    assert count.json() == {"free": 1}
    until(lambda: counts_of_scripts(pair) - before == Counter({"rooms.page": 1, "rooms.free": 1}))


def form_example(block: Block, pair: Pair, _folder: Path, _: PostgresServer) -> None:
    """The journey of its visitor has each step once."""
    with grpc.insecure_channel(pair.booking) as channel:
        catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        found = catalog.SearchPackages(catalog_pb2.SearchPackagesRequest(page_size=1))
    package = found.packages[0].id
    form = f"/packages/{package}/form"
    day = datetime.now(UTC).date() + timedelta(days=900)
    booking = {"user": "ada", "day": day.isoformat(), "euros": 80, "ms": 41_000}
    *reported, booked, refused = answers(
        here(block.text, pair),
        Asked(form, {"step": "view"}),
        Asked(form, {"step": "start"}),
        Asked(form, {"step": "error"}),
        Asked(form, {"step": "sideways"}),
        Asked(f"/packages/{package}/bookings", {**booking, "request_id": str(uuid4())}),
        Asked(f"/packages/{uuid4()}/bookings", {**booking, "request_id": str(uuid4())}),
    )
    assert [each.status_code for each in reported] == [204, 204, 204, 400]
    assert (booked.status_code, refused.status_code) == (201, 409)
    assert refused.json() == {"code": "NOT_FOUND"}
    # The start is reported by the page and by booking_service; one error is the page's, the other
    # one that of the package that does not exist.
    expected = Counter({"view": 1, "start": 2, "complete": 1, "error": 2})
    until(lambda: steps_of(pair, "visitor-7") == expected)


def steps_of(pair: Pair, session: str) -> Counter[str]:
    """How often each step is in the journey of a session."""
    with grpc.insecure_channel(pair.metrics) as channel:
        stub = metrics_pb2_grpc.MetricsServiceStub(channel)
        try:
            journey = stub.GetJourney(journey_pb2.GetJourneyRequest(session_id=session))
        except grpc.RpcError:
            return Counter()
    return Counter(event.name for event in journey.events)


def health_example(block: Block, pair: Pair, _folder: Path, _: PostgresServer) -> None:
    """It answers 200 with the verdict, and 503 where nobody gives one."""
    (good,) = answers(here(block.text, pair), Asked("/health/database"))
    assert good.status_code == 200
    assert good.json()["status"] in {*DatabaseHealth.Status.keys()}
    nobody = block.text.replace("127.0.0.1:50052", f"127.0.0.1:{free_port()}")
    (unknown,) = answers(nobody, Asked("/health/database"))
    assert unknown.status_code == 503
    assert unknown.json() == {"status": "UNKNOWN", "code": "UNAVAILABLE"}


def metrics_example(block: Block, pair: Pair, _folder: Path, _: PostgresServer) -> None:
    """Its figures are numbers."""
    (found,) = answers(here(block.text, pair), Asked("/metrics/bookings"))
    figures = found.json()
    assert figures["revision"] > 0
    assert figures["conversion"].keys() == {"numerator", "denominator"}
    assert not re.search(r'"\d+"', json.dumps(figures))


EXAMPLES: dict[str, Callable[[Block, Pair, Path, PostgresServer], None]] = {
    "/rooms": handler_example,
    "track_view": form_example,
    "check_database_health": health_example,
    "create_booking_metrics_endpoint": metrics_example,
}
