"""Both formats as the parser of prometheus-client reads them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from servicekit.exposition.declare import Buckets, Exemplar, Family, Metric, once
from servicekit.exposition.writer import END, MAX_UNUSED, Writer

CALLS = Metric("shop_calls_total", "counter", "Calls.", ("who", "what"))
DEPTH = Metric("shop_depth", "gauge", 'How "deep" it is:\nback\\slash.')
BUILD = Metric("shop_build_info", "info", "Build.", ("version",))
TIMES = Metric("shop_time_seconds", "histogram", "Times.", ("who",), (0.1, 1.0))

HOSTILE = ("<script>", "[red]x", 'a"b', "c\\d", "e\nf", "g\\nh", 'x"} 1\ny{', "\x1b[31m", "Ω", "")


def read(families: list[Family]) -> tuple[dict[str, Any], dict[str, Any]]:
    written = Writer().write(families)
    read_text: Any = text_parser.text_string_to_metric_families
    read_openmetrics: Any = openmetrics_parser.text_string_to_metric_families
    return (
        {family.name: family for family in read_text(written.text)},
        {family.name: family for family in read_openmetrics(written.openmetrics + END)},
    )


def test_each_type_is_read_in_both_formats() -> None:
    families = [
        Family(CALLS, {("a", "b"): 3, ("a", "c"): 0.5}),
        once(DEPTH, -2),
        Family(BUILD, {("1.0",): 1}),
        Family(TIMES, {("a",): Buckets([1, 3, 4], 7.25)}),
    ]
    for found in read(families):
        assert found["shop_calls"].type == "counter"
        assert {
            (each.name, each.labels["what"], each.value) for each in found["shop_calls"].samples
        } == {
            ("shop_calls_total", "b", 3),
            ("shop_calls_total", "c", 0.5),
        }
        assert found["shop_depth"].documentation == DEPTH.help
        times = {
            (each.name.removeprefix("shop_time_seconds"), each.labels.get("le")): each.value
            for each in found["shop_time_seconds"].samples
        }
        assert times == {
            ("_bucket", "0.1"): 1,
            ("_bucket", "1.0"): 3,
            ("_bucket", "+Inf"): 4,
            ("_count", None): 4,
            ("_sum", None): 7.25,
        }
    text, openmetrics = read(families)
    assert text["shop_build_info"].type == "gauge"
    assert openmetrics["shop_build"].type == "info"


def test_text_from_outside_is_one_label_of_one_sample() -> None:
    samples = {(text, str(at)): at for at, text in enumerate(HOSTILE)}
    for found in read([Family(CALLS, samples)]):
        read_back = {
            (each.labels["who"], each.labels["what"]): each.value
            for each in found["shop_calls"].samples
        }
        assert read_back == samples


def test_an_exemplar_is_in_openmetrics_alone() -> None:
    exemplar = Exemplar("0af7651916cd43dd8448eb211c80319c", 0.7, 1_800_000_000.25)
    text, openmetrics = read([Family(TIMES, {("a",): Buckets([1, 2, 2], 1.0, {1: exemplar})})])
    assert all(each.exemplar is None for each in text["shop_time_seconds"].samples)
    (marked,) = [each for each in openmetrics["shop_time_seconds"].samples if each.exemplar]
    assert marked.labels["le"] == "1.0"
    assert (marked.exemplar.labels, marked.exemplar.value) == ({"trace_id": exemplar.trace_id}, 0.7)
    assert float(marked.exemplar.timestamp) == exemplar.time_s


def test_numbers_that_are_not_finite_are_read_back() -> None:
    for value in (math.inf, -math.inf, math.nan, 1e300, 2**53 - 1):
        for found in read([once(DEPTH, value)]):
            (sample,) = found["shop_depth"].samples
            assert sample.value == value or (sample.value != sample.value and value != value)


def test_a_family_without_samples_is_left_out() -> None:
    assert Writer().write([Family(CALLS, {})]) == ("", "")


def test_what_is_kept_of_labels_is_bounded_and_the_lines_stay_the_same() -> None:
    writer = Writer()
    for number in range(3 * MAX_UNUSED):
        writer.write([Family(CALLS, {(str(number), ""): 1, ("a", "b"): number})])
    kept = writer._kept[CALLS.name]
    assert len(kept) <= MAX_UNUSED + 5
    last = Family(CALLS, {("a", "b"): 1})
    assert writer.write([last]) == Writer().write([last])


@pytest.mark.parametrize(
    "made",
    [
        lambda: Metric("shop_calls", "counter", "."),
        lambda: Metric("shop_depth_total", "gauge", "."),
        lambda: Metric("Shop", "gauge", "."),
        lambda: Metric("shop", "gauge", ".", ("le",)),
        lambda: Metric("shop", "gauge", ".", ("a-b",)),
        lambda: Metric("shop", "gauge", ".", (), (1.0,)),
        lambda: Metric("shop", "histogram", "."),
        lambda: Metric("shop", "histogram", ".", (), (2.0, 1.0)),
    ],
)
def test_a_declaration_that_no_format_has_a_place_for_is_refused(made: Any) -> None:
    with pytest.raises(ValueError, match=r"shop|Shop"):
        made()


def test_values_that_do_not_fit_the_declaration_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        Writer().write([Family(CALLS, {("a",): 1})])
    with pytest.raises(ValueError, match="bounds"):
        Writer().write([Family(TIMES, {("a",): Buckets([1, 2], 1.0)})])
