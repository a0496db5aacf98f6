-- migrate:up

-- The fact of each event as it was sent, so that it can be sent again byte for byte.
ALTER TABLE booking_events ADD COLUMN fact bytea;
ALTER TABLE payment_events ADD COLUMN fact bytea;
COMMENT ON COLUMN booking_events.fact IS
'A serialised tracking.v1.Event; NULL for a transition of before the column.';
COMMENT ON COLUMN payment_events.fact IS
'A serialised tracking.v1.Event; empty where the event had no effect, NULL for one of before the column.';

-- migrate:down

ALTER TABLE payment_events DROP COLUMN fact;
ALTER TABLE booking_events DROP COLUMN fact;
