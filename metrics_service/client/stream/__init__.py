"""The client end of the tracking stream: a connection, and one sender for each lane."""

from __future__ import annotations
