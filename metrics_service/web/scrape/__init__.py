"""What Prometheus reads of metrics_service."""
