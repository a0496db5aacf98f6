-- migrate:up transaction:false

-- Serves profile of a user, beside a booking.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_user_profiles_user
ON user_profiles (user_id) INCLUDE (display_name, locale);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_user_profiles_user;
