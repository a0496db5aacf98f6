"""What booking_service serves at GET /metrics: its queues of commands, the facts that wait, RPCs
and the process. Figures of bookings are those of metrics_service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from booking_service.delivery.relay import OutboxRelay
from booking_service.group_commit.bus import CommandBus
from servicekit.exposition import process, rpcs, spans
from servicekit.exposition.declare import Family, Metric, once
from servicekit.exposition.exposition import FAILURES, Exposition, Part
from servicekit.exposition.process import Process
from servicekit.exposition.rpcs import RpcCounts
from servicekit.tracing.tracer import Tracer

QUEUED: Final = Metric(
    "farehold_commands_queued",
    "gauge",
    "Commands that wait: light ones (main), heavy ones, and those of packages that another "
    "transaction has locked.",
    ("queue",),
)
GROUP_SIZE: Final = Metric(
    "farehold_command_group_size", "gauge", "Commands of the newest committed group."
)
GROUPS: Final = Metric("farehold_command_groups_total", "counter", "Groups that were committed.")
COMMANDS: Final = Metric(
    "farehold_commands_total", "counter", "Commands in them, so that groups have a mean size."
)
OUTBOX: Final = Metric(
    "farehold_outbox_pending",
    "gauge",
    "Facts that wait for metrics_service, at the process that delivers them.",
)
METRICS: Final = (
    *(QUEUED, GROUP_SIZE, GROUPS, COMMANDS, OUTBOX),
    *(*rpcs.METRICS, *process.METRICS, spans.SPANS, FAILURES),
)


def create_exposition(
    bus: CommandBus, relay: OutboxRelay, counts: RpcCounts, process: Process, tracer: Tracer
) -> Exposition:
    """Return the metrics of a process."""
    return Exposition(
        [
            Part("process", process.families),
            Part("rpcs", counts.families),
            Part("spans", lambda: spans.families(tracer)),
            Part("commands", lambda: _commands(bus)),
            Part("outbox", lambda: _outbox(relay)),
        ]
    )


def _commands(bus: CommandBus) -> Iterator[Family]:
    yield Family(QUEUED, {(queue,): count for queue, count in bus.queues.waiting.items()})
    done = bus.done
    yield once(GROUP_SIZE, done.newest_group)
    yield once(GROUPS, done.groups)
    yield once(COMMANDS, done.commands)


def _outbox(relay: OutboxRelay) -> Iterator[Family]:
    pending = relay.facts_pending
    if pending is not None:
        yield once(OUTBOX, pending)
