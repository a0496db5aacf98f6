-- A user is erased in steps; see group_commit/erasure.py.

-- $1 user
-- name: erasure.delete_profile internal
DELETE FROM user_profiles WHERE user_id = $1;

-- Goes on with an erasure of the user that is under way; one that is ending ends before.
-- $1 id, $2 user, $3 pseudonym, $4 caller, $5 now
-- name: erasure.begin internal
INSERT INTO erasures (id, user_id, pseudonym, caller, begin_time, part, after)
VALUES ($1, $2, $3, $4, $5, 'bookings', '{}')
ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id
RETURNING id;

-- $1 limit
-- name: erasure.under_way internal
SELECT id FROM erasures WHERE user_id IS NOT NULL ORDER BY begin_time LIMIT $1;

-- $1 id
-- name: erasure.lock internal
SELECT user_id, pseudonym, part, after, bookings FROM erasures WHERE id = $1 FOR UPDATE;

-- $1 id, $2 part, $3 key of the last row read, $4 bookings of this step
-- name: erasure.advance internal
UPDATE erasures SET part = $2, after = $3, bookings = bookings + $4 WHERE id = $1;

-- $1 id, $2 now
-- name: erasure.end internal
UPDATE erasures SET part = 'done', after = '{}', user_id = NULL, end_time = $2 WHERE id = $1;

-- $1 user, $2 limit
-- name: erasure.find_bookings internal
SELECT id, package_id FROM bookings WHERE user_id = $1 LIMIT $2;

-- $1 booking ids, $2 pseudonym, $3 reasons that are no text of a person
-- name: erasure.bookings internal
UPDATE bookings
SET
    user_id = $2, session_id = '',
    end_reason = CASE
        WHEN state = 'FAILED' OR end_reason = ANY($3::text[]) THEN end_reason ELSE ''
    END
WHERE id = ANY($1::uuid[]);

-- $1 booking ids, $2 pseudonym
-- name: erasure.reviews internal
UPDATE reviews SET user_id = $2, body = '' WHERE booking_id = ANY($1::uuid[]);

-- $1 booking ids, $2 reasons that are no text of a person
-- name: erasure.refunds internal
UPDATE refunds SET reason = ''
WHERE booking_id = ANY($1::uuid[]) AND reason <> ALL($2::text[]);

-- $1 booking ids, $2 what a code looks like
-- name: erasure.payments internal
UPDATE payments SET failure_code = ''
WHERE booking_id = ANY($1::uuid[]) AND failure_code !~ $2;

-- $1 booking ids, $2 what a code looks like
-- name: erasure.early_payments internal
UPDATE early_payment_events SET failure_code = ''
WHERE booking_id = ANY($1::uuid[]) AND failure_code !~ $2;

-- The audit trail takes the changes of this transaction; see refuse_but_erasure().
-- $1 id of the erasure
-- name: erasure.name_it internal
SELECT set_config('booking.erasure', $1, true);

-- $1 booking ids
-- name: erasure.read_events internal
SELECT booking_id, version, fact FROM booking_events WHERE booking_id = ANY($1::uuid[]);

-- $1 booking ids, $2 versions, $3 facts, $4 reasons that are no text of a person
-- name: erasure.events internal
UPDATE booking_events AS e
SET
    fact = w.fact,
    reason = CASE
        WHEN e.transition = 'FAILED' OR e.reason = ANY($4::text[]) THEN e.reason ELSE ''
    END
FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS w (booking_id, version, fact)
WHERE e.booking_id = w.booking_id AND e.version = w.version;

-- $1 booking ids
-- name: erasure.read_payment_events internal
SELECT e.provider, e.payment_id, e.kind, e.refund_id, e.fact
FROM payments AS p
INNER JOIN payment_events AS e ON p.provider = e.provider AND p.payment_id = e.payment_id
WHERE p.booking_id = ANY($1::uuid[]) AND octet_length(e.fact) > 0;

-- $1 providers, $2 payment ids, $3 kinds, $4 refund ids, $5 facts
-- name: erasure.payment_events internal
UPDATE payment_events AS e
SET fact = w.fact
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[])
    AS w (provider, payment_id, kind, refund_id, fact)
WHERE
    e.provider = w.provider AND e.payment_id = w.payment_id AND e.kind = w.kind
    AND e.refund_id = w.refund_id;

-- Of the answers read, those that may be about the user: with the id in it, or of payments and refunds,
-- which have none.
-- $1 to $4 key of the last row read, $5 limit, $6 the id as it stands in an answer
-- name: erasure.read_answers internal
SELECT
    slot, caller, rpc, request_id,
    CASE
        WHEN position($6 IN answer) > 0 OR substr(answer, 1, 1) IN ('Y', 'y', 'F', 'f')
            THEN answer
    END AS answer
FROM idempotency_keys
WHERE (caller, rpc, request_id, slot) > ($1, $2, $3, $4)
ORDER BY caller, rpc, request_id, slot
LIMIT $5;

-- $1 booking ids, $2 pseudonym
-- name: erasure.bookings_of internal
SELECT id FROM bookings WHERE id = ANY($1::uuid[]) AND user_id = $2;

-- $1 slots, $2 callers, $3 RPCs, $4 request ids, $5 answers
-- name: erasure.answers internal
UPDATE idempotency_keys AS k
SET answer = w.answer
FROM unnest($1::smallint[], $2::text[], $3::text[], $4::uuid[], $5::bytea[])
    AS w (slot, caller, rpc, request_id, answer)
WHERE
    k.caller = w.caller AND k.rpc = w.rpc AND k.request_id = w.request_id AND k.slot = w.slot;

-- Before any row of the outbox or segment is changed, as sealing and acknowledging do.
-- name: erasure.lock_relay internal
SELECT epoch FROM relay FOR UPDATE;

-- $1 id of the last row read, $2 limit, $3 the user as it stands in a fact
-- name: erasure.read_outbox internal
SELECT id AS number, CASE WHEN position($3 IN events) > 0 THEN events END AS facts
FROM outbox
WHERE id > $1
ORDER BY id
LIMIT $2;

-- $1 id, $2 events
-- name: erasure.outbox internal
UPDATE outbox SET events = $2 WHERE id = $1;

-- $1 number of the last segment read, $2 limit, $3 the user as it stands in a fact
-- name: erasure.read_segments internal
SELECT seq AS number, CASE WHEN position($3 IN batch) > 0 THEN batch END AS facts
FROM segment
WHERE seq > $1
ORDER BY seq
LIMIT $2;

-- The bytes of all segments, and of those that are not acknowledged, follow.
-- $1 number, $2 batch
-- name: erasure.segment internal
WITH before AS (
    SELECT seq, octet_length(batch) AS bytes FROM segment WHERE seq = $1
),

changed AS (
    UPDATE segment
    SET batch = $2, batch_hash = sha256($2), former_hashes = array_append(former_hashes, batch_hash)
    WHERE seq = $1
)

UPDATE relay
SET
    kept_bytes = greatest(0, kept_bytes + octet_length($2) - before.bytes),
    unacked_bytes = greatest(0, unacked_bytes + CASE
        WHEN before.seq > acked_seq THEN octet_length($2) - before.bytes ELSE 0
    END)
FROM before;
