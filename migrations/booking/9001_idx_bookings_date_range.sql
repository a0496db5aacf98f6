-- migrate:up transaction:false

-- Serves bookings.list_by_dates: bookings over a date range.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_bookings_date_range
ON bookings (start_date, end_date, state);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_bookings_date_range;
