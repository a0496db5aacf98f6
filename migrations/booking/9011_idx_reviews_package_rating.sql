-- migrate:up transaction:false

-- Serves reviews.list_by_package: a package's reviews.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_reviews_package_rating
ON reviews (package_id, rating DESC, create_time DESC);

-- migrate:down transaction:false

DROP INDEX CONCURRENTLY IF EXISTS idx_reviews_package_rating;
