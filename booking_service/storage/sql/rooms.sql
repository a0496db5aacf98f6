-- What is used of the bounds on what callers can fill; see group_commit/rooms.py.

-- name: rooms.count internal
SELECT (SELECT count(*) FROM vendors) AS vendors, (SELECT count(*) FROM packages) AS packages;

-- name: rooms.early_bytes internal
SELECT coalesce(sum(pg_column_size(e)), 0)::bigint FROM early_payment_events AS e;

-- The partitions are only filled and emptied whole, so that their size is what they hold.
-- name: rooms.answer_bytes internal
SELECT
    substring(c.relname FROM '[0-9]+$')::integer AS slot,
    pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits AS i
INNER JOIN pg_class AS c ON i.inhrelid = c.oid
WHERE i.inhparent = 'idempotency_keys'::regclass;
