"""What a scrape costs, compared in one run with the usual library for the same series."""

from __future__ import annotations

from metrics_service.web.scrape import figures
from servicekit.exposition.writer import Writer
from tests.bench.scrape import filled, least_ms, series, usual_ms


def test_a_scrape_costs_a_small_part_of_what_the_usual_library_takes() -> None:
    state = filled()
    writer = Writer()
    assert series(writer.write(figures.families(state)).openmetrics) > 2_000
    # With collecting the figures, which the other does not have to do.
    ours = least_ms(lambda: writer.write(figures.families(state)), 10)
    usual, openmetrics = usual_ms(list(figures.families(state)), 10)
    assert 2 * ours < min(usual, openmetrics)
