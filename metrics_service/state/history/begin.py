"""Where a fold of the log begins whose first part is gone, or was folded by another version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from metrics_service.state.series.past import DAY_US
from metrics_service.state.tables import Tables
from protos.metrics.v1 import checkpoint_pb2

Rows = list[tuple[str, int, bytes]]

_HEAD: Final = "head"
TOTAL: Final = ".total"


def beginning(
    sections: Sequence[str], states: Sequence[bytes], *, version: int, after_us: int, known_to: int
) -> Rows:
    """Return the rows of a state that has only the figures of all times, those of a checkpoint of
    any version, or none where there are no sections.

    Its own history begins on the day after theirs, or after after_us; of the days before it, it
    adds nothing up to the record at known_to.
    """
    stored = dict(zip(sections, states, strict=True))
    tables = Tables()
    counters = dict.fromkeys(tables.counters(), 0)
    head = checkpoint_pb2.CheckpointHead(as_of_us=0)
    try:
        head = checkpoint_pb2.CheckpointHead.FromString(stored.get(_HEAD, b""))
    except DecodeError:
        stored = {}
    from_us = -(-max(head.as_of_us, after_us) // DAY_US) * DAY_US
    begun = checkpoint_pb2.CheckpointHead(
        version=version,
        position=head.position,
        revision=head.revision,
        as_of_us=head.as_of_us,
        running_us=head.running_us,
        counters={name: head.counters.get(name, 0) for name in counters},
        border=checkpoint_pb2.HistoryBorder(from_us=from_us, own_us=from_us, known_to=known_to),
    )
    totals = [(name, 0, data) for name, data in stored.items() if name.endswith(TOTAL)]
    # No session that is stored is of this state.
    sessions = tables.journeys.unsaved()
    return [(_HEAD, 0, begun.SerializeToString(deterministic=True)), *sessions, *totals]
