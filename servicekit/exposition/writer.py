"""Writes families of metrics in the text formats of Prometheus: 0.0.4, and OpenMetrics 1.0. The
strings of labels are kept, since they are most of the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, cast

from servicekit.exposition.declare import Buckets, Exemplar, Family, Metric

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

END: Final = "# EOF\n"
"""The last line of OpenMetrics, without which an answer counts as cut off."""

MAX_UNUSED: Final = 256
"""Strings that are kept of labels which a metric does not have any more, beyond those it has."""


class Written(NamedTuple):
    """The same samples in both formats."""

    text: str
    openmetrics: str


class Writer:
    """Writes families; values are numbers, and whatever labels have is text."""

    def __init__(self) -> None:
        # By metric: the beginnings of the lines of each set of labels.
        self._kept: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {}

    def write(self, families: Iterable[Family]) -> Written:
        """Return the lines of families. Raises ValueError for labels that are not the metric's."""
        text: list[str] = []
        openmetrics: list[str] = []
        for metric, samples in families:
            if not samples:
                continue
            kept = self._kept.setdefault(metric.name, {})
            if metric.type == "histogram":
                found = cast("Mapping[tuple[str, ...], Buckets]", samples)
                plain, marked = _histogram(metric, found, kept)
            else:
                plain = marked = _lines(metric, samples, kept)
            if len(kept) > 2 * len(samples) + MAX_UNUSED:
                self._kept[metric.name] = {labels: kept[labels] for labels in samples}
            text += [_head(metric, metric.name), *plain]
            openmetrics += [_head(metric, metric.family, openmetrics=True), *marked]
        return Written("".join(text), "".join(openmetrics))


def _lines(
    metric: Metric,
    samples: Mapping[tuple[str, ...], object],
    kept: dict[tuple[str, ...], tuple[str, ...]],
) -> list[str]:
    lines = []
    for labels, value in samples.items():
        begin = kept.get(labels)
        if begin is None:
            begin = kept[labels] = (f"{metric.name}{_braced(metric, labels)} ",)
        lines.append(f"{begin[0]}{_number(value)}\n")
    return lines


def _histogram(
    metric: Metric,
    samples: Mapping[tuple[str, ...], Buckets],
    kept: dict[tuple[str, ...], tuple[str, ...]],
) -> tuple[list[str], list[str]]:
    """Return the lines without and with exemplars."""
    lines: list[str] = []
    marked: dict[int, str] = {}
    for labels, (counts, total, exemplars) in samples.items():
        begins = kept.get(labels)
        if begins is None:
            begins = kept[labels] = tuple(_begins(metric, labels))
        if len(counts) != len(metric.buckets) + 1:
            raise ValueError(f"{metric.name} has {len(metric.buckets)} bounds")
        for at, exemplar in exemplars.items():
            marked[len(lines) + at] = _exemplar(exemplar)
        lines += [
            f"{begin}{count}\n" for begin, count in zip(begins, (*counts, counts[-1]), strict=False)
        ]
        lines.append(f"{begins[-1]}{_number(total)}\n")
    if not marked:
        return lines, lines
    return lines, [
        f"{line[:-1]}{marked[at]}\n" if at in marked else line for at, line in enumerate(lines)
    ]


def _begins(metric: Metric, labels: tuple[str, ...]) -> Iterator[str]:
    """Yield the beginnings of the lines of a histogram: its buckets, its count, its sum."""
    for bound in (*metric.buckets, math.inf):
        yield f"{metric.name}_bucket{_braced(metric, labels, _number(float(bound)))} "
    yield f"{metric.name}_count{_braced(metric, labels)} "
    yield f"{metric.name}_sum{_braced(metric, labels)} "


def _braced(metric: Metric, labels: tuple[str, ...], bound: str = "") -> str:
    """Return labels as they are written; `bound` is that of a bucket."""
    pairs = [
        f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, labels, strict=True)
    ]
    if bound:
        pairs.append(f'le="{bound}"')
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _head(metric: Metric, name: str, *, openmetrics: bool = False) -> str:
    kind = "gauge" if metric.type == "info" and not openmetrics else metric.type
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        text = text.replace('"', '\\"')
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def _exemplar(exemplar: Exemplar) -> str:
    trace_id, value, time_s = exemplar
    return f' # {{trace_id="{_escaped(trace_id)}"}} {_number(value)} {_number(time_s)}'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: object) -> str:
    if value == math.inf:
        return "+Inf"
    if value == -math.inf:
        return "-Inf"
    if value != value:
        return "NaN"
    return repr(value)
