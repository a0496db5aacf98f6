"""A command on its way: the `Submission` with its caller, and the `PendingSubmission` that waits.

Every pending submission is answered exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from booking_service.domain.commands import (
    ClaimPayments,
    ClaimRefunds,
    Command,
    CreatePackage,
    OfPackage,
    StartBatch,
)
from booking_service.domain.refusal import Reason, Refusal
from booking_service.domain.world import Answer
from booking_service.group_commit.costs import MAX_LIGHT_COST, cost_of
from booking_service.group_commit.idempotency import RequestKey
from booking_service.group_commit.save import Origin
from metrics_service.client.host import QueryCount, count_queries
from servicekit.tracing.joint import Waiting, joint_span

Outcome: TypeAlias = Answer | Refusal | Exception

GROUP_SPAN: Final = "booking.group_commit"


@dataclass(slots=True, eq=False)
class Submission:
    """A command, its caller, and what identifies a repeat.

    `key` is None for the service's internal commands. `package_ids` are the packages to lock:
    unknown at first where the command names only a booking, empty for one that has no package.
    `cost` is in days; it lacks those of a booking that is only named until its package is known.
    """

    command: Command
    caller: str
    key: RequestKey | None
    fingerprint: bytes
    package_ids: frozenset[UUID] = frozenset()
    cost: int = field(init=False)

    def __post_init__(self) -> None:
        self.cost = cost_of(self.command)
        match self.command:
            case CreatePackage():
                self.package_ids = frozenset({self.command.package.id})
            case StartBatch():
                self.package_ids = frozenset(start.package_id for start in self.command.starts)
            case ClaimPayments():
                claimed = self.command.payments
                self.package_ids = frozenset(payment.package_id for payment in claimed)
            case ClaimRefunds():
                self.package_ids = frozenset(each.package_id for each in self.command.refunds)
            case command if isinstance(command, OfPackage):
                self.package_ids = frozenset({command.package_id})

    @property
    def origin(self) -> Origin:
        return Origin(self.caller, self.key.request_id if self.key else None)


class PendingSubmission:
    """A submission with the callers that wait for its outcome.

    `counts` are the queries that were run for it together with others; `spans` are those of its
    callers' traces. `started` is set once its group has begun; until then it is dropped when its
    last caller stops waiting. `batch_cost` is that of all commands of its request, 0 where it is
    the only one.
    """

    __slots__ = (
        "arrived_s",
        "batch_cost",
        "counts",
        "future",
        "spans",
        "started",
        "submission",
        "waiters",
    )

    def __init__(self, submission: Submission, arrived_s: float, *, batch_cost: int = 0) -> None:
        self.submission = submission
        self.arrived_s = arrived_s
        self.batch_cost = batch_cost
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.counts: list[QueryCount] = []
        self.spans: list[Waiting] = []
        self.waiters = 0
        self.started = False

    @property
    def cost(self) -> int:
        return self.submission.cost

    @property
    def is_heavy(self) -> bool:
        """Whether its request costs more than light ones should have to wait for."""
        return max(self.cost, self.batch_cost) > MAX_LIGHT_COST

    def answer(self, outcome: Outcome) -> None:
        """Resolve the future, unless the submission was answered before."""
        if not self.future.done():
            self.future.set_result(outcome)


def overloaded(message: str) -> Refusal:
    return Refusal(Reason.OVERLOADED, message, {})


def package_locked() -> Refusal:
    return overloaded("the package is locked by another process")


def count_queries_of(group: Iterable[PendingSubmission]) -> None:
    """Count the queries that this task runs from now on for each command of a group."""
    queries = count_queries()
    for pending in group:
        pending.counts.append(queries)


async def traced(group: Sequence[PendingSubmission], work: Awaitable[None]) -> None:
    """Await what is done for a group; it is one span where the trace of a caller is recorded."""
    waiters = [waiter for pending in group for waiter in pending.spans]
    with joint_span(GROUP_SPAN, waiters, size=len(group)) as span:
        await work
        if span is not None:
            outcomes = (each.future.result() for each in group if each.future.done())
            errors = (type(each).__name__ for each in outcomes if isinstance(each, Exception))
            span.error = next(errors, "")
