"""The rules of booking: pure functions over frozen values, without clock or I/O."""
