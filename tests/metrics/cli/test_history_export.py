"""The command line writes the history as CSV, and nothing else to standard output."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys

import asyncpg
import pytest

from metrics_service.cli.history import COLUMNS
from metrics_service.state.business import BusinessCell

pytestmark = pytest.mark.processes


def export(dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "metrics_service", "history", "export", *arguments]
    return subprocess.run(
        command,
        env={**os.environ, "METRICS_DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_days_and_hours_as_csv(metrics_dsn: str) -> None:
    empty = export(metrics_dsn)
    assert (empty.returncode, empty.stdout) == (1, "")
    assert empty.stderr == "nothing is exported: the history is empty\n"
    cell = BusinessCell()
    cell.confirmed = 2
    cell.of_currency("EUR")[:] = [2, 500, 100]
    connection = await asyncpg.connect(metrics_dsn)
    for day in (1, 2, 3):
        await connection.execute(
            "INSERT INTO history_day VALUES (make_date(2026, 1, $1), 'business', $2, 6)",
            *(day, cell.encode()),
        )
        await connection.execute(
            "INSERT INTO history_day_figures VALUES"
            " (make_date(2026, 1, $1), 'revenue_average', 'currency', 'EUR', 500, 2, 250.5)",
            day,
        )
    await connection.execute(
        "INSERT INTO history_hour VALUES ('2026-01-02 07:00+00', 'business', $1, 6)", cell.encode()
    )
    await connection.close()
    days = export(metrics_dsn, "--from", "2026-01-02", "--to", "2026-01-31", "--format", "csv")
    assert (days.returncode, days.stderr) == (0, "")
    rows = list(csv.reader(io.StringIO(days.stdout)))
    assert rows == [
        list(COLUMNS),
        *(
            [f"2026-01-0{day}", "revenue_average", "currency", "EUR", "EUR", "500", "2", "250.5"]
            for day in (2, 3)
        ),
    ]
    hours = csv.reader(io.StringIO(export(metrics_dsn, "--step", "hour").stdout))
    assert ["2026-01-02T07:00Z", "bookings_confirmed", "", "", "count", "", "", "2"] in list(hours)
    outside = export(metrics_dsn, "--to", "2025-12-31")
    assert (outside.returncode, outside.stdout) == (1, "")
    assert "the history has 2026-01-01 to 2026-01-03" in outside.stderr
