"""The contract of booking_service."""
