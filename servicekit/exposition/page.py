"""Writes the page of metrics from their declarations, so that it is complete."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from servicekit.exposition.declare import Metric
from servicekit.titled import load_titled

HEAD: Final = """\
# Metrics

Written by `make docs` from the declarations. `GET /metrics` of metrics_service is on its HTTP port;
that of booking_service on `BOOKING_HTTP_PORT`, and without that setting there is none. Callers
need the role `monitor` or `ops` where identities are set, and reach a service by an address, or by
a name in `METRICS_HTTP_HOSTS` or `BOOKING_HTTP_HOSTS`. Prometheus gets OpenMetrics 1.0, others the
text format 0.0.4.

- Counters of what happened are of all times, and go on over restarts and when the log is folded
  anew; those of RPCs, of the process and of what it sends begin with the process. There are no
  samples of when a counter began.
- The figures of the log in one answer are of one revision, `farehold_state_revision`: at that
  revision every other answer of the service is equal.
- A process of metrics_service that stands by serves the metrics marked *.
- A part that cannot be collected is missing, and counts in `farehold_collector_failures_total`; the
  others are whole.
- `producer` is the process that reports; `instance` and `job` are those of the scrape.
- An answer is made at most ten times a second, however many ask. 2,300 series take 1.6 ms of the
  event loop (`make bench-scrape`; prometheus-client takes 12 ms, and 24 for OpenMetrics).
- Labels are text that callers may have chosen, bounded in length and number.
"""


def page(services: Mapping[str, Sequence[Metric]]) -> str:
    """Return the page: a table for each service, and one of what all of them have."""
    lists = [*services.values()]
    shared = [metric for metric in lists[0] if all(metric in each for each in lists[1:])]
    sections = [HEAD]
    if len(lists) > 1:
        sections.append(_table("Both services", shared))
    for title, metrics in services.items():
        own = [metric for metric in metrics if len(lists) == 1 or metric not in shared]
        sections.append(_table(title, own))
    return "\n".join(sections)


def main() -> int:
    """Print the page for `TITLE=module:METRICS` arguments."""
    sys.stdout.write(page(load_titled(sys.argv[1:])))
    return 0


def _table(title: str, metrics: Iterable[Metric]) -> str:
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|", *map(_row, metrics)]
    return f"## {title}\n\n" + "\n".join(rows) + "\n"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    meaning = metric.help
    if metric.buckets:
        meaning += f" Up to {', '.join(f'{bound:g}' for bound in metric.buckets)} s."
    star = "*" if metric.everywhere else ""
    cells = (f"`{metric.name}`{star}", metric.type, labels, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
