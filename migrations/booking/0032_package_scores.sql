-- migrate:up

-- How many persons one unit takes (0: no such bound), and what the sweeper keeps for searches: a
-- rating in hundredths, and the bookings that were confirmed in the last 30 days.
ALTER TABLE packages
ADD COLUMN max_party_per_unit integer NOT NULL DEFAULT 0,
ADD COLUMN review_count integer NOT NULL DEFAULT 0,
ADD COLUMN rating_hundredths integer NOT NULL DEFAULT 0,
ADD COLUMN popularity integer NOT NULL DEFAULT 0;

-- migrate:down

ALTER TABLE packages
DROP COLUMN max_party_per_unit,
DROP COLUMN review_count,
DROP COLUMN rating_hundredths,
DROP COLUMN popularity;
