-- migrate:up transaction:false

-- Serves payments.list_failed and payments.find_due: failed payments by their next retry, hand-out.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_payments_failed
ON payments (next_retry_time)
WHERE state = 'FAILED';

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_payments_failed;
