"""What both services run on: settings, logs, errors, the gRPC server and local databases."""

from __future__ import annotations
