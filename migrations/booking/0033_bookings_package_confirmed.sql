-- migrate:up transaction:false

-- Serves sweeper.scores: how many bookings of a package were confirmed lately, from the index alone.
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_package_confirmed
ON bookings (package_id, confirm_time) WHERE state IN ('CONFIRMED', 'FULFILLED');

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS bookings_package_confirmed;
