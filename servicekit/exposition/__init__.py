"""What Prometheus reads of a service: declared metrics, written in its two text formats."""
