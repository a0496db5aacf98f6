-- migrate:up transaction:false

-- Serves bookings.get_user_package_bookings: a user and a package, review eligibility.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_bookings_user_package_status
ON bookings (user_id, package_id, state);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_bookings_user_package_status;
