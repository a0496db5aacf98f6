-- migrate:up transaction:false

-- Serves bookings.list_by_package: a package's calendar.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_bookings_package_date
ON bookings (package_id, start_date, state);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_bookings_package_date;
