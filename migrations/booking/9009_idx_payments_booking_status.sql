-- migrate:up transaction:false

-- Serves payments.list_by_booking and payments.load: a booking's payments.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_payments_booking_status
ON payments (booking_id, state, provider);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_payments_booking_status;
