"""The windows that rings keep: their resolutions, and how a window is checked and placed."""

from __future__ import annotations

from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US


class Resolution(NamedTuple):
    """A ring: `slots` slots of `step_us` each, named for checkpoints."""

    name: str
    step_us: int
    slots: int

    @property
    def span_us(self) -> int:
        """The longest window of this ring."""
        return self.step_us * self.slots


RESOLUTIONS: Final = (
    Resolution("10s", 10 * SECOND_US, 360),
    Resolution("1m", MINUTE_US, 1440),
    Resolution("1h", HOUR_US, 720),
)


class Window(NamedTuple):
    """The window that ended `ended_us` ago; None is everything ever folded."""

    window_us: int | None = None
    ended_us: int = 0


class WindowError(ValueError):
    """No ring keeps the window."""


def ring_of(
    window_us: int, ended_us: int = 0, resolutions: tuple[Resolution, ...] = RESOLUTIONS
) -> int:
    """Return the index of the finest ring that keeps a window which ended `ended_us` ago. Raises
    WindowError if none does.
    """
    for level, (_, step_us, slots) in enumerate(resolutions):
        fits = 0 < window_us <= window_us + ended_us <= step_us * slots
        if fits and window_us % step_us == ended_us % step_us == 0:
            return level
    kept = ", ".join(
        f"multiples of {resolution.step_us // SECOND_US} s"
        f" up to {resolution.span_us // SECOND_US} s"
        for resolution in resolutions
    )
    if not ended_us:
        raise WindowError(f"a window of {window_us / SECOND_US:g} s is not kept; kept are {kept}")
    raise WindowError(
        f"a window of {window_us / SECOND_US:g} s that ended {ended_us / SECOND_US:g} s ago is not"
        f" kept; kept are, both and together, {kept}"
    )


def span_of(
    now_us: int,
    window_us: int,
    ended_us: int,
    resolutions: tuple[Resolution, ...] = RESOLUTIONS,
) -> tuple[int, int]:
    """Return begin and end of a window. Raises WindowError."""
    step_us = resolutions[ring_of(window_us, ended_us, resolutions)].step_us
    high_us = (now_us // step_us + 1) * step_us - ended_us
    return high_us - window_us, high_us


def duration_us(duration: Duration) -> int:
    """Convert the window of a request. Raises WindowError for one finer than a microsecond."""
    if duration.nanos % 1000:
        raise WindowError("a window is a whole number of seconds")
    return duration.seconds * SECOND_US + duration.nanos // 1000
