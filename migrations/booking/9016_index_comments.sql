-- migrate:up

-- The query each index serves, as `make verify-indexes` shows it.
COMMENT ON INDEX idx_bookings_date_range IS
'bookings.list_by_dates: bookings over a date range';
COMMENT ON INDEX idx_bookings_package_date IS
'bookings.list_by_package: a package''s calendar';
COMMENT ON INDEX idx_bookings_user_date IS
'bookings.get_user_bookings: a user''s dashboard';
COMMENT ON INDEX idx_bookings_created_desc IS
'bookings.list_recent: recent bookings, by keyset';
COMMENT ON INDEX idx_bookings_user_package_status IS
'bookings.get_user_package_bookings: a user and a package, review eligibility';
COMMENT ON INDEX idx_packages_availability IS
'packages.search: by dates alone, what is on sale for them';
COMMENT ON INDEX idx_packages_location_dates IS
'packages.search: by place and dates';
COMMENT ON INDEX idx_packages_popularity IS
'packages.search: by type, recommendations';
COMMENT ON INDEX idx_payments_booking_status IS
'payments.list_by_booking: a booking''s payments';
COMMENT ON INDEX idx_payments_failed IS
'payments.list_failed: failed payments by next retry, hand-out for retry';
COMMENT ON INDEX idx_reviews_package_rating IS
'reviews.list_by_package: a package''s reviews';
COMMENT ON INDEX idx_reviews_user_created IS
'reviews.list_by_user: a user''s reviews';
COMMENT ON INDEX idx_user_profiles_user IS
'profiles.get: profile of a user, from the index alone';
COMMENT ON INDEX idx_bookings_revenue IS
'bookings.revenue: revenue by time of confirmation, from the index alone';
COMMENT ON INDEX idx_packages_vendor IS
'packages.list_by_vendor: a vendor''s packages';

ANALYZE vendors, packages, package_days, bookings, payments, reviews, user_profiles;

-- migrate:down

-- The comments go with their indexes.
SELECT 1;
