"""How far a run has come: kept and read again, and nothing in the file is executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_model import FakeModel, embedded_frame

from sam_ros.core.objects import ObjectTable, Point, ProgramPrompt
from sam_ros.core.segmenter import Options, Segmented, Segmenter
from sam_ros.tools.bag.progress import FILE, Progress, Saved, forget, load, save
from sam_ros.tools.bag.source import BagError

IMAGE = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)


def follow(segmenter: Segmenter, table: ObjectTable, sequence: int) -> Segmented:
    segmenter.see(sequence, IMAGE)
    return segmenter.followed(table, Options(), embedded_frame(sequence, 100 * sequence))


def progress_after_work() -> Progress:
    """With an object that was followed."""
    progress = Progress(position=3, prompts_taken=1, depends_on_all=True)
    segmenter = Segmenter(FakeModel(), follower=progress.follower)
    segmenter.see(1, IMAGE)
    prompt = ProgramPrompt("cup", "crockery", (Point(3, 1, 1),), (1.0, 1.0, 5.0, 5.0))
    prompted = segmenter.prompted(
        ObjectTable(),
        prompt,
        embedded_frame(1, 100),
        Options(),
        follows=True,
        wants_candidates=lambda: False,
    )
    result = follow(segmenter, prompted.table, 2)
    progress.table = result.table
    progress.records.add(result.table, result.outputs)
    progress.dropped["damaged image"] += 2
    progress.refused.append("no")
    return progress


def test_what_is_kept_is_what_is_read(tmp_path: Path) -> None:
    progress = progress_after_work()
    save(tmp_path, Saved({"bag": "in"}, progress, [{"version": 8}]))
    saved = load(tmp_path)
    assert saved is not None and saved.asked == {"bag": "in"} and saved.parts == [{"version": 8}]
    again = saved.progress
    assert (again.position, again.prompts_taken, again.depends_on_all) == (3, 1, True)
    assert again.dropped == progress.dropped and again.refused == ["no"]
    assert again.records.all == progress.records.all and len(again.records.all) == 1
    (before,), (after,) = progress.table.objects, again.table.objects
    np.testing.assert_array_equal(after.low_res_logits, before.low_res_logits)
    assert (after.id, after.points, after.box_xyxy) == (before.id, before.points, before.box_xyxy)
    assert after.logits_sequence == before.logits_sequence == 2


def test_work_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    progress = progress_after_work()
    save(tmp_path, Saved({}, progress, []))
    saved = load(tmp_path)
    assert saved is not None
    results = [
        follow(Segmenter(FakeModel(), follower=one.follower), one.table, 3)
        for one in (progress, saved.progress)
    ]
    (before,), (after,) = (result.table.objects for result in results)
    assert before.is_lost == after.is_lost and before.logits_sequence == after.logits_sequence
    np.testing.assert_array_equal(after.low_res_logits, before.low_res_logits)


def test_without_a_file_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    assert load(tmp_path) is None and load(tmp_path / "nowhere") is None
    save(tmp_path, Saved({}, Progress(), []))
    forget(tmp_path)
    forget(tmp_path)
    assert load(tmp_path) is None


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("attribute", ["asked", "progress"])
def test_nothing_in_the_file_is_executed(tmp_path: Path, attribute: str) -> None:
    values: dict[str, Any] = {"asked": {}, "progress": Progress(), attribute: Malicious(tmp_path / "done")}
    save(tmp_path, Saved(**values, parts=[]))
    with pytest.raises(BagError, match=r"cannot be read.*it holds .*Remove .* to begin anew"):
        load(tmp_path)
    assert not (tmp_path / "done").exists()


def test_a_function_behind_a_name_that_is_allowed_is_not_reached(tmp_path: Path) -> None:
    program = b"csam_ros.core.follower\nthreading.Lock\n."
    (tmp_path / FILE).write_bytes(program)
    with pytest.raises(BagError, match="it holds"):
        load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps({"position": 3})])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(BagError, match=r"Remove .* to begin anew"):
        load(tmp_path)
