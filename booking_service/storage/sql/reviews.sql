-- Newest first; in both lists $2 and $3 are the last row seen, $4 the limit.

-- $1 package, $5 least rating
-- name: reviews.list_by_package
SELECT {review}
FROM reviews
WHERE
    package_id = $1
    AND rating >= $5
    AND (create_time, id) < ($2::timestamptz, $3::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $4;

-- $1 user
-- name: reviews.list_by_user
SELECT {review}
FROM reviews
WHERE user_id = $1 AND (create_time, id) < ($2::timestamptz, $3::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $4;
