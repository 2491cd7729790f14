"""Statistics, ratios and the file of the benchmark's results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.results import Report, Result, Spread, load, merged, rounded, save, select, spread

VIT_B = {"model": "vit_b", "precision": "float32"}


def test_spread_interpolates_between_neighbours() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(median=2.5, lower=1.75, upper=3.25)
    assert spread([4.0, 1.0, 3.0, 2.0]).interquartile_range == 1.5
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_ratio_is_that_of_the_medians() -> None:
    assert Result("encode", VIT_B, (1.0, 2.0, 9.0), (8.0, 8.0, 100.0)).ratio == 4.0
    assert Result("encode", VIT_B, (1.0,)).ratio is None
    assert Result("encode", VIT_B, (), (1.0,)).ratio is None


def test_select_takes_a_part_and_what_its_case_must_have() -> None:
    results = [Result("encode", VIT_B), Result("encode", {"model": "sam_tiny"}), Result("click", VIT_B)]
    assert select(results, "encode") == results[:2]
    assert select(results, "encode", model="vit_b", precision="float32") == results[:1]
    assert select(results, "encode", precision="bfloat16") == []


def test_what_is_measured_anew_replaces_the_old() -> None:
    old = [Result("encode", VIT_B, (1.0,)), Result("click", VIT_B, (2.0,))]
    again = Result("encode", dict(reversed(VIT_B.items())), (3.0,))
    other = Result("encode", {"model": "vit_h"}, (4.0,))
    assert merged(old, [again, other]) == (again, old[1], other)


def test_a_node_that_picks_another_precision_replaces_what_it_picked_before() -> None:
    before, after = (Result("node", VIT_B | {"precision": name}) for name in ("float32", "bfloat16"))
    assert merged([before], [after]) == (after,)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(123456.0, 123000.0), (0.0012345, 0.00123), (0.0, 0.0), (float("inf"), float("inf"))],
)
def test_rounded(value: float, expected: float) -> None:
    assert rounded(value, 3) == expected


def test_a_saved_report_is_read_back(tmp_path: Path) -> None:
    result = Result("encode", VIT_B, (0.5, 0.25), (1.0,), {"frames/s": 2.0}, peak_mb=100.0)
    report = Report({"CPU": "some", "cores": 2}, (result,))
    path = tmp_path / "some.json"
    save(report, path)
    assert load(path) == report


def test_saved_figures_have_no_more_digits_than_a_clock(tmp_path: Path) -> None:
    save(Report({"rate": 1 / 3}, (Result("click", VIT_B, (2 / 3,)),)), tmp_path / "some.json")
    content = json.loads((tmp_path / "some.json").read_text())
    assert content["machine"]["rate"] == 0.333333
    assert content["results"][0]["ours_sec"] == [0.666667]
