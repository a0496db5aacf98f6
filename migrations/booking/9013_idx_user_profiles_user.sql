-- migrate:up transaction:false

-- Serves profiles.get: profile of a user, from the index alone.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_user_profiles_user
ON user_profiles (user_id)
INCLUDE (id, display_name, email, locale, version, create_time, update_time);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_user_profiles_user;
