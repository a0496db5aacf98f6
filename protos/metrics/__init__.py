"""The contract of metrics_service with those who read it."""
