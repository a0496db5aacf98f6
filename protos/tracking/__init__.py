"""The contract between producers of events and metrics_service."""
