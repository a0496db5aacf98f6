"""Requests to commands and query arguments, domain values to replies: translation, no decision."""
