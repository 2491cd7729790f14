"""The benchmark's Markdown, picture and command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from benchmark.__main__ import chosen_precisions, kept, main, node_models, parse, write
from benchmark.machine import file_name, matrix_rate, pays
from benchmark.report import markdown, milliseconds, number, part_table, table
from benchmark.results import Report, Result, load, save

MACHINE: dict[str, Any] = {
    "CPU": "Some CPU @ 2 GHz",
    "device": "CPU",
    "device type": "cpu",
    "torch threads": 2,
    "torch": "2.10",
    "matrix products in float32 (GFLOP/s)": 100.0,
    "matrix products in bfloat16 (GFLOP/s)": 10.0,
}
VIT_B = {"model": "vit_b", "precision": "float32"}
ONE_OF_EACH = (
    Result("encode", VIT_B, (9.0, 9.5), (18.0, 19.0), {"times the floor": 2.5}, peak_mb=1234.5),
    Result("click", {**VIT_B, "masks": "the best"}, (0.02,), (0.06,)),
    Result("prompts", {**VIT_B, "prompts": "1"}, (0.02,), (0.06,)),
    Result("prompts", {**VIT_B, "prompts": "2"}, (0.03,), (0.12,)),
    Result("preprocess", {**VIT_B, "image": "1280 x 720", "input": "1024"}, (0.003,), (0.012,)),
    Result("messages", {"image": "1280 x 720", "conversion": "some", "against": ""}, (0.001,)),
    Result("node", {"model": "sam_tiny", "camera": "still"}, (0.03,), (), {"decode (ms)": 20.0}),
)


def test_table() -> None:
    assert table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (2, "2"),
        ("x", "x"),
        (12345.6, "12346"),
        (12.345, "12.3"),
        (0.00012345, "0.000123"),
        (0.0, "0"),
    ],
)
def test_number(value: object, expected: str) -> None:
    assert number(value) == expected


def test_milliseconds_tell_the_spread() -> None:
    assert milliseconds([0.001, 0.002, 0.003]) == "2 (IQR 1)"
    assert milliseconds([]) == ""


def test_a_part_has_the_columns_that_its_results_have() -> None:
    results = [
        Result("encode", {"model": "a"}, (0.5,), (1.0,), {"frames/s": 2.0}),
        Result("encode", {"model": "b", "weights": "random"}, (0.25,), (), {"differs by": 1e-6}),
        Result("click", {"model": "a"}, (0.1,)),
    ]
    assert part_table(results, "encode").splitlines() == [
        "| model | weights | sam_ros (ms) | other (ms) | ratio | frames/s | differs by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| a |  | 500 (IQR 0) | 1000 (IQR 0) | 2x | 2 |  |",
        "| b | random | 250 (IQR 0) |  |  |  | 1e-06 |",
    ]
    assert part_table(results, "click").splitlines()[0] == "| model | sam_ros (ms) |"


def test_markdown_holds_machine_goals_and_the_parts_that_were_measured() -> None:
    text = markdown(Report(MACHINE, ONE_OF_EACH[:1]), "some")
    assert "| CPU | Some CPU @ 2 GHz |" in text
    assert "| peak memory (MB) | 1234 |" in text
    assert "![Results](some.png)" in text
    assert "| at least 2x | 2x | yes |" in text
    assert "Matrix products in bfloat16 are slower" in text
    assert "## Encode" in text
    assert "## The node" not in text


def test_a_report_is_written_and_its_tables_are_rebuilt_from_the_numbers(tmp_path: Path) -> None:
    write(Report(MACHINE, ONE_OF_EACH), tmp_path / "new" / "v1.0")
    made = {suffix: tmp_path / "new" / f"v1.0.{suffix}" for suffix in ("json", "md", "png")}
    assert load(made["json"]).results == ONE_OF_EACH
    assert cv2.imread(str(made["png"])) is not None
    before = made["md"].read_text()
    made["md"].unlink()
    assert main(["--from", str(made["json"])]) == 0
    assert made["md"].read_text() == before


def test_results_are_added_only_to_those_of_the_same_machine(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    assert kept(path, MACHINE) == ()
    save(Report(MACHINE, ONE_OF_EACH), path)
    assert kept(path, {**MACHINE, "date": "later"}) == ONE_OF_EACH
    with pytest.raises(SystemExit, match="another machine"):
        kept(path, {**MACHINE, "torch threads": 4})


def test_files_are_named_after_the_device() -> None:
    assert file_name(MACHINE) == "some_cpu_2_ghz_2_threads"
    assert file_name({**MACHINE, "device": "NVIDIA H200", "device type": "cuda"}) == "nvidia_h200"


def test_rates_are_in_the_units_of_the_device() -> None:
    assert matrix_rate(MACHINE, "bfloat16") == 10e9
    gpu = {"device type": "cuda", "matrix products in bfloat16 (TFLOP/s)": 790.0}
    assert matrix_rate(gpu, "bfloat16") == 790e12
    assert matrix_rate(gpu, "float16") is None
    assert pays("bfloat16", {**gpu, "matrix products in float32 (TFLOP/s)": 50.0})
    assert not pays("bfloat16", MACHINE)


def test_bfloat16_is_left_out_where_an_official_model_would_be_slower_in_it() -> None:
    assert not parse([]).precisions
    fast = {**MACHINE, "matrix products in bfloat16 (GFLOP/s)": 500.0}
    assert chosen_precisions("vit_b", (), MACHINE) == ("float32",)
    assert chosen_precisions("vit_b", (), fast) == ("float32", "bfloat16")
    assert chosen_precisions("sam_tiny", (), MACHINE) == ("float32", "bfloat16")
    assert chosen_precisions("vit_b", ("bfloat16",), MACHINE) == ("bfloat16",)


def test_the_node_runs_large_models_only_on_a_gpu() -> None:
    assert node_models(["sam_tiny", "vit_b"], torch.device("cpu")) == ["sam_tiny"]
    assert node_models(["sam_tiny", "vit_b"], torch.device("cuda")) == ["sam_tiny", "vit_b"]


def test_everything_is_measured_by_default() -> None:
    arguments = parse([])
    assert arguments.parts == [
        *("encode", "click", "prompts", "everything", "following", "remembering", "preprocess"),
        *("breakdown", "lifting", "messages", "node", "idle", "jitter"),
    ]
    assert arguments.models == ["sam_tiny", "vit_b"]
