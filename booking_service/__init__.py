"""Sells stays in packages: holds, bookings, payments, refunds and reviews, over gRPC."""
