-- migrate:up transaction:false

-- Serves bookings.list_recent: recent bookings, by keyset.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_bookings_created_desc
ON bookings (create_time DESC, id DESC);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_bookings_created_desc;
