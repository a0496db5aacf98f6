"""No request costs more than 0.3 s of CPU, whatever its content.

What is measured is the CPU time of this process, in which the service runs, and the client too. It
is compared with that of a fixed piece of work in the same process, so that the machine does not
matter.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message

from protos.booking.v1 import booking_pb2, catalog_pb2, payment_pb2, profile_pb2, review_pb2
from tests.booking.rpc.worst_requests import ATTEMPTS, MOST, Seeded, requests, seed
from tests.booking.running_service import RunningService, running

MAX_CPU_S: Final = 0.3
WORK_S: Final = 0.1
"""What `work` takes on the machine that MAX_CPU_S is meant for."""

CONTRACT: Final = (booking_pb2, catalog_pb2, payment_pb2, review_pb2, profile_pb2)
METHODS: Final = {
    method.name: service
    for file in CONTRACT
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def test_every_method_has_a_request_with_the_most_of_everything() -> None:
    ids = [str(n) for n in range(ATTEMPTS)]
    names = ("complete", "confirm", "abandon", "cancel", "extend", "fail", "move", "record")
    seeded = Seeded(
        vendor="v",
        packages=["p"] * 200,
        listed=["b"] * 200,
        of_state=dict.fromkeys((*names, "refund", "review"), ids),
        payments=ids,
    )
    made = requests(seeded, 0)
    assert made.keys() == METHODS.keys()
    for method, service in METHODS.items():
        input_type = service.methods_by_name[method].input_type
        assert {each.DESCRIPTOR.full_name for each in made[method]} == {input_type.full_name}
        for name in repeated(input_type):
            counts = [most(each, name) for each in made[method]]
            key = name if name in MOST else f"{input_type.name} {name}"
            assert max(counts) == MOST[key], (method, name)


def repeated(message: Any) -> set[str]:
    """The repeated fields of a message and of those in it."""
    found = set()
    for field in message.fields:
        if field.is_repeated:
            found.add(f"{message.name}.{field.name}")
        if field.message_type:
            found |= repeated(field.message_type)
    return found


def most(message: Message, name: str) -> int:
    """The largest number of elements of a repeated field in a message."""
    largest = 0
    for field, value in message.ListFields():
        if field.is_repeated:
            if f"{message.DESCRIPTOR.name}.{field.name}" == name:
                largest = max(largest, len(value))
            inner = list(value) if field.message_type else []
        else:
            inner = [value] if field.message_type else []
        largest = max([largest, *(most(each, name) for each in inner)])
    return largest


@dataclass(frozen=True)
class Sample:
    number: int
    text: str


def work() -> None:
    """Do what a service does: make and change small objects, and put them into dictionaries."""
    kept: dict[tuple[int, str], Sample] = {}
    for n in range(40_000):
        sample = replace(Sample(n, "x"), text=str(n))
        kept[n % 1000, sample.text] = sample


def cpu_s(begin_s: float) -> float:
    return time.process_time() - begin_s


def slowness() -> float:
    """How many times as long this machine takes now, at least 1."""
    begin_s = time.process_time()
    work()
    return max(1.0, cpu_s(begin_s) / WORK_S)


async def cost_s(service: RunningService, method: str, request: Message) -> float:
    """The CPU time of an RPC. Raises AioRpcError."""
    of = METHODS[method]
    stubs = {
        "CatalogService": service.catalog,
        "BookingService": service.booking,
        "PaymentService": service.payment,
        "ReviewService": service.review,
        "ProfileService": service.profile,
    }
    call: Any = getattr(stubs[of.name], method)
    begin_s = time.process_time()
    answer = await call(request)
    spent_s = cpu_s(begin_s)
    # Of a batch each start is answered for itself.
    assert all(each.HasField("booking") for each in getattr(answer, "results", ()))
    return spent_s


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_no_request_costs_much_cpu(booking_dsn: str) -> None:
    rows = await asyncpg.connect(booking_dsn)
    seeded = await seed(rows)
    await rows.close()
    too_much = []
    async with running(booking_dsn, BOOKING_SWEEP_INTERVAL_S="3600") as service:
        attempts = [requests(seeded, attempt) for attempt in range(ATTEMPTS)]
        for method in attempts[0]:
            for number in range(len(attempts[0][method])):
                factor = slowness()
                try:
                    # The least of several: other things are done in this process too.
                    cost = min(
                        [await cost_s(service, method, made[method][number]) for made in attempts]
                    )
                except grpc.aio.AioRpcError as error:
                    raise AssertionError(f"{method} {number}: {error.details()}") from error
                line = f"{method} {number}: {cost * 1e3:.0f} ms, at most {MAX_CPU_S * factor:.2f} s"
                print(line)
                if cost > MAX_CPU_S * factor:
                    too_much.append(line)
    assert not too_much
