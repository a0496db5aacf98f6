"""What /metrics says, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from metrics_service.state.fold import State
from metrics_service.web.scrape import figures
from servicekit.exposition.writer import END, Writer

Samples = dict[tuple[str, ...], float]
"""Values by the name of the sample and the values of its labels."""


def families_of(text: str) -> Iterator[Any]:
    """Read OpenMetrics."""
    read: Any = text_string_to_metric_families
    yield from read(text)


def samples_of(text: str) -> Samples:
    """Read OpenMetrics; a sample that is there twice is an error."""
    found: Samples = {}
    for family in families_of(text):
        for sample in family.samples:
            key = sample.name, *sample.labels.values()
            assert key not in found
            found[key] = sample.value
    return found


def of_state(state: State) -> Samples:
    """The figures of a state."""
    return samples_of(Writer().write(figures.families(state)).openmetrics + END)


async def scraped(http_port: int, **headers: str) -> httpx.Response:
    """GET /metrics."""
    accept = {"Accept": "application/openmetrics-text; version=1.0.0", **headers}
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{http_port}/metrics", headers=accept)


async def samples(http_port: int) -> Samples:
    """The samples of GET /metrics."""
    return samples_of((await scraped(http_port)).text)


def exemplars(text: str) -> list[Any]:
    """The exemplars of OpenMetrics, each with the labels of its bucket."""
    return [
        (sample.labels, sample.exemplar)
        for family in families_of(text)
        for sample in family.samples
        if sample.exemplar
    ]
