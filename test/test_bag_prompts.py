"""The file of prompts: what it says, and what is said of what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam_ros.tools.bag.prompts import FilePrompt, PromptFile, PromptFileError, read_prompt_file

WHOLE = """\
topic: /detector/detections
image_size: [640, 360]
prompts:
  - at: 0
    id: cup
    class: crockery
    points: [[320, 240.5], [3, 4]]
    background: [[400, 240]]
  - stamp: 1718181818.123456789  # more digits than a float has
    box: [200, 150, 440, 330]
"""


def read(folder: Path, text: str) -> PromptFile:
    path = folder / "prompts.yaml"
    path.write_text(text)
    return read_prompt_file(path)


def test_a_file_says_what_is_meant_when_and_by_what(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)
    assert (file.topic, file.size_hw) == ("/detector/detections", (360, 640))
    name = str(tmp_path / "prompts.yaml")
    assert file.prompts == (
        FilePrompt(
            f"{name}, line 4",
            0,
            False,
            "cup",
            "crockery",
            points=((320.0, 240.5), (3.0, 4.0)),
            background=((400.0, 240.0),),
        ),
        FilePrompt(f"{name}, line 9", 1718181818123456789, True, box_xyxy=(200.0, 150.0, 440.0, 330.0)),
    )


def test_a_topic_alone_is_enough(tmp_path: Path) -> None:
    assert read(tmp_path, "topic: /detections") == PromptFile("/detections", (0, 0), ())


PROMPT = "prompts:\n  - at: 1\n    "


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", None, "is empty"),
        ("prompts: [", 1, "is no YAML"),
        ("- 1", 1, "the file must be made of fields, such as topic: ..."),
        ("{}", 1, "there is nothing to segment"),
        ("prompts: []", 1, "prompts must be a list with something in it"),
        ("prompt:\n  - at: 1", 1, "the file has no field 'prompt'; did you mean prompts?"),
        ("topic: /a\ntopic: /b", 2, "the file has the field topic twice"),
        ("topic: [/a]", 1, "topic must be a single value"),
        ("topic: /a\nimage_size: [640]", 2, "image_size must be [width, height]"),
        ("topic: /a\nimage_size: [640, 0.5]", 2, "image_size must be [width, height] in whole pixels"),
        (PROMPT + "point: [[1, 2]]", 3, "a prompt has no field 'point'; did you mean points?"),
        (PROMPT + "qqq: 1", 3, "a prompt has no field 'qqq'; there are at, stamp, id, class"),
        (PROMPT + "id: a", 2, "a prompt needs points, such as [[320, 240]], or a box"),
        (PROMPT + "background: [[1, 2]]", 2, "a prompt needs points"),
        (PROMPT + "stamp: 2\n    points: [[1, 2]]", 2, "a prompt needs either at"),
        ("prompts:\n  - points: [[1, 2]]", 2, "a prompt needs either at"),
        ("prompts:\n  - at: soon\n    points: [[1, 2]]", 2, "at must be a number of seconds, got 'soon'"),
        ("prompts:\n  - at: -1\n    points: [[1, 2]]", 2, "at must be seconds from 0 on, got -1"),
        ("prompts:\n  - stamp: .inf\n    points: [[1, 2]]", 2, "stamp must be a number of seconds"),
        ("prompts:\n  - stamp: Infinity\n    points: [[1, 2]]", 2, "stamp must be seconds from 0 on"),
        ("prompts:\n  - stamp: 1e999999\n    points: [[1, 2]]", 2, "stamp must be seconds from 0 on"),
        (PROMPT + "points: [1, 2]", 3, "points must be a list of points, such as [[320, 240]]"),
        (PROMPT + "points: [[1, 2], [3]]", 3, "a point of points must be [x, y]"),
        (PROMPT + "points: [[1, here]]", 3, "y must be a number, got 'here'"),
        (PROMPT + "points: [[1, nan]]", 3, "y must be finite, got nan"),
        (PROMPT + "box: [1, 2, 3]", 3, "box must be [left, top, right, bottom]"),
        (PROMPT + "box: [5, 2, 3, 9]", 3, "got [5, 2, 3, 9], which is empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, text: str, line: int | None, problem: str
) -> None:
    with pytest.raises(PromptFileError) as raised:
        read(tmp_path, text)
    message = str(raised.value)
    assert problem in message and message.startswith(str(tmp_path / "prompts.yaml"))
    assert line is None or f"line {line}" in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match=r"nothing\.yaml cannot be read"):
        read_prompt_file(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"topic: \xff")
    with pytest.raises(PromptFileError, match=r"latin\.yaml"):
        read_prompt_file(tmp_path / "latin.yaml")
