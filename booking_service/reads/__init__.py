"""Reads of the booking database: filtered queries, page by page, without locks."""
