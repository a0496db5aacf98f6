"""Which producer's facts a log takes: the first live one that stores a batch is pinned, and only a
producer that names it, or one before it, takes its place.

A producer that knows none of these ids neither takes the lane over nor blocks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from metrics_service.eventlog.errors import EpochError, FencedError, ForkedError, OwnerError
from metrics_service.eventlog.producer import Producer, ProducerKey
from protos.tracking.v1 import tracking_pb2

MAX_EPOCH_STEP: Final = 1_000
"""A new epoch of facts exceeds the stored one by at most this: a forged one fences not for ever."""

Facts = Mapping[ProducerKey, Producer]


def check_place(current: Producer | None, hello: Producer) -> None:
    """Raise if a Hello may not take the place of what is stored of its producer: it is of another
    service, or an older epoch.
    """
    if current is not None and current.service != hello.service:
        raise OwnerError
    if current is not None and hello.epoch < current.epoch:
        raise FencedError(current.epoch)


def is_live_facts(key: ProducerKey, producer: Producer) -> bool:
    """Whether it sends facts as they happen; loading history is a producer of its own."""
    return key.lane == tracking_pb2.LANE_FACTS and not producer.backfill


def live_facts(producers: Facts) -> dict[ProducerKey, Producer]:
    """Return those that send facts as they happen."""
    return {key: each for key, each in producers.items() if is_live_facts(key, each)}


def admit(
    key: ProducerKey, hello: Producer, succeeds: tuple[str, ...], facts: Facts
) -> tuple[Producer, dict[ProducerKey, Producer]]:
    """Return a producer of facts as it is to be stored after its Hello, and the one whose place it
    takes. Raises ForkedError or EpochError.
    """
    current, holder = facts.get(key), _holder(facts)
    if hello.backfill:
        if current is not None:
            # History must not go on where live facts are stored.
            raise ForkedError
        return hello, {}
    if current is not None and hello.epoch > current.epoch + MAX_EPOCH_STEP:
        raise EpochError(current.epoch)
    if holder is None or holder == key:
        if current is None:
            return hello, {}
        return replace(hello, events=current.events, pinned=current.pinned), {}
    held = facts[holder]
    if _has_stored(current):
        raise ForkedError(held.events)
    if any(_has_stored(facts.get(ProducerKey(key.lane, former))) for former in succeeds):
        admitted = replace(hello, events=held.events, pinned=True)
        return admitted, {holder: replace(held, pinned=False)}
    raise ForkedError


def check_first_batch(key: ProducerKey, facts: Facts) -> None:
    """Raise ForkedError when the facts of this log are those of another producer."""
    holder = _holder(facts)
    if holder is not None and holder != key:
        current = facts.get(key)
        raise ForkedError(facts[holder].events if _has_stored(current) else None)


def _holder(facts: Facts) -> ProducerKey | None:
    return next((key for key, each in facts.items() if each.pinned), None)


def _has_stored(producer: Producer | None) -> bool:
    """Whether it is, or was, the one whose facts are taken."""
    return producer is not None and (producer.pinned or producer.next_seq > 1)
