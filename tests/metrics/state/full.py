"""The fullest state that a log can lead to: every table at its bound, with the longest texts, and
every slot of time as full as the others.

The tables by time are written as rows of a checkpoint: to fold them would take hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from metrics_service.measure.sketch import Sketch
from metrics_service.measure.sums import MAX_SUM
from metrics_service.state.breakdown.breakdown import BREAKDOWN_RESOLUTIONS
from metrics_service.state.breakdown.cell import (
    COUNTERS,
    MAX_COARSE,
    MAX_MONEY,
    BreakdownCell,
)
from metrics_service.state.breakdown.cell import MAX_GROUPS as MAX_BREAKDOWN
from metrics_service.state.breakdown.packages import MAX_KEY_BYTES, Group
from metrics_service.state.business import MAX_CURRENCIES, MAX_PACKAGES, Attempts, BusinessCell
from metrics_service.state.errors import MAX_GROUPS, ErrorCell, ErrorKey
from metrics_service.state.fold import State
from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.funnel.funnel import STEPS
from metrics_service.state.queries import cell as queries
from metrics_service.state.queries.columns import MAX_DURATION_US
from metrics_service.state.queries.fingerprints import MAX_DEFINITIONS, MAX_TRACKED
from metrics_service.state.queries.running import MAX_BLOCKERS
from metrics_service.state.queries.slowest import MAX_ENDED, MAX_PLANS, MAX_RUNNING
from metrics_service.state.queries.stats import FINGERPRINT_RESOLUTIONS, MAX_OPERATIONS
from metrics_service.state.record import MAX_ITEMS
from metrics_service.state.rpcs import MAX_METHODS, RpcCell
from metrics_service.state.series.ring import Cell
from metrics_service.state.series.rings import RESOLUTIONS, Resolution, Rings
from metrics_service.state.truncate import (
    MAX_CODE_BYTES,
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    MAX_PLAN_BYTES,
    MAX_TEXT_BYTES,
)
from protos.tracking.v1 import event_pb2
from tests.metrics.state.log import NOW, SECOND, Log

KINDS: Final = ("booking", "payment", "availability", "internal")
DIFFERENT: Final = 16
"""Slots in a row that have no group in common; a block of so many is as any other."""

ESCAPED: Final = "\x01"
"""A character that takes one byte in a message and six in JSON."""


def text(number: int, size: int, fill: str) -> str:
    """Return a text of so many bytes that differs from those of other numbers."""
    return f"{number:08d}{filled(size - 8, fill)}"


def filled(size: int, fill: str) -> str:
    """Return a text of so many bytes, or a few less."""
    return fill * (size // len(fill.encode()))


def full_state(*, fill: str = ESCAPED) -> State:
    """Return the fullest state; every text is filled up with this character."""
    log = _log(fill)
    rows = {(section, bucket): data for section, bucket, data in log.state.dump()}
    for table, resolutions, cells in _tables(fill):
        for resolution in resolutions:
            newest = log.state.as_of_us // resolution.step_us
            for slot in range(newest - resolution.slots + 1, newest + 1):
                rows[f"{table}.{resolution.name}", slot] = cells[slot % len(cells)]
        if resolutions is not FINGERPRINT_RESOLUTIONS:
            rows[f"{table}.total", 0] = cells[0]
    state = State.load([(*place, data) for place, data in rows.items()])
    _prepare(state)
    return state


def _prepare(state: State) -> None:
    """Do what State.prepare does, in a hundredth of the time: most blocks are alike."""
    tables = state._tables
    rings: Rings[Any]
    for rings in (
        *(tables.funnel.rings, tables.business.rings, tables.errors.rings, tables.rpcs.rings),
        tables.breakdown.rings,
        *tables.queries._rings,
    ):
        known: dict[tuple[int, int], bytes] = {}
        for ring in rings._rings:
            now, size = state.as_of_us // ring.step_us, 4
            while size <= ring._slots:
                for number in range(-((ring._slots - 1 - now) // size), now // size):
                    if not ring._is_open(size, number):
                        kind = (size, number % max(1, DIFFERENT // size))
                        data = known.get(kind) or ring._block(size, number)
                        known[kind] = ring._blocks[size, number] = data
                size *= 4


def worst_sketch() -> Sketch:
    """A value in every bucket that a duration can have."""
    sketch = Sketch()
    value = 1.0
    while value < MAX_DURATION_US:
        sketch.add(value)
        value *= 1.02
    sketch.add(MAX_DURATION_US)
    return sketch


def _log(fill: str) -> Log:
    """Return a log whose tables without time are full."""
    log = Log()
    log.instance = text(0, MAX_ID_BYTES, fill)
    definitions = event_pb2.QueryDefinitions(
        definitions=[
            event_pb2.QueryDefinition(
                fingerprint=fingerprint,
                model=text(fingerprint % MAX_OPERATIONS, MAX_NAME_BYTES, fill),
                operation=filled(MAX_NAME_BYTES, fill),
                text=text(fingerprint, MAX_TEXT_BYTES, fill),
            )
            for fingerprint in range(MAX_DEFINITIONS)
        ]
    )
    log.append(event_pb2.Event(query_definitions=definitions))
    for first in range(0, MAX_PLANS, 50):
        log.append(*(log.plan(n, filled(MAX_PLAN_BYTES, fill)) for n in range(first, first + 50)))
    blocker = event_pb2.Blocker(
        pid=(1 << 31) - 1,
        application_name=filled(MAX_NAME_BYTES, fill),
        state=filled(MAX_NAME_BYTES, fill),
        query=filled(MAX_TEXT_BYTES, fill),
        transaction_us=MAX_DURATION_US,
        wait_event_type=filled(MAX_NAME_BYTES, fill),
        wait_event=filled(MAX_NAME_BYTES, fill),
    )
    for capture in range(1, MAX_RUNNING + MAX_ENDED + 1):
        running = log.running(
            capture,
            1000,
            fingerprint=capture,
            blockers=[blocker] * MAX_BLOCKERS,
            wait_event_type=filled(MAX_NAME_BYTES, fill),
            wait_event=filled(MAX_NAME_BYTES, fill),
        )
        log.append(running)
        if capture <= MAX_ENDED:
            ended = log.queries([MAX_DURATION_US], fingerprint=capture)
            ended.query_timings.captures.add(index=0, capture_id=capture)
            log.append(ended)
    for first in range(0, MAX_TRACKED, 20):
        log.append(*(log.queries([1], fingerprint=n) for n in range(first, first + 20)))
    for _ in range(2):
        log.append(
            log.queries([600_000] * MAX_ITEMS, sqlstate=filled(MAX_CODE_BYTES, fill), fingerprint=1)
        )
    log.jump(NOW + 10 * SECOND)
    return log


def _tables(fill: str) -> Iterator[tuple[str, tuple[Resolution, ...], list[bytes]]]:
    """Yield each table by time, its resolutions, and the rows of slots that follow each other."""
    names = [text(n, MAX_NAME_BYTES, fill) for n in range(MAX_OPERATIONS)]
    operations = [f"{name}.{filled(MAX_NAME_BYTES, fill)}" for name in names]
    fingerprints = [
        [f"{n:016x}" for n in range(first, first + queries.MAX_GROUPS)]
        for first in range(0, MAX_TRACKED * DIFFERENT, MAX_TRACKED)
    ]
    totals = queries.QueryTotals()
    totals.total, totals.internal = _worst_query_cell(), _worst_query_cell()
    yield "query_totals", RESOLUTIONS, [totals.encode()]
    yield "queries", RESOLUTIONS, [_query_cells(operations)]
    yield "fingerprints", FINGERPRINT_RESOLUTIONS, [_query_cells(keys) for keys in fingerprints]
    yield "business", RESOLUTIONS, [_business(n, fill).encode() for n in range(DIFFERENT)]
    yield "errors", RESOLUTIONS, [_errors(n, fill).encode() for n in range(DIFFERENT)]
    rpcs = RpcCell()
    for n in range(MAX_METHODS):
        rpcs.add(text(n, MAX_NAME_BYTES, fill), MAX_SUM, MAX_SUM, MAX_SUM)
    yield "rpcs", RESOLUTIONS, [rpcs.encode()]
    yield "funnel", RESOLUTIONS, [_funnel().encode()]
    cells = [_breakdown(n, fill).encode() for n in range(DIFFERENT)]
    yield "breakdown", BREAKDOWN_RESOLUTIONS, cells


def _worst_query_cell() -> queries.QueryCell:
    cell = queries.QueryCell()
    for field in queries._FIELDS:
        setattr(cell, field, 1 << 40)
    cell.execute_us, cell.pool_wait_us = worst_sketch(), worst_sketch()
    return cell


def _query_cells(keys: list[str]) -> bytes:
    cells, worst = queries.QueryCells(), _worst_query_cell()
    for key in keys:
        cells.add(key, worst)
    return cells.encode()


def _business(number: int, fill: str) -> Cell:
    cell = BusinessCell()
    for name in (*Attempts.__slots__, *BusinessCell.__slots__):
        if isinstance(getattr(cell, name), int):
            setattr(cell, name, 1 << 40)
        elif isinstance(getattr(cell, name), Sketch):
            setattr(cell, name, worst_sketch())
    for n in range(MAX_CURRENCIES):
        cell.revenue[text(n, MAX_CODE_BYTES, fill)] = [1 << 40, MAX_SUM, MAX_SUM]
    for n in range(MAX_PACKAGES):
        package_id = text(number * MAX_PACKAGES + n, MAX_ID_BYTES, fill)
        cell.packages[package_id] = [1 << 40, 1 << 40]
    return cell


def _errors(number: int, fill: str) -> Cell:
    cell = ErrorCell()
    cell.other = cell.write_rpcs = 1 << 40
    cell.kinds = dict.fromkeys(KINDS, 1 << 40)
    for n in range(MAX_GROUPS):
        reason = text(number * MAX_GROUPS + n, MAX_NAME_BYTES, fill)
        key = ErrorKey(reason, "availability", True, str(-(1 << 31)), filled(MAX_NAME_BYTES, fill))
        cell.groups[key] = [1 << 40, NOW, NOW]
    return cell


def _breakdown(number: int, fill: str) -> Cell:
    cell = BreakdownCell()
    for n in range(MAX_BREAKDOWN + 2 * MAX_COARSE):
        keys = [text(number * MAX_BREAKDOWN + n, MAX_KEY_BYTES, fill)] * 4
        cell.add(Group(*keys), [1 << 40] * COUNTERS)
        for currency in range(MAX_MONEY):
            cell.add_money(Group(*keys), text(currency, MAX_CODE_BYTES, fill), [MAX_SUM] * 3)
    return cell


def _funnel() -> Cell:
    cell = FunnelCell(len(STEPS))
    cell.reached, cell.unmatched = [1 << 40] * len(STEPS), [1 << 40] * len(STEPS)
    cell.abandoned = 1 << 40
    cell.from_first_us = [worst_sketch() for _ in STEPS[1:]]
    cell.from_previous_us = [worst_sketch() for _ in STEPS[1:]]
    return cell
