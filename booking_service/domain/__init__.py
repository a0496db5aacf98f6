"""The rules of booking: pure functions over frozen values, without clock, randomness or I/O."""
