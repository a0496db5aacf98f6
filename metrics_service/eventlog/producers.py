"""Decides which batches are appended: the producers as stored, and the changes that a group of
requests makes. Each number is used once, in order, by the newest stream of the newest epoch.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from metrics_service.eventlog import pin
from metrics_service.eventlog.errors import FencedError, FullError, GapError, RefusedError
from metrics_service.eventlog.forgetting import MAX_PRODUCERS, forgettable
from metrics_service.eventlog.producer import Producer, ProducerKey, ResumePoint
from metrics_service.eventlog.row import Row
from metrics_service.eventlog.single_events import SingleRequest
from protos.tracking.v1 import tracking_pb2
from servicekit.budget import Budget


class Appended(NamedTuple):
    """A batch is durable; position is None if it was before. durable_seq is the newest one."""

    position: int | None
    durable_seq: int


@dataclass(slots=True)
class OpenRequest:
    """A stream has sent Hello for a producer."""

    key: ProducerKey
    epoch: int
    instance: str
    service: str
    backfill: bool
    done: asyncio.Future[ResumePoint]
    succeeds: tuple[str, ...] = ()
    size: int = 0


@dataclass(slots=True)
class AppendRequest:
    """A stream has sent a batch."""

    key: ProducerKey
    token: int
    epoch: int
    seq: int
    count: int
    payload: bytes
    done: asyncio.Future[Appended]

    @property
    def size(self) -> int:
        return len(self.payload)


@dataclass(slots=True)
class CloseRequest:
    """A producer has sent Goodbye."""

    key: ProducerKey
    token: int
    done: asyncio.Future[None]
    size: int = 0


Request = OpenRequest | AppendRequest | CloseRequest | SingleRequest


@dataclass(slots=True)
class Plan:
    """What a group of requests writes in one transaction, and the answers after its commit."""

    rows: list[Row] = field(default_factory=list)
    changed: dict[ProducerKey, Producer] = field(default_factory=dict)
    opened: list[tuple[OpenRequest, ResumePoint]] = field(default_factory=list)
    appended: list[tuple[AppendRequest, int | None, int]] = field(default_factory=list)
    closed: list[CloseRequest] = field(default_factory=list)
    singles: list[SingleRequest] = field(default_factory=list)
    refused: list[tuple[Request, Exception]] = field(default_factory=list)
    forgotten: list[ProducerKey] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        return bool(self.rows or self.changed or self.singles or self.forgotten)


class Producers:
    """The stored producers, in the order of their last change, and the streams attached to them.

    Of more than max_producers those are forgotten that changed longest ago, have no stream and hold
    no facts. While `full` the log takes facts alone.

    `reload` replaces what is stored and keeps the streams, since they do not end when the database
    is lost. Times are seconds of a monotonic clock.
    """

    def __init__(self, unclean_after_s: float, max_producers: int = MAX_PRODUCERS) -> None:
        self.budget = Budget("producers known to the log", "forgotten")
        self.refusals = Budget("batches of telemetry", "refused")
        self.full = ""
        self._max_producers = max_producers
        self.stored: dict[ProducerKey, Producer] = {}
        self._facts: dict[ProducerKey, Producer] = {}
        self._attached: dict[ProducerKey, int] = {}
        self._released: dict[ProducerKey, float] = {}
        self._tokens = itertools.count(1)
        self._unclean_after_s = unclean_after_s

    def reload(self, stored: dict[ProducerKey, Producer], now_s: float) -> None:
        """Replace the stored producers; those without a stream get time to reconnect."""
        self.stored = stored
        self._facts = pin.live_facts(stored)
        self._released = {
            key: now_s
            for key, producer in stored.items()
            if producer.open and key not in self._attached
        }

    def release(self, key: ProducerKey, token: int, now_s: float) -> None:
        """Detach a stream that ended without Goodbye."""
        if self._attached.get(key) == token:
            del self._attached[key]
            self._released[key] = now_s

    def plan(self, requests: Iterable[Request], now_s: float) -> Plan:
        """Decide the requests in order of arrival; later ones see the effects of earlier ones."""
        plan = Plan()
        for request in requests:
            try:
                match request:
                    case OpenRequest():
                        self._open(plan, request)
                    case AppendRequest():
                        self._append(plan, request)
                    case CloseRequest():
                        self._close(plan, request)
                    case SingleRequest():
                        self._refuse_beyond()
                        plan.singles.append(request)
            except RefusedError as refusal:
                plan.refused.append((request, refusal))
        self._end_silent(plan, now_s)
        if len(self.stored) + len(plan.changed) > self._max_producers:
            self._forget_oldest(plan)
        return plan

    def committed(self, plan: Plan) -> None:
        """Adopt the changes of a plan that is durable."""
        for key, producer in plan.changed.items():
            self.stored.pop(key, None)
            self.stored[key] = producer
            if key.lane == tracking_pb2.LANE_FACTS and not producer.backfill:
                self._facts[key] = producer
        if plan.forgotten:
            self.forget(plan.forgotten)
            self.budget.exceeded(len(plan.forgotten), f"{self._max_producers}")

    def forget(self, keys: Iterable[ProducerKey]) -> None:
        """Adopt that producers are not stored any more."""
        for key in keys:
            self.stored.pop(key, None)
            self._facts.pop(key, None)
            self._released.pop(key, None)

    def _forget_oldest(self, plan: Plan) -> None:
        needed = self._attached.keys() | plan.changed.keys()
        plan.forgotten = forgettable(self.stored, needed, self._max_producers)
        left = ((key, self.stored[key]) for key in plan.forgotten)
        plan.rows += [_unclean_end(*each) for each in left if _has_to_end(each[1])]

    def _current(self, plan: Plan, key: ProducerKey) -> Producer | None:
        return plan.changed.get(key) or self.stored.get(key)

    def _open(self, plan: Plan, request: OpenRequest) -> None:
        key, current = request.key, self._current(plan, request.key)
        hello = Producer(
            request.epoch, 1, b"", request.instance, request.service, request.backfill, open=True
        )
        pin.check_place(current, hello)
        if key.lane == tracking_pb2.LANE_FACTS:
            facts = self._facts | pin.live_facts(plan.changed)
            hello, superseded = pin.admit(key, hello, request.succeeds, facts)
            plan.changed.update(superseded)
        if current is not None:
            telemetry = key.lane == tracking_pb2.LANE_TELEMETRY
            if not telemetry or request.epoch == current.epoch:
                # Facts are numbered across epochs; telemetry starts again in each.
                hello = replace(hello, next_seq=current.next_seq, last_hash=current.last_hash)
            elif current.open:
                plan.rows.append(_unclean_end(key, current))
        if hello != current:
            plan.changed[key] = hello
        token = next(self._tokens)
        self._attached[key] = token
        self._released.pop(key, None)
        point = ResumePoint(hello.next_seq - 1, hello.last_hash, token, hello.events)
        plan.opened.append((request, point))

    def _append(self, plan: Plan, request: AppendRequest) -> None:
        key, current = request.key, self._current(plan, request.key)
        if current is None or self._attached.get(key) != request.token:
            raise FencedError
        if request.epoch != current.epoch:
            raise FencedError(current.epoch)
        if request.seq > current.next_seq:
            raise GapError(current.next_seq)
        if request.seq < current.next_seq:
            plan.appended.append((request, None, current.next_seq - 1))
            return
        if key.lane == tracking_pb2.LANE_TELEMETRY:
            self._refuse_beyond()
        if not current.pinned and pin.is_live_facts(key, current):
            pin.check_first_batch(key, self._facts | pin.live_facts(plan.changed))
            current = replace(current, pinned=True)
        plan.appended.append((request, len(plan.rows), request.seq))
        plan.rows.append(
            Row(
                "batch",
                key,
                current.epoch,
                request.seq,
                current.instance,
                current.service,
                current.backfill,
                request.count,
                request.payload,
            )
        )
        plan.changed[key] = replace(
            current,
            next_seq=request.seq + 1,
            last_hash=hashlib.sha256(request.payload).digest(),
            open=True,
            events=current.events + max(0, request.count),
        )

    def _refuse_beyond(self) -> None:
        """Refuse telemetry while the log is full."""
        if self.full:
            self.refusals.exceeded(1, self.full)
            raise FullError

    def _close(self, plan: Plan, request: CloseRequest) -> None:
        key, current = request.key, self._current(plan, request.key)
        if current is not None and self._attached.get(key) == request.token:
            del self._attached[key]
            if current.open:
                plan.changed[key] = replace(current, open=False)
        plan.closed.append(request)

    def _end_silent(self, plan: Plan, now_s: float) -> None:
        """Close producers that did not reconnect; for telemetry this is a record of the log."""
        due = [
            key
            for key, since_s in self._released.items()
            if now_s - since_s >= self._unclean_after_s
        ]
        for key in due:
            current = self._current(plan, key)
            if current is None or not current.open:
                del self._released[key]
                continue
            if key.lane == tracking_pb2.LANE_TELEMETRY and _has_to_end(current):
                plan.rows.append(_unclean_end(key, current))
            plan.changed[key] = replace(current, open=False)


def _has_to_end(producer: Producer) -> bool:
    """Whether its end is to be a record of the log: of one that stored nothing, nothing ends."""
    return producer.open and producer.next_seq > 1


def _unclean_end(key: ProducerKey, producer: Producer) -> Row:
    return Row(
        "unclean_end",
        key,
        producer.epoch,
        producer.next_seq - 1,
        producer.instance,
        producer.service,
        producer.backfill,
        0,
        b"",
    )
