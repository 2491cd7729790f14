"""Where logs would go, and why none can."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_ros.node.startup import why_no_log

NOWHERE = "/proc/nowhere"  # root cannot make anything there either


@pytest.mark.parametrize(
    ("variables", "made"),
    [
        ({"HOME": "{folder}"}, ".ros/log"),
        ({"HOME": "/proc/nowhere", "ROS_HOME": "{folder}/ros"}, "ros/log"),
        ({"HOME": "/proc/nowhere", "ROS_HOME": "/proc/nowhere", "ROS_LOG_DIR": "{folder}/a/b"}, "a/b"),
        ({"HOME": "{folder}", "ROS_LOG_DIR": "~/logs", "ROS_HOME": ""}, "logs"),
        ({"ROS_LOG_DIR": "{folder}/logs"}, "logs"),
    ],
)
def test_a_place_that_can_be_written_is_made_where_rcl_looks_for_it(
    tmp_path: Path, variables: dict[str, str], made: str
) -> None:
    environment = {name: value.format(folder=tmp_path) for name, value in variables.items()}
    assert why_no_log(environment) == ""
    assert (tmp_path / made).is_dir()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "neither ROS_LOG_DIR, ROS_HOME nor HOME is set"),
        ({"HOME": NOWHERE}, f"{NOWHERE}/.ros/log: No such file"),
        ({"HOME": "/", "ROS_LOG_DIR": NOWHERE}, f"{NOWHERE}: No such file"),
        ({"HOME": "/", "ROS_LOG_DIR": "/dev/null"}, "/dev/null: File exists"),
        ({"HOME": "/", "ROS_LOG_DIR": "/dev/null/logs"}, "/dev/null/logs: Not a directory"),
    ],
)
def test_why_no_log_can_be_written(variables: dict[str, str], reason: str) -> None:
    assert why_no_log(variables).startswith(reason)
