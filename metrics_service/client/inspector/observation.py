"""Asks the server about all backends to observe in one statement and converts the answer to events;
of other sessions' statements only the normal form is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from metrics_service.client.queries.normalise import normalise
from metrics_service.client.queries.record import NamedQuery
from protos.tracking.v1 import event_pb2

OBSERVE: Final = NamedQuery(
    """
WITH observed AS (
    SELECT
        activity.pid,
        activity.wait_event_type,
        activity.wait_event,
        -- The function locks every partition of the lock table, so it is called only where needed.
        -- A backend that waits for a lock runs for a moment when the server checks for deadlocks.
        CASE
            WHEN coalesce(activity.wait_event_type, 'Lock') = 'Lock'
                THEN pg_blocking_pids(activity.pid)
            ELSE '{}'
        END AS blockers
    FROM pg_stat_activity AS activity
    WHERE activity.pid = ANY(string_to_array($1, ',')::int[]) AND activity.state = 'active'
)

SELECT
    observed.pid,
    observed.wait_event_type,
    observed.wait_event,
    blocker.pid AS blocker_pid,
    blocker.application_name AS blocker_application_name,
    blocker.state AS blocker_state,
    blocker.query AS blocker_query,
    blocker.transaction_us AS blocker_transaction_us,
    blocker.wait_event_type AS blocker_wait_event_type,
    blocker.wait_event AS blocker_wait_event
FROM observed
LEFT JOIN LATERAL (
    SELECT
        blocking.pid,
        -- Background processes, such as autovacuum, have no name except their type.
        left(coalesce(
            nullif(activity.application_name, ''), nullif(activity.backend_type, 'client backend')
        ), 64) AS application_name,
        -- A prepared transaction has no session; its pid is 0. Only members of pg_read_all_stats
        -- see what other roles run.
        CASE
            WHEN blocking.pid = 0 THEN 'prepared transaction'
            WHEN activity.query = '<insufficient privilege>' THEN 'insufficient privilege'
            ELSE activity.state
        END AS state,
        -- The server keeps up to a megabyte of it, and sends one row for each waiting backend.
        left(nullif(activity.query, '<insufficient privilege>'), 4096) AS query,
        activity.wait_event_type,
        activity.wait_event,
        (extract(EPOCH FROM clock_timestamp() - activity.xact_start) * 1000000)::bigint
            AS transaction_us
    FROM (
        SELECT pid, min(position) AS position
        FROM unnest(observed.blockers) WITH ORDINALITY AS unnested (pid, position)
        GROUP BY pid
        ORDER BY position
        LIMIT 5
    ) AS blocking
    LEFT JOIN pg_stat_activity AS activity ON activity.pid = blocking.pid
    ORDER BY blocking.position
) AS blocker ON true
""",
    model="inspector",
    operation="look",
    internal=True,
)
"""$1: process ids separated by commas, since for an array the driver would first ask the server for
its type, which takes far longer than the observation. One row for each active backend, or one for
each of its blockers.
"""


def observations(rows: Iterable[Mapping[str, Any]]) -> dict[int, event_pb2.RunningQuery]:
    """Convert the rows of OBSERVE, by process id."""
    found: dict[int, event_pb2.RunningQuery] = {}
    # The statement of a blocker with many waiters is normalised once.
    texts: dict[str, str] = {"": ""}
    for row in rows:
        seen = found.get(row["pid"])
        if seen is None:
            seen = found[row["pid"]] = event_pb2.RunningQuery(
                pid=row["pid"],
                wait_event_type=row["wait_event_type"] or "",
                wait_event=row["wait_event"] or "",
            )
        if row["blocker_pid"] is not None:
            text = row["blocker_query"] or ""
            if text not in texts:
                texts[text] = normalise(text).text
            seen.blockers.append(_blocker(row, texts[text]))
    return found


def _blocker(row: Mapping[str, Any], text: str) -> event_pb2.Blocker:
    return event_pb2.Blocker(
        pid=row["blocker_pid"],
        application_name=row["blocker_application_name"] or "",
        state=row["blocker_state"] or "",
        query=text,
        transaction_us=max(0, row["blocker_transaction_us"] or 0),
        wait_event_type=row["blocker_wait_event_type"] or "",
        wait_event=row["blocker_wait_event"] or "",
    )
