"""Whatever streams say, in whatever order: every answer is one, of finite numbers, and bounded."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_service.client.health.window import MAX_FIGURE
from metrics_service.health.instances import MAX_INSTANCES
from metrics_service.health.paging import Page, key_of
from metrics_service.web.encode import to_json
from protos.tracking.v1.tracking_pb2 import Signals
from tests.metrics.health.registry_world import World
from tests.metrics.health.test_heartbeats import numbers_of
from tests.sizes import size

MAX_ANSWER_BYTES = 1_000_000

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS, max_size=30) | st.sampled_from(["\x1b[2J", "[/]", "\0", "x" * 70_000])
NAMES = st.sampled_from(["booking-1", "booking-2"]) | TEXTS
SERVICES = st.sampled_from(["booking_service", "other"]) | TEXTS
FLOATS = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e308, -1e308, 0.0])
WHOLE = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-1, 5),
}


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return TEXTS
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return FLOATS
    least, most = WHOLE[field.cpp_type]
    return st.integers(0, 9) | st.integers(least, most) | st.sampled_from([least, most])


def messages(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Any content of a message, as the arguments of its constructor."""
    fields = {
        field.name: st.lists(values(field), max_size=12) if field.is_repeated else values(field)
        for field in descriptor.fields
    }
    return st.fixed_dictionaries({}, optional=fields)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hello", "beat", "beat", "beat", "goodbye", "closed", "tick"]),
        NAMES,
        SERVICES,
        messages(Signals.DESCRIPTOR),
        st.integers(-1, 2**63 - 1),
        st.sampled_from([0, 0, 1, 4, 70, 400]),
    ),
    max_size=25,
)


@settings(max_examples=size(60, 3_000), deadline=None)
@given(STEPS)
@pytest.mark.filterwarnings("error")
def test_every_answer_is_one(steps: list[tuple[str, str, str, dict[str, Any], int, int]]) -> None:
    world = World()
    registry = world.registry
    for kind, instance, service, content, facts_seq, seconds in steps:
        match kind:
            case "hello":
                registry.on_hello(instance, service)
            case "beat":
                registry.on_heartbeat(instance, service, Signals(**content), facts_seq)
            case "goodbye":
                registry.on_goodbye(instance, service)
            case "closed":
                registry.on_closed(instance, service)
            case _:
                registry.tick()
        world.pass_s(seconds)
        health = registry.verdict()
        assert health.ByteSize() < MAX_ANSWER_BYTES
        assert health.instances_total <= 2 * MAX_INSTANCES
        answer = to_json(health)
        json.dumps(answer, allow_nan=False)
        assert all(0 <= number <= MAX_FIGURE for number in numbers_of(answer))
        for one in registry.verdict(Page(1, key_of(health.next_page_token))).instances:
            json.dumps(to_json(one), allow_nan=False)
