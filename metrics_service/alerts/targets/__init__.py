"""Tells people of alerts: in groups, once each, through targets that may be slow or down."""
