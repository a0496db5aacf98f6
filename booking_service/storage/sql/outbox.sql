-- name: outbox.try_lead internal
SELECT pg_try_advisory_lock($1) AS leads;

-- name: outbox.raise_epoch internal
UPDATE relay
SET epoch = epoch + 1
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
    RETURNING seq
),

advanced AS (
    UPDATE relay
    SET next_seq = sealed.seq + 1, low_water_id = greatest(low_water_id, $2)
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

-- name: outbox.batch_hash internal
SELECT batch_hash
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
    RETURNING segment.count
)

UPDATE relay
SET
    acked_seq = $2,
    acked_facts = acked_facts + (SELECT coalesce(sum(count), 0) FROM stamped)
FROM me
WHERE relay.epoch = $1;

-- Facts committed and not yet acknowledged.
-- name: outbox.pending internal
SELECT (
    (SELECT coalesce(sum(s.count), 0) FROM segment AS s WHERE s.seq > relay.acked_seq)
    + (SELECT coalesce(sum(o.count), 0) FROM outbox AS o WHERE o.id > relay.low_water_id)
)::bigint AS facts
FROM relay;

-- The newest acknowledged segment is kept, to be compared with the sink's resume point.
-- $1 epoch, $2 acknowledged before, $3 limit
-- name: outbox.drop_acknowledged internal
DELETE FROM segment
WHERE seq IN (
    SELECT s.seq
    FROM segment AS s
    INNER JOIN relay AS r ON s.seq < r.acked_seq
    WHERE r.epoch = $1 AND s.ack_time < $2
    ORDER BY s.seq
    LIMIT $3
);
