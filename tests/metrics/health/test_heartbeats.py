"""Whatever number a heartbeat holds, every figure of the answer stays finite and not negative, and
HTTP answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from metrics_service.client.health.window import MAX_FIGURE
from metrics_service.health.signals import MAX_COUNT
from metrics_service.measure.sketch import Sketch
from metrics_service.web.app import create_app
from protos.tracking.v1.tracking_pb2 import OperationCounts, Signals
from servicekit.identity.gate import EVERYBODY
from tests.metrics.health.registry_world import HEALTHY, World, reachable
from tests.metrics.web.no_figures import no_figures

Path = tuple[str, ...]

_FLOATS = (math.nan, math.inf, -math.inf, -1.0, 1.7e308)
_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-1, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_INT64: (-1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT64: (2**64 - 1,),
    FieldDescriptor.CPPTYPE_ENUM: (-1, 2**31 - 1),
    FieldDescriptor.CPPTYPE_BOOL: (True,),
    FieldDescriptor.CPPTYPE_DOUBLE: _FLOATS,
}


def numeric_fields(descriptor: Descriptor, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every numeric field below a message, with each number that it may hold and should not."""
    for field in descriptor.fields:
        here = (*path, field.name)
        if field.message_type is not None:
            yield from numeric_fields(field.message_type, here)
        elif field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
            for number in _LIMITS[field.cpp_type]:
                yield here, number


def filled() -> Signals:
    """A correct heartbeat with something in every message."""
    sketch = Sketch()
    sketch.add_many([0, 900, 1_000, 250_000])
    signals = reachable(total=4)
    signals.queries.execute_us.CopyFrom(sketch.to_proto())
    signals.operations.append(OperationCounts(operation="a.b", total=1, slow=1))
    signals.facts_pending = 3
    signals.monitor.overhead_ns = 500
    return signals


def put(message: Message, path: Path, number: Any) -> None:
    *above, name = path
    for part in above:
        inner = getattr(message, part)
        message = inner if isinstance(inner, Message) else inner[0]
    if message.DESCRIPTOR.fields_by_name[name].is_repeated:
        getattr(message, name)[0] = number
    else:
        setattr(message, name, number)


def numbers_of(answer: Any) -> Iterator[float]:
    """Every number of a JSON answer."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list):
        for each in answer:
            yield from numbers_of(each)
    elif isinstance(answer, int | float):
        yield answer


async def answer_of(world: World) -> Any:
    """The body of GET /api/health/database, which must not be 500."""
    app = create_app(no_figures, world.registry.verdict, gate=EVERYBODY)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/api/health/database")
    assert response.status_code in (200, 503)
    return response.json()


CASES = [*numeric_fields(Signals.DESCRIPTOR)]


def test_the_fields_come_from_the_descriptors() -> None:
    assert len({path for path, _ in CASES}) >= 30
    assert (("queries", "execute_us", "sum"), -math.inf) in CASES


@pytest.mark.parametrize("again", [1, 40])
@pytest.mark.parametrize(
    ("path", "number"), CASES, ids=[f"{'.'.join(path)}={number}" for path, number in CASES]
)
async def test_no_number_of_a_heartbeat_spoils_the_answer(
    world: World, path: Path, number: Any, again: int
) -> None:
    signals = filled()
    put(signals, path, number)
    for _ in range(again):
        world.registry.on_heartbeat("booking-1", "booking_service", signals)
    answer = await answer_of(world)
    assert all(math.isfinite(each) and 0 <= each <= MAX_FIGURE for each in numbers_of(answer))
    world.registry.on_heartbeat("booking-1", "booking_service", filled())
    assert (await answer_of(world))["instances"][0]["figures"]["samples"] >= 4


def _set(name: str, number: float) -> Callable[[Signals], None]:
    return lambda signals: setattr(signals.queries.execute_us, name, number)


@pytest.mark.parametrize(
    "spoil",
    [
        *(_set(name, number) for name in ("sum", "min", "max") for number in _FLOATS[:4]),
        _set("min", 1e9),
        _set("max", float(MAX_COUNT + 1)),
        _set("zero_count", MAX_COUNT),
        lambda signals: signals.queries.execute_us.count.append(1),
        lambda signals: put(signals, ("queries", "execute_us", "index_delta"), -1),
        lambda signals: signals.queries.execute_us.index_delta.__setitem__(1, 0),
        lambda signals: signals.queries.execute_us.index_delta.__setitem__(1, 1_500),
    ],
)
def test_a_heartbeat_with_an_invalid_sketch_counts_without_percentiles(
    world: World, spoil: Callable[[Signals], None]
) -> None:
    signals = filled()
    spoil(signals)
    figures = world.beat(signals).figures
    assert figures.samples == 4
    assert not figures.HasField("p50_ms")


def test_a_correct_sketch_enters(world: World) -> None:
    health = world.beat(filled())
    assert health.status == HEALTHY
    assert health.figures.p99_ms == pytest.approx(250, rel=0.011)


def test_counts_that_add_up_stay_exact_json_numbers(world: World) -> None:
    signals = reachable(total=MAX_COUNT, failed=MAX_COUNT, over_2000ms=MAX_COUNT)
    for _ in range((MAX_FIGURE // MAX_COUNT) + 2):
        world.registry._combined.count(signals.queries, [])
    figures = world.beat(signals).figures
    assert (figures.samples, figures.failed) == (MAX_FIGURE, MAX_FIGURE)
