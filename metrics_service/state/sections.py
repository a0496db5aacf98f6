"""Names the section of the state in which an error was raised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from metrics_service.state.series.rings import WindowError


class SectionError(Exception):
    """A section of the state cannot be written or answered from; its cause is the error."""

    def __init__(self, section: str) -> None:
        super().__init__(section)
        self.section = section


@contextmanager
def naming(section: str) -> Iterator[None]:
    """Raise SectionError in place of an error that has no section yet and is not the caller's."""
    try:
        yield
    except (SectionError, WindowError):
        raise
    except Exception as failure:
        raise SectionError(section) from failure
