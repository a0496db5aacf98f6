"""Observes the database and the RPCs, and reports health and telemetry."""
