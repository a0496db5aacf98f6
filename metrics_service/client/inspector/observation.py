"""One question to the server about all backends that are to be looked at, and its answer as events:
of other sessions' statements only the normal form is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from metrics_service.client.queries.normalise import normalise
from metrics_service.client.queries.record import NamedQuery
from protos.tracking.v1 import event_pb2

LOOK: Final = NamedQuery(
    """
WITH looked_at AS (
    SELECT
        activity.pid,
        activity.wait_event_type,
        activity.wait_event,
        -- The function takes every partition of the lock table for itself: only where it can help.
        -- Who waits for a lock wakes up for a moment when the server looks for a deadlock.
        CASE
            WHEN coalesce(activity.wait_event_type, 'Lock') = 'Lock'
                THEN pg_blocking_pids(activity.pid)
            ELSE '{}'
        END AS blockers
    FROM pg_stat_activity AS activity
    WHERE activity.pid = ANY(string_to_array($1, ',')::int[]) AND activity.state = 'active'
)

SELECT
    looked_at.pid,
    looked_at.wait_event_type,
    looked_at.wait_event,
    blocker.pid AS blocker_pid,
    blocker.application_name AS blocker_application_name,
    blocker.state AS blocker_state,
    blocker.query AS blocker_query,
    blocker.transaction_us AS blocker_transaction_us,
    blocker.wait_event_type AS blocker_wait_event_type,
    blocker.wait_event AS blocker_wait_event
FROM looked_at
LEFT JOIN LATERAL (
    SELECT
        blocking.pid,
        -- What the server runs for itself, such as autovacuum, has no name but that of its kind.
        left(coalesce(
            nullif(activity.application_name, ''), nullif(activity.backend_type, 'client backend')
        ), 64) AS application_name,
        -- A prepared transaction has no session; its pid is 0. What other roles do is told only to
        -- members of pg_read_all_stats.
        CASE
            WHEN blocking.pid = 0 THEN 'prepared transaction'
            WHEN activity.query = '<insufficient privilege>' THEN 'insufficient privilege'
            ELSE activity.state
        END AS state,
        -- The server keeps up to a megabyte of it, and one row is sent for each that waits.
        left(nullif(activity.query, '<insufficient privilege>'), 4096) AS query,
        activity.wait_event_type,
        activity.wait_event,
        (extract(EPOCH FROM clock_timestamp() - activity.xact_start) * 1000000)::bigint
            AS transaction_us
    FROM (
        SELECT pid, min(position) AS position
        FROM unnest(looked_at.blockers) WITH ORDINALITY AS unnested (pid, position)
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
"""$1: process ids with commas between, since for an array the driver would first ask the server
about its type, which takes far longer than the look. One row for each that is at work, or one for
each of its blockers.
"""


def looks(rows: Iterable[Mapping[str, Any]]) -> dict[int, event_pb2.RunningQuery]:
    """What the rows of LOOK say, by process id."""
    found: dict[int, event_pb2.RunningQuery] = {}
    # One that many wait for is normalised once.
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
