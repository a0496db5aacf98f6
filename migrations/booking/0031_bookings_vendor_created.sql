-- migrate:up transaction:false

-- Serves bookings.list_by_vendor: newest first, by keyset.
CREATE INDEX CONCURRENTLY IF NOT EXISTS bookings_vendor_created
ON bookings (vendor_id, create_time DESC, id DESC);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS bookings_vendor_created;
