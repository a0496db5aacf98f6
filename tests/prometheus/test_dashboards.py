"""Dashboards are what their declarations say, and keep the rules that Grafana does not check."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from deploy.grafana import generate
from tests.prometheus.dashboards import FILES, VARIABLES, dashboard, expressions, panels

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Those of Grafana's list that a dashboard uses; an unknown one shows as text behind the number.
UNITS = {"bytes", "dateTimeAsIso", "none", "ops", "percentunit", "reqps", "s", "short"}
SELECTED = re.compile(r"\b(?:farehold_|grpc_server_|process_|python_gc_|job_[a-z]+:)[\w:]+(.?)")
RANGE = re.compile(r"\b(rate|increase)\([^\[]*\[([^\]]+)\]")

pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_the_file_is_what_its_declaration_says(path: Path) -> None:
    made = generate.texts()
    assert made.keys() == set(FILES)
    assert path.read_text() == made[path], "run `make dashboards`"


def test_it_is_provisioned_as_it_is(path: Path) -> None:
    found = dashboard(path)
    assert re.fullmatch(r"farehold-[a-z]+", found["uid"])
    assert (found["schemaVersion"], found["timezone"], found["refresh"]) == (39, "utc", "30s")
    assert found["graphTooltip"] == 1
    # Those are of an export, and of no use to provisioning.
    assert not {"__inputs", "__requires", "id"} & found.keys()
    assert [each["name"] for each in found["annotations"]["list"]] == [
        "Firing alerts",
        "Deployments",
    ]


def test_every_panel_says_what_it_shows(path: Path) -> None:
    found = panels(path)
    assert len(found) > 20
    assert len({panel["title"] for panel in found}) == len(found)
    for panel in found:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        several = len(panel["targets"]) > 1
        for target in panel["targets"]:
            assert not several or target["legendFormat"] != "__auto", panel["title"]


def test_panels_have_ids_of_their_own_and_no_two_overlap(path: Path) -> None:
    found = dashboard(path)["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    assert not [panel for panel in found if panel.get("collapsed")]
    places = [panel["gridPos"] for panel in found]
    for one in places:
        assert 0 <= one["x"] < one["x"] + one["w"] <= 24
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_the_data_source_is_chosen_in_one_place(path: Path) -> None:
    found = dashboard(path)
    sources = [target["datasource"] for panel in panels(path) for target in panel["targets"]]
    sources += [panel["datasource"] for panel in panels(path)]
    sources += [each["datasource"] for each in found["annotations"]["list"]]
    first, *others = found["templating"]["list"]
    assert (first["name"], first["type"]) == ("datasource", "datasource")
    sources += [each["datasource"] for each in others]
    assert [each for each in sources if each != SOURCE] == []


def test_every_selector_names_the_job(path: Path) -> None:
    for where, expression in expressions(path):
        selected = list(SELECTED.finditer(expression))
        assert selected, where
        for found in selected:
            assert expression[found.end(1) - 1 :].startswith('{job=~"$job"'), (where, found[0])


def test_variables_are_declared(path: Path) -> None:
    declared = {each["name"] for each in dashboard(path)["templating"]["list"]}
    used = {
        name
        for _, expression in expressions(path)
        for name in re.findall(r"\$\{?(\w+)", expression)
    }
    assert used <= declared | {"__rate_interval"}
    assert declared - {"datasource"} <= used <= VARIABLES.keys()


def test_rates_go_by_the_zoom_and_counts_by_a_fixed_time(path: Path) -> None:
    """Else a rate shows nothing when zoomed out, and a count another number at each zoom."""
    for where, expression in expressions(path):
        for function, time in RANGE.findall(expression):
            fixed = re.fullmatch(r"\d+[mh]", time) is not None
            assert fixed if function == "increase" else time == "$__rate_interval", where
