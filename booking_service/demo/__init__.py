"""The demo: replays a file of hotel bookings as traffic, and checks the metrics that it causes."""
