-- migrate:up transaction:false

-- Serves bookings.get_user_bookings: a user's dashboard.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_bookings_user_date
ON bookings (user_id, start_date DESC, state);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_bookings_user_date;
