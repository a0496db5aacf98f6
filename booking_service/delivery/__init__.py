"""Delivers committed facts to metrics_service, each once and in order."""
