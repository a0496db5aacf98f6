"""The reasons of the merged verdict: a bounded list, in which no criterion hides another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

from metrics_service.client.host import VerdictHysteresis
from metrics_service.health.instance import Instance
from protos.metrics.v1.health_pb2 import HealthReason

MAX_REASONS: Final = 100
"""An answer gives so many reasons for the merged verdict."""


def merged_reasons(
    log: VerdictHysteresis,
    deciding: Iterable[Instance],
    combined: VerdictHysteresis,
    leaderless: VerdictHysteresis,
) -> tuple[HealthReason, ...]:
    """Return the reasons of the log, of each instance that decides, of criteria that these fail
    only together, and of services without a leader.

    Of more than MAX_REASONS the first ones of each criterion are kept.
    """
    listed = list(_find_reasons(log, list(deciding), combined, leaderless))
    if len(listed) > MAX_REASONS:
        seen: Counter[str] = Counter()
        ranked = []
        for reason in listed:
            ranked.append((seen[reason.criterion], reason))
            seen[reason.criterion] += 1
        listed = [reason for _, reason in sorted(ranked, key=itemgetter(0))]
    return tuple(listed[:MAX_REASONS])


def _find_reasons(
    log: VerdictHysteresis,
    deciding: list[Instance],
    combined: VerdictHysteresis,
    leaderless: VerdictHysteresis,
) -> Iterator[HealthReason]:
    for reason in log.reasons:
        yield reason.to_proto()
    blamed = set()
    for entry in deciding:
        for reason in entry.verdict.reasons:
            blamed.add(reason.criterion)
            yield reason.to_proto(entry.name)
    if deciding:
        for reason in combined.reasons:
            if reason.criterion not in blamed:
                yield reason.to_proto()
    for reason in leaderless.reasons:
        yield reason.to_proto()
