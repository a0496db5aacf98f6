-- name: outbox.try_lead internal
SELECT pg_try_advisory_lock($1) AS leads;

-- Sums up the segments: an earlier version of the service does not.
-- name: outbox.raise_epoch internal
UPDATE relay
SET epoch = epoch + 1, kept_bytes = s.kept, unacked_bytes = s.unacked
FROM (
    SELECT
        coalesce(sum(octet_length(batch)), 0) AS kept,
        coalesce(
            sum(octet_length(batch)) FILTER (WHERE seq > (SELECT acked_seq FROM relay)), 0
        ) AS unacked
    FROM segment
) AS s
RETURNING epoch, producer_id, succeeds, low_water_id;

-- $1 epoch, $2 the epoch that the new one exceeds
-- name: outbox.raise_above internal
UPDATE relay
SET epoch = greatest(epoch, $2) + 1
WHERE epoch = $1
RETURNING epoch;

-- Moves outbox rows into the segment with the next number, or nothing if $1 is not the epoch.
-- The relay row is locked before any outbox row is deleted, and only deleted rows are sealed: of two
-- concurrent relays the second finds the rows gone, and numbers stay dense. A poll of an empty outbox
-- locks and writes nothing.
-- $1 epoch, $2 low-water mark of ids, $3 bytes, $4 rows, $5 now
-- name: outbox.seal internal
WITH me AS (
    SELECT next_seq
    FROM relay
    WHERE epoch = $1 AND EXISTS (SELECT FROM outbox WHERE id > $2)
    FOR UPDATE
),

head AS (
    SELECT id, octet_length(events) AS bytes
    FROM outbox
    WHERE id > $2
    ORDER BY id
    LIMIT $4
),

wanted AS (
    SELECT h.id
    FROM (SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before, bytes FROM head) AS h
    WHERE h.before = 0 OR h.before + h.bytes <= $3
),

moved AS (
    DELETE FROM outbox AS o
    USING me, wanted
    WHERE o.id = wanted.id
    RETURNING o.id, o.count, o.events
),

batch AS MATERIALIZED (
    SELECT sum(count)::integer AS count, string_agg(events, ''::bytea ORDER BY id) AS events
    FROM moved
),

sealed AS (
    INSERT INTO segment (seq, epoch, count, batch, batch_hash, seal_time)
    SELECT me.next_seq, $1, batch.count, batch.events, sha256(batch.events), $5
    FROM me, batch
    WHERE batch.count IS NOT NULL
    RETURNING seq, octet_length(batch) AS bytes
),

advanced AS (
    UPDATE relay
    SET
        next_seq = sealed.seq + 1, low_water_id = greatest(low_water_id, $2),
        kept_bytes = kept_bytes + sealed.bytes, unacked_bytes = unacked_bytes + sealed.bytes
    FROM sealed
    WHERE relay.epoch = $1
    RETURNING sealed.seq
)

SELECT
    EXISTS (SELECT FROM relay WHERE epoch = $1) AS leading,
    (SELECT seq FROM advanced) AS seq,
    (SELECT max(id) FROM moved) AS highest_id,
    (SELECT count(*) FROM head) = $4 OR (SELECT count(*) FROM wanted) < (SELECT count(*) FROM head)
        AS more,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_running,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_to_run;

-- Nothing if $1 is not the epoch: the numbers may be those of another lane.
-- $1 epoch, $2 after this number, $3 limit
-- name: outbox.read_segments internal
SELECT s.seq, s.count, s.batch
FROM segment AS s
INNER JOIN relay AS r ON r.epoch = $1
WHERE s.seq > $2
ORDER BY s.seq
LIMIT $3;

-- The hash of a batch, and those that it had before erasures.
-- name: outbox.batch_hashes internal
SELECT array_append(former_hashes, batch_hash) AS hashes
FROM segment
WHERE seq = $1;

-- No row if $1 is not the epoch.
-- name: outbox.kept internal
SELECT (SELECT min(seq) FROM segment) AS first_seq, next_seq, sink_id, acked_facts
FROM relay
WHERE epoch = $1;

-- The lane and its sink agree: they go together from now on, and the trouble is over. The sink's count
-- of facts is taken over, since both count from the first agreement after this column was added.
-- $1 epoch, $2 id of the sink, $3 its newest batch, $4 its facts; $2 and $4 may be null
-- name: outbox.agree internal
WITH me AS (
    SELECT epoch
    FROM relay
    WHERE epoch = $1
    FOR UPDATE
),

mended AS (
    DELETE FROM lane_trouble
    WHERE EXISTS (SELECT FROM me)
)

UPDATE relay
SET
    sink_id = coalesce(relay.sink_id, $2),
    acked_facts = CASE WHEN acked_seq = $3 THEN coalesce($4, acked_facts) ELSE acked_facts END
FROM me
WHERE relay.epoch = me.epoch;

-- $1 epoch, $2 state, $3 reason, $4 now, $5 to $7 what the sink said: id, newest batch, facts
-- name: outbox.report_trouble internal
INSERT INTO lane_trouble (state, reason, since, sink_id, resume_after, facts)
SELECT $2, $3, $4, $5, $6, $7
FROM relay
WHERE epoch = $1
ON CONFLICT (singleton) DO UPDATE
SET
    state = excluded.state, reason = excluded.reason, sink_id = excluded.sink_id,
    resume_after = excluded.resume_after, facts = excluded.facts,
    since = CASE
        WHEN lane_trouble.state = excluded.state THEN lane_trouble.since ELSE excluded.since
    END;

-- A number beyond the sealed segments changes nothing: no sink can have stored it.
-- $1 epoch, $2 the newest acknowledged number, $3 now
-- name: outbox.acknowledge internal
WITH me AS (
    SELECT acked_seq
    FROM relay
    WHERE epoch = $1 AND acked_seq < $2 AND next_seq > $2
    FOR UPDATE
),

stamped AS (
    UPDATE segment
    SET ack_time = $3
    FROM me
    WHERE segment.seq > me.acked_seq AND segment.seq <= $2
    RETURNING segment.count, octet_length(segment.batch) AS bytes
)

UPDATE relay
SET
    acked_seq = $2,
    acked_facts = acked_facts + (SELECT coalesce(sum(count), 0) FROM stamped),
    unacked_bytes = greatest(0, unacked_bytes - (SELECT coalesce(sum(bytes), 0) FROM stamped))
FROM me
WHERE relay.epoch = $1;

-- Facts committed and not yet acknowledged.
-- name: outbox.pending internal
SELECT (
    (SELECT coalesce(sum(s.count), 0) FROM segment AS s WHERE s.seq > relay.acked_seq)
    + (SELECT coalesce(sum(o.count), 0) FROM outbox AS o WHERE o.id > relay.low_water_id)
)::bigint AS facts
FROM relay;

-- Drops the oldest segments that were acknowledged before $2, and of the others as many as are beyond
-- $4. The newest acknowledged one is kept, to be compared with the sink's resume point.
-- $1 epoch, $2 acknowledged before, $3 limit, $4 bytes of all segments
-- name: outbox.drop_acknowledged internal
WITH oldest AS (
    SELECT
        s.seq, s.ack_time, s.bytes, r.kept_bytes,
        sum(s.bytes) OVER (ORDER BY s.seq) - s.bytes AS before
    FROM relay AS r
    CROSS JOIN LATERAL (
        SELECT seq, ack_time, octet_length(batch) AS bytes
        FROM segment
        WHERE seq < r.acked_seq
        ORDER BY seq
        LIMIT $3
    ) AS s
    WHERE r.epoch = $1
),

dropped AS (
    DELETE FROM segment
    USING oldest
    WHERE
        segment.seq = oldest.seq
        AND (oldest.ack_time < $2 OR oldest.before < oldest.kept_bytes - $4)
    RETURNING oldest.bytes
)

UPDATE relay
SET kept_bytes = greatest(0, kept_bytes - d.bytes)
FROM (SELECT sum(bytes) AS bytes FROM dropped) AS d
WHERE relay.epoch = $1 AND d.bytes > 0;

-- What waits, in bytes, and whether facts are withheld meanwhile; how many were, and since when.
-- name: outbox.weigh internal
SELECT
    r.unacked_bytes
    + (SELECT coalesce(sum(octet_length(o.events)), 0) FROM outbox AS o WHERE o.id > r.low_water_id)
        AS bytes,
    r.withholding,
    r.withheld_facts + w.facts AS withheld_facts,
    least(r.withheld_from, w.since) AS withheld_from,
    w.facts AS uncounted
FROM relay AS r
CROSS JOIN (
    SELECT coalesce(sum(count), 0)::bigint AS facts, min(event_time) AS since FROM withheld
) AS w;

-- $1 epoch, $2 whether facts are withheld from now on
-- name: outbox.withhold internal
UPDATE relay
SET withholding = $2
WHERE epoch = $1;

-- For a process that does not lead, as perhaps none does: an outbox that nobody seals.
-- $1 bytes
-- name: outbox.withhold_beyond internal
UPDATE relay
SET withholding = true
WHERE
    NOT withholding
    AND CASE
        WHEN pg_total_relation_size('outbox') > $1
            THEN (SELECT sum(octet_length(events)) FROM outbox) > $1
        ELSE false
    END;

-- The row of the relay is locked first, so that the counts of two processes follow each other.
-- name: outbox.count_withheld internal
WITH me AS (
    SELECT singleton FROM relay FOR UPDATE
),

counted AS (
    DELETE FROM withheld
    USING me
    RETURNING withheld.count, withheld.event_time
)

UPDATE relay
SET withheld_facts = withheld_facts + c.facts, withheld_from = least(withheld_from, c.since)
FROM (SELECT sum(count) AS facts, min(event_time) AS since FROM counted) AS c
WHERE c.facts > 0;
