"""The command line of ``bag``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sam_ros.errors import InvalidParameterError
from sam_ros.node.parameters import Parameters
from sam_ros.tools.bag.arguments import EXAMPLE, PARAMETERS, parse_arguments
from sam_ros.tools.bag.prompts import read_prompt_file

LEAST = ["in", "--prompts", "prompts.yaml", "--output", "out"]


def test_the_least_that_is_given_has_the_nodes_defaults() -> None:
    job = parse_arguments(LEAST)
    assert (job.source, job.output) == (Path("in").resolve(), Path("out").resolve())
    assert (job.topic, job.node, job.with_images, job.video) == ("", "/sam", False, None)
    assert job.parameters == Parameters()


def test_options_are_the_nodes_parameters() -> None:
    given = ["--model-type", "vit_b", "--device", "cpu", "--precision", "float32", "--threads", "3"]
    given += ["--no-multimask-output", "--min-predicted-iou", "0.5", "--stamp-tolerance", "1"]
    job = parse_arguments([*LEAST, *given, "--node", "robot/sam", "--images", "--video", "x.mp4"])
    assert job.parameters == Parameters(
        model_type="vit_b",
        device="cpu",
        precision="float32",
        threads=3,
        multimask_output=False,
        min_predicted_iou=0.5,
        stamp_tolerance=1.0,
    )
    assert (job.node, job.with_images, job.video) == ("/robot/sam", True, Path("x.mp4").resolve())


def test_what_launch_appends_is_no_argument() -> None:
    assert parse_arguments([*LEAST, "--ros-args", "-r", "a:=b"]) == parse_arguments(LEAST)


def test_values_out_of_range_are_refused_as_by_the_node() -> None:
    with pytest.raises(InvalidParameterError, match="min_predicted_iou must be from"):
        parse_arguments([*LEAST, "--min-predicted-iou", "2"])


@pytest.mark.parametrize("argv", [LEAST[:3], [*LEAST, "--model-type", "vit_q"], [*LEAST, "--promts", "x"]])
def test_a_line_that_is_not_understood_ends_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_arguments(argv)
    assert raised.value.code == 2


def test_help_names_every_option_and_its_example_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    printed = capsys.readouterr().out
    for name in ("output", "prompts", "topic", "node", "images", "video", *PARAMETERS):
        assert f"--{name.replace('_', '-')}" in printed
    example = EXAMPLE.split("\n\n")[1]
    path = tmp_path / "prompts.yaml"
    path.write_text(example)
    file = read_prompt_file(path)
    assert (file.topic, file.size_hw, len(file.prompts)) == ("/detector/detections", (360, 640), 2)


def test_what_decides_the_output_is_asked_for(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("topic: /a")
    job = replace(parse_arguments(LEAST), prompt_path=prompts)
    asked = job.asked()
    others = [
        replace(job, topic="/b"),
        replace(job, node="/b"),
        replace(job, with_images=True),
        replace(job, source=Path("/b")),
        replace(job, parameters=Parameters(precision="float32")),
    ]
    assert all(other.asked() != asked for other in others)
    assert replace(job, video=Path("/b")).asked() == replace(job, output=Path("/b")).asked() == asked
    prompts.write_text("topic: /b")
    assert job.asked() != asked
