"""Values and durations as people read them."""

from __future__ import annotations

from metrics_service.state.series.rings import HOUR_US, MINUTE_US, SECOND_US


def amount(value: float, unit: str) -> str:
    """Return a value with its unit: "12.3%", "350 ms", "5 min", "11"."""
    if unit == "1":
        return f"{100 * value:.3g}%"
    if unit == "ms":
        return f"{value:,.0f} ms" if value < 60_000 else f"{value / 60_000:.3g} min"
    return f"{value:,.6g}"


def span(duration_us: int) -> str:
    """Return a duration in its largest whole unit: "24 h", "5 min", "10 s"."""
    for unit_us, name in ((HOUR_US, "h"), (MINUTE_US, "min")):
        if duration_us and not duration_us % unit_us:
            return f"{duration_us // unit_us} {name}"
    return f"{duration_us / SECOND_US:g} s"
