"""Buffers the telemetry of a process and seals it into numbered batches."""

from __future__ import annotations
