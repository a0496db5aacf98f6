-- $1 vendor
-- name: vendors.get
SELECT {vendor}
FROM vendors
WHERE id = $1;

-- Newest first.
-- $1 and $2 the last row seen, $3 limit
-- name: vendors.list
SELECT {vendor}
FROM vendors
WHERE (create_time, id) < ($1::timestamptz, $2::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $3;

-- name: packages.get_details
SELECT {package}
FROM packages
WHERE id = $1;

-- Newest first.
-- $1 vendor, $2 statuses (empty: any), $3 and $4 the last row seen, $5 limit
-- name: packages.list_by_vendor
SELECT {package}
FROM packages
WHERE
    vendor_id = $1
    AND (cardinality($2::text[]) = 0 OR status = ANY($2))
    AND (create_time, id) < ($3::timestamptz, $4::uuid)
ORDER BY create_time DESC, id DESC
LIMIT $5;

-- Newest first.
-- $1 package, $2 id of the last row seen, $3 limit
-- name: catalog_events.list_by_package
SELECT {catalog_event}
FROM catalog_events
WHERE package_id = $1 AND id < $2
ORDER BY id DESC
LIMIT $3;

-- Newest first, of the vendor and of all its packages.
-- $1 vendor, $2 id of the last row seen, $3 limit
-- name: catalog_events.list_by_vendor
SELECT {catalog_event}
FROM catalog_events
WHERE vendor_id = $1 AND id < $2
ORDER BY id DESC
LIMIT $3;

-- Days with a capacity; a lapsed hold does not count as held, even before it is expired.
-- $1 package, $2 first day, $3 first day after, $4 now
-- name: packages.check_availability
WITH lapsed AS (
    SELECT start_date, end_date, quantity
    FROM bookings
    WHERE
        package_id = $1
        AND state IN ('HELD', 'PENDING_PAYMENT')
        AND hold_expire_time <= $4
        AND start_date < $3
        AND end_date > $2
)

SELECT
    d.day,
    d.capacity,
    d.held - coalesce(
        (SELECT sum(l.quantity) FROM lapsed AS l WHERE l.start_date <= d.day AND l.end_date > d.day),
        0
    )::integer AS held,
    d.confirmed
FROM package_days AS d
WHERE d.package_id = $1 AND d.day >= $2 AND d.day < $3
ORDER BY d.day;

-- All orders are by ascending sort_key. OFFSET 0 keeps the check of the days outside the subquery,
-- so that days are checked in that order, and only until the page is full. The lapsed holds of a day
-- are read only if it has too little capacity without them.
-- $1 location, $2 type, $3 first day, $4 first day after, $5 units a day, $6 party, $7 currency,
-- $8 least price, $9 greatest price, $10 now, $11 order, $12 and $13 the last row seen, $14 limit
-- name: packages.search
SELECT {m.package}, m.sort_key
FROM (
    SELECT
        {p.package},
        CASE $11::text
            WHEN 'PRICE_ASC' THEN p.base_price_minor
            WHEN 'PRICE_DESC' THEN -p.base_price_minor
            WHEN 'NEWEST' THEN -(extract(EPOCH FROM p.create_time) * 1000000)::bigint
            -- Of equal ratings, the one that more guests gave.
            WHEN 'RATING' THEN -(p.rating_hundredths * 10000000000 + p.review_count)
            WHEN 'POPULARITY' THEN -p.popularity::bigint
        END AS sort_key
    FROM packages AS p
    WHERE
        p.status = 'ACTIVE'
        AND ($1::text IS NULL OR p.location = $1)
        AND ($2::text IS NULL OR p.type = $2)
        AND ($6::integer IS NULL OR $6 BETWEEN p.min_party_size AND p.max_party_size)
        AND (
            $6 IS NULL OR $3::date IS NULL OR p.max_party_per_unit = 0
            OR $6 <= $5 * p.max_party_per_unit
        )
        AND ($7::text IS NULL OR p.currency = $7)
        AND ($8::bigint IS NULL OR p.base_price_minor >= $8)
        AND ($9::bigint IS NULL OR p.base_price_minor <= $9)
        AND (
            $3::date IS NULL OR (
                (p.bookable_from IS NULL OR p.bookable_from <= $3)
                AND (p.bookable_until IS NULL OR p.bookable_until >= $4::date)
            )
        )
    ORDER BY sort_key, p.id
    OFFSET 0
) AS m
WHERE
    (m.sort_key, m.id) > ($12::bigint, $13::uuid)
    AND (
        $3::date IS NULL OR $4::date - $3::date = (
            SELECT count(*)
            FROM package_days AS d
            WHERE
                d.package_id = m.id
                AND d.day >= $3
                AND d.day < $4
                AND (
                    d.capacity - d.held - d.confirmed >= $5::integer
                    OR d.capacity - d.held - d.confirmed + (
                        SELECT coalesce(sum(b.quantity), 0)
                        FROM bookings AS b
                        WHERE
                            b.package_id = d.package_id
                            AND b.state IN ('HELD', 'PENDING_PAYMENT')
                            AND b.hold_expire_time <= $10::timestamptz
                            AND b.start_date <= d.day
                            AND b.end_date > d.day
                    ) >= $5
                )
        )
    )
ORDER BY m.sort_key, m.id
LIMIT $14;
