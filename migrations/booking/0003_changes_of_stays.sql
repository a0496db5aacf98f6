-- migrate:up

-- A constant default: no row is rewritten.
ALTER TABLE bookings ADD COLUMN balance_due_minor bigint NOT NULL DEFAULT 0;
ALTER TABLE bookings ADD COLUMN extensions integer NOT NULL DEFAULT 0;

-- migrate:down

ALTER TABLE bookings DROP COLUMN extensions;
ALTER TABLE bookings DROP COLUMN balance_due_minor;
