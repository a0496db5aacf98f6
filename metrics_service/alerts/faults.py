"""Sends unforeseen errors, which the interceptor captures, to Sentry."""

from __future__ import annotations

from typing import Final

import sentry_sdk

MAX_QUEUED: Final = 100


class Faults:
    """A client of Sentry for what sentry_sdk captures in this process; nothing where dsn is empty.

    It has no integrations, so that only the errors handed to it are sent: no local variables, no
    breadcrumbs, no personal data. It sends from a thread with a bounded queue; what does not fit is
    dropped.
    """

    def __init__(self, dsn: str) -> None:
        self._client = (
            sentry_sdk.Client(
                dsn,
                default_integrations=False,
                auto_enabling_integrations=False,
                include_local_variables=False,
                max_breadcrumbs=0,
                auto_session_tracking=False,
                send_client_reports=False,
                transport_queue_size=MAX_QUEUED,
            )
            if dsn
            else None
        )

    def report(self) -> None:
        """Send what is captured from now on."""
        if self._client is not None:
            sentry_sdk.get_global_scope().set_client(self._client)

    def close(self, timeout_s: float) -> None:
        """Send what is queued, for at most this time. Blocks; call it from a thread."""
        if self._client is not None:
            self._client.close(timeout=timeout_s)
