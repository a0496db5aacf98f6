"""What is recorded of a query: its name or normal form, its outcome and its count."""

from __future__ import annotations
