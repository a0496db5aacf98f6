"""The servicers of booking.v1: each method translates, calls, and translates back."""
