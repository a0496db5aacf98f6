"""Version 1 of the booking RPCs: catalogue, bookings, payments, reviews, profiles."""
