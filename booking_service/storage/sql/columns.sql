-- The columns of each kind of row, in the order of the fields of its dataclass in the domain. A
-- statement names them as {booking}, or as {b.booking} with the alias of the table.

-- captured_minor is the last field of a booking; only commands load it.
-- columns: booking = id, package_id, vendor_id, user_id, session_id, state, start_date, end_date,
--     quantity, party_size, price_minor, currency, cancellation_policy, hold_expire_time,
--     complete_time, confirm_time, end_time, end_reason, refund_minor, refunded_minor, version,
--     create_time, update_time, balance_due_minor, extensions, refund_requested_minor

-- columns: package = id, vendor_id, title, type, location, time_zone, status, bookable_from,
--     bookable_until, base_price_minor, currency, pricing, min_party_size, max_party_size,
--     max_party_per_unit, cutoff_s, hold_ttl_s, cancellation_policy, version, create_time,
--     update_time, review_count, rating_hundredths, popularity

-- columns: payment = id, booking_id, provider, payment_id, state, amount_minor, currency,
--     refunded_minor, failure_code, version, create_time, update_time, next_retry_time

-- columns: payment_event = provider, payment_id, kind, refund_id, booking_id, amount_minor,
--     currency, event_time

-- columns: early_payment = booking_id, provider, payment_id, kind, refund_id, amount_minor,
--     currency, failure_code, caller

-- columns: refund = id, booking_id, payment_id, state, amount_minor, currency, reason, create_time,
--     update_time, vendor_id, provider, provider_payment_id, paid_out_minor, next_attempt_time

-- columns: review = id, booking_id, package_id, user_id, rating, body, version, create_time,
--     update_time

-- columns: profile = id, user_id, display_name, email, locale, version, create_time, update_time

-- columns: vendor = id, name, version, create_time, update_time

-- columns: catalog_event = id, vendor_id, package_id, change, fields, runs, days_left_out, caller,
--     request_id, event_time
