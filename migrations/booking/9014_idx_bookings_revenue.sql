-- migrate:up transaction:false

-- Serves bookings.revenue: revenue by time of confirmation, from the index alone.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_bookings_revenue
ON bookings (confirm_time, currency) INCLUDE (vendor_id, captured_minor, refunded_minor)
WHERE state IN ('CONFIRMED', 'FULFILLED', 'CANCELLED');

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_bookings_revenue;
