"""Messages as JSON, also those of a service that sends what this version does not know."""

from __future__ import annotations

from google.protobuf.message import Message

from metrics_service.web.encode import Json, to_json
from servicekit.start import StartError


def json_of(message: Message) -> Json:
    """Return every field of a message, as the HTTP side has them. Raises StartError."""
    try:
        return to_json(message)
    except (ValueError, OverflowError):
        # Such as a time beyond the year 9999.
        raise StartError("the answer is not of this version: a value of it has no JSON") from None
