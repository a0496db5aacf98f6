-- migrate:up transaction:false

-- Serves reviews.list_by_user: a user's reviews.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_reviews_user_created
ON reviews (user_id, create_time DESC);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_reviews_user_created;
