"""Writes the dashboards, Grafana's classic JSON, from their declarations in TOML beside this file:
`python -m deploy.grafana.generate`.

Panels are placed from left to right in lines of 24 columns, so that none overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from deploy.grafana.declarations import JOB, Dashboard, Json, Kind, Panel, Query, Row, read

FOLDER: Final = Path(__file__).resolve().parent
COLUMNS: Final = 24
SCHEMA_VERSION: Final = 39
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def texts() -> dict[Path, str]:
    """Return the text of each file of a dashboard."""
    return {
        FOLDER / "dashboards" / f"{path.stem}.json": json.dumps(_json(read(path)), indent=1) + "\n"
        for path in sorted(FOLDER.glob("*.toml"))
    }


def _json(dashboard: Dashboard) -> Json:
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["farehold"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        # One cursor for all panels.
        "graphTooltip": 1,
        "links": [_LINK],
        "annotations": {"list": _annotations()},
        "templating": {"list": _variables(dashboard.by_operation)},
        "panels": list(_placed(dashboard.rows)),
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    number = top = 0
    for row in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top += 1
        left = height = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                top, left, height = top + height, 0, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield _panel(panel, number, place)
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel, number: int, place: Json) -> Json:
    made = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": SOURCE,
        "targets": [
            _target(query, chr(ord("A") + index), panel.kind)
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
    }
    if panel.kind == "table":
        columns = {"excludeByName": dict.fromkeys(panel.hidden, True)}
        made["transformations"] = [{"id": "organize", "options": columns}]
    return made


def _target(query: Query, letter: str, kind: Kind) -> Json:
    over_time = kind == "timeseries"
    return {
        "refId": letter,
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.selected,
        "legendFormat": query.legend,
        "range": over_time,
        "instant": not over_time,
        "format": "table" if kind == "table" else "time_series",
        "exemplar": query.exemplars,
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": colour, "value": value} for value, colour in panel.steps]
    steps = steps or [{"color": "text"}]
    steps[0]["value"] = None
    defaults: Json = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [],
    }
    if panel.names:
        named = {
            value: {"text": text, "color": colour, "index": index}
            for index, (value, (text, colour)) in enumerate(panel.names.items())
        }
        defaults["mappings"] = [{"type": "value", "options": named}]
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind in ("timeseries", "bargauge"):
        defaults["min"] = 0
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 0,
            "showPoints": "never",
            # No line across a time of which nothing is known.
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.lines else "off"},
        }
    return defaults


def _overrides(panel: Panel) -> list[Json]:
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in panel.colours.items()
    ]


def _options(panel: Panel) -> Json:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            shown = {"displayMode": "table", "placement": "bottom", "showLegend": True}
            return {
                "legend": {**shown, "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {
                "reduceOptions": last,
                "colorMode": "value",
                "graphMode": "none",
                "textMode": "name" if panel.by_name else "auto",
            }
        case "bargauge":
            return {"reduceOptions": last, "displayMode": "basic", "orientation": "horizontal"}
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}


_LINK: Final = {
    "title": "Farehold",
    "type": "dashboards",
    "tags": ["farehold"],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
}


def _annotations() -> list[Json]:
    firing = Query('max by (rule, severity) (farehold_alerts{state="firing"}) == 1')
    deployed = Query("max by (version) (farehold_deployment_timestamp_seconds) * 1000")
    shared = {"datasource": SOURCE, "enable": True, "step": "60s"}
    return [
        {
            "name": "Firing alerts",
            **shared,
            "iconColor": "red",
            "expr": firing.selected,
            "titleFormat": "{{rule}}",
            "textFormat": "{{severity}}",
        },
        {
            "name": "Deployments",
            **shared,
            "iconColor": "blue",
            "expr": deployed.selected,
            "titleFormat": "Deployment {{version}}",
            # The value is the time, in milliseconds.
            "useValueForTime": True,
        },
    ]


def _variables(by_operation: bool) -> list[Json]:
    found = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _values("job", "Job", "label_values(farehold_build_info, job)"),
    ]
    if by_operation:
        query = f"label_values(farehold_db_queries_total{{{JOB}}}, operation)"
        found.append(_values("operation", "Operation", query))
    return found


def _values(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        # As its editor writes it: 1 is a query for values of a label.
        "query": {
            "qryType": 1,
            "query": query,
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        },
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        # At each change of the time range, since operations come and go.
        "refresh": 2,
        "sort": 1,
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.write_text(text)
