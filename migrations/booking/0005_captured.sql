-- migrate:up

-- The amount captured for a stay, whose price may change afterwards.
ALTER TABLE bookings ADD COLUMN captured_minor bigint NOT NULL DEFAULT 0;
UPDATE bookings SET captured_minor = price_minor WHERE confirm_time IS NOT NULL;

-- migrate:down

ALTER TABLE bookings DROP COLUMN captured_minor;
