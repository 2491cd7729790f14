"""From one bag to another, with the shipped weights."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from bag_rig import (
    LATENCY_NS,
    RADIUS,
    START_NS,
    Written,
    images,
    mono16_msg,
    place,
    read_bag,
    scene,
    stamp_of,
    truth,
    write_bag,
)
from node_rig import SECOND, compressed_msg, detection, detections, image_msg, pixels_of, stamp_ns
from random_models import MINIATURE_HIERA, save_random_sam
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from upstream_sam2 import needs_transformers

from sam_ros.errors import SamRosError
from sam_ros.node.parameters import Parameters
from sam_ros.predictor import Predictor, load_predictor
from sam_ros.tools.bag import job as job_module
from sam_ros.tools.bag.arguments import Job
from sam_ros.tools.bag.job import draw, run
from sam_ros.tools.bag.source import BagError

COUNT = 8
TOPICS = ["/sam/labels", "/sam/mask", "/sam/segments"]
DEADLINE_SEC = 240.0


def prompts_of(when: str, number: int) -> str:
    """A file with one click on the ball, where the scene of that number has it."""
    return f"prompts:\n  - {{{when}, id: ball, class: toy, points: [{list(place(number))}]}}\n"


def as_stamp(stamp_ns: int) -> str:
    return f"stamp: {stamp_ns // SECOND}.{stamp_ns % SECOND:09}"


PROMPTS = prompts_of("at: 0.1", 1)


@cache
def predictor() -> Predictor:
    return load_predictor("sam_tiny", device="cpu", precision="float32")


def load(*_: Any) -> Predictor:
    return predictor()


def raw(numbers: range = range(COUNT)) -> list[Any]:
    return [image_msg(scene(number), "rgb8", stamp_of(number)) for number in numbers]


class Rig:
    """A folder with a bag in it, and a job on that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.prompts(PROMPTS)
        self.job = Job(
            folder / "in", self.out, folder / "prompts.yaml", "", "/sam", False, None, Parameters()
        )

    def prompts(self, text: str) -> None:
        (self.folder / "prompts.yaml").write_text(text)

    def run(self, stop: Event | None = None, **changes: Any) -> str | None:
        return run(replace(self.job, **changes), stop or Event(), load)

    def draw(self, stop: Event | None = None) -> str | None:
        return draw(self.job, self.folder / "video.mp4", stop or Event())

    def found(self, output: Path | None = None) -> dict[str, list[tuple[int, Any]]]:
        return read_bag(output or self.out)

    def count(self, output: Path) -> int:
        """How many images are answered in a bag."""
        return len(read_bag(output).get("/sam/mask", ()))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def iou(mask: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def check_ball(found: dict[str, list[tuple[int, Any]]], numbers: range = range(COUNT)) -> None:
    """That the ball is followed from its prompt on, and all messages belong to the images."""
    assert sorted(found) == TOPICS
    for topic, some in found.items():
        assert [time_ns for time_ns, _ in some] == [stamp_of(n) + LATENCY_NS for n in numbers], topic
        assert [stamp_ns(message) for _, message in some] == [stamp_of(n) for n in numbers], topic
    for number, (_, mask), (_, labels), (_, segments) in zip(
        numbers, found["/sam/mask"], found["/sam/labels"], found["/sam/segments"], strict=True
    ):
        ids = [one.id for one in segments.detections]
        assert ids == (["ball"] if number >= 1 else [])
        np.testing.assert_array_equal(pixels_of(mask) > 0, pixels_of(labels) == 1)
        if number >= 1:
            assert iou(pixels_of(mask) > 0, truth(number)) > 0.8, number
            assert segments.detections[0].results[0].hypothesis.class_id == "toy"


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_clicked_object_is_followed_through_the_bag(rig: Rig, storage: StoragePlugin) -> None:
    write_bag(rig.folder / "in", images(raw()), storage)
    report = rig.run()
    check_ball(rig.found())
    assert report is not None
    (_, row, answered) = report.splitlines()
    assert row.startswith("ball    toy    7 of 7") and row.endswith("0.10 s")
    assert answered == "8 images are answered"
    assert not list(rig.out.glob(".*"))


def test_compressed_images_in_a_compressed_bag_are_read(rig: Rig) -> None:
    messages = [compressed_msg(scene(number), ".png", stamp_of(number)) for number in range(COUNT)]
    topic = "/camera/image/compressed"
    write_bag(rig.folder / "in", images(messages, topic), compression=CompressionMode.MESSAGE)
    rig.run()
    check_ball(rig.found())


def boxes(number: int) -> Written:
    """What a detector says of an image."""
    made = detection("ball", place(number), (2 * RADIUS, 2 * RADIUS), "toy")
    return ("/found", stamp_of(number) + 5 * LATENCY_NS, detections(stamp_of(number), made))


def test_detections_of_the_bag_prompt_on_their_images(rig: Rig) -> None:
    write_bag(rig.folder / "in", [*images(raw()), boxes(1), boxes(4)])
    rig.prompts("topic: /found")
    rig.run()
    check_ball(rig.found())


LAPS = ((0, 0), (1, 1), (2, 2), (3, 3), (0, 12), (1, 13))
"""Of each image of a simulation that is reset: its second in that, and the number of its scene."""


def of_simulation(begins_sec: int) -> list[Written]:
    """Two laps, the second of which begins at that second: images, and where a detector sees the ball.

    The detector is slow: what it says of the last image of a lap is recorded after the next one began.
    """
    written: list[Written] = []
    for position, (second, number) in enumerate(LAPS):
        stamp = START_NS + (second + (begins_sec if number >= 12 else 0)) * SECOND
        recorded_ns = START_NS + position * SECOND
        box = detection("ball", place(number), (2 * RADIUS, 2 * RADIUS), "toy")
        written.append(("/camera/image", recorded_ns, image_msg(scene(number), "rgb8", stamp)))
        written.append(("/found", recorded_ns + SECOND + LATENCY_NS, detections(stamp, box)))
    return sorted(written, key=lambda one: one[1])


@pytest.mark.parametrize("begins_sec", [0, -100])
def test_where_stamps_jump_back_detections_prompt_on_images_of_their_lap(rig: Rig, begins_sec: int) -> None:
    write_bag(rig.folder / "in", of_simulation(begins_sec))
    rig.prompts("topic: /found")
    report = rig.run()
    found = rig.found()
    for (_, number), (_, mask), (_, segments) in zip(
        LAPS, found["/sam/mask"], found["/sam/segments"], strict=True
    ):
        assert [one.id for one in segments.detections] == ["ball"], number
        assert iou(pixels_of(mask) > 0, truth(number)) > 0.8, number
    assert report is not None and report.splitlines()[-1] == f"{len(LAPS)} images are answered"


def test_a_stamp_of_the_second_lap_prompts_in_it(rig: Rig) -> None:
    write_bag(rig.folder / "in", of_simulation(-100))
    rig.prompts(prompts_of(as_stamp(START_NS - 100 * SECOND), 12))
    rig.run()
    shown = [[one.id for one in segments.detections] for _, segments in rig.found()["/sam/segments"]]
    assert shown == [[], [], [], [], ["ball"], ["ball"]]


def test_where_stamps_jump_back_a_run_that_is_stopped_goes_on_in_its_lap(rig: Rig) -> None:
    write_bag(rig.folder / "in", of_simulation(0))
    rig.prompts("topic: /found")
    report, again, reports = rig.run(), rig.folder / "again", []
    for asked in range(30, 400, 10):
        reports.append(rig.run(StopAfter(asked), output=again))
        if reports[-1] is not None:
            break
    assert reports[-1] == report and rig.found(again) == rig.found()
    assert len(list(again.glob("*.mcap"))) > 1


def test_images_are_copied_as_they_are(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw()))
    rig.run(with_images=True)
    found = rig.found()
    copied = found.pop("/camera/image")
    assert [message for _, message in copied] == raw()
    assert [time_ns for time_ns, _ in copied] == [stamp_of(n) + LATENCY_NS for n in range(COUNT)]
    check_ball(found)


def test_topics_are_those_of_the_node_that_is_named(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw(range(1))))
    rig.run(node="/left/sam")
    assert sorted(rig.found()) == [topic.replace("/sam", "/left/sam") for topic in TOPICS]


class StopAfter(Event):
    """Set by itself once it was asked so often."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._left = count

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0 or super().is_set()


@pytest.mark.parametrize("deep", [False, True])
def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(rig: Rig, deep: bool) -> None:
    write_bag(rig.folder / "in", images([mono16_msg(n) for n in range(COUNT)] if deep else raw()))
    rig.run()
    for asked in range(20, 400, 60):
        if rig.run(StopAfter(asked), output=rig.folder / "again") is not None:
            break
        if (rig.folder / "again" / "metadata.yaml").exists():
            count = rig.count(rig.folder / "again")
            assert rig.found(rig.folder / "again") == {t: some[:count] for t, some in rig.found().items()}
    assert rig.found(rig.folder / "again") == rig.found()
    assert len(list((rig.folder / "again").glob("*.mcap"))) > 1


@needs_transformers
def test_that_a_memory_is_not_used_is_said(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    write_bag(rig.folder / "in", images(raw(range(2))))
    weights = rig.folder / "miniature.safetensors"
    save_random_sam(MINIATURE_HIERA, weights)
    with caplog.at_level("INFO"):
        rig.run()
        assert "followed by motion" not in caplog.text
        job = replace(rig.job, output=rig.folder / "other", parameters=Parameters(model_type="sam2.1_tiny"))
        run(job, Event(), lambda *_: load_predictor("sam_tiny", weights))
    assert caplog.text.count("objects are followed by motion: sam2.1_tiny has a memory") == 1


def test_a_run_that_is_killed_goes_on_from_its_last_file(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bag(rig.folder / "in", images(raw()))
    rig.run()
    monkeypatch.setattr(job_module, "FILE_SEC", 0.0)  # every image in a file of its own
    again = rig.folder / "again"
    rig.run(StopAfter(60), output=again)
    files = sorted(again.glob("*.mcap"))
    assert 1 < len(files) < COUNT
    state = (again / ".unfinished.state").read_bytes()
    rig.run(StopAfter(20), output=again)
    (again / ".unfinished.state").write_bytes(state)  # as if what came after had not been kept
    (again / ".unfinished" / "again_7").mkdir(parents=True)
    rig.run(output=again)
    assert rig.found(again) == rig.found()


def test_a_finished_run_is_not_done_again_and_its_video_can_still_be_made(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw()))
    rig.run()
    written = rig.found()
    assert rig.run() == f"{rig.out} is finished already"
    assert rig.draw() == f"8 images are in {rig.folder / 'video.mp4'}"
    assert (rig.folder / "video.mp4").stat().st_size > 1000 and rig.found() == written


def test_a_video_that_is_interrupted_is_drawn_anew(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw()))
    rig.run()
    assert rig.draw(StopAfter(3)) is None
    assert not list(rig.folder.glob("*.mp4")) and not list(rig.folder.glob(".*"))
    assert rig.draw() is not None
    assert (rig.folder / "video.mp4").exists()


def test_the_output_of_something_else_is_left_alone(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw()))
    rig.out.mkdir()
    (rig.out / "diary.txt").write_text("dear diary")
    with pytest.raises(BagError, match="out exists already"):
        rig.run()
    (rig.out / "metadata.yaml").write_text("not: a bag")
    with pytest.raises(BagError, match="cannot be read"):
        rig.run()
    assert (rig.out / "diary.txt").read_text() == "dear diary"
    with pytest.raises(BagError, match="in exists already"):
        rig.run(output=rig.job.source)


def test_an_unfinished_run_of_something_else_is_left_alone(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw()))
    assert rig.run(StopAfter(30)) is None
    with pytest.raises(BagError, match="unfinished output of another run, with images 'False'"):
        rig.run(with_images=True)
    rig.prompts(PROMPTS + "  # another one\n")
    with pytest.raises(BagError, match=r"of another run, with prompts 'prompts\.yaml, SHA-256"):
        rig.run()


@pytest.mark.parametrize("prompts", [PROMPTS, prompts_of(as_stamp(stamp_of(1)), 1), "topic: /found"])
def test_of_a_bag_that_is_damaged_the_images_before_are_answered(rig: Rig, prompts: str) -> None:
    rig.prompts(prompts)
    messages = images(raw(range(22)))  # a chunk holds a megabyte: 19 images
    messages.insert(2, boxes(1))
    messages.append(boxes(21))
    path = write_bag(rig.folder / "in", messages, compression=CompressionMode.STORAGE) / "in.mcap"
    data = bytearray(path.read_bytes())
    place_of_damage = len(data) * 9 // 10
    data[place_of_damage : place_of_damage + 100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(BagError, match="in is damaged"):
        rig.run()
    check_ball(rig.found(), range(19))


def test_images_that_cannot_be_read_and_prompts_that_are_refused_are_told(rig: Rig) -> None:
    messages = raw()
    messages[3].encoding = "nonsense"
    write_bag(rig.folder / "in", images(messages))
    rig.prompts(PROMPTS + "  - {at: 0, points: [[500, 5]]}\n  - {at: 100, points: [[5, 5]]}\n")
    report = rig.run()
    assert report is not None
    assert report.splitlines()[2:] == [
        "7 images are answered",
        "left out: 1 (unknown encoding)",
        f"refused: {rig.folder / 'prompts.yaml'}, line 3: the point (500, 5) is outside the image of 160 x "
        "120 pixels",
        f"refused: {rig.folder / 'prompts.yaml'}, line 4: no image is near enough to its time",
    ]
    assert [stamp_ns(m) for _, m in rig.found()["/sam/mask"]] == [stamp_of(n) for n in range(8) if n != 3]


def test_a_bag_whose_images_are_all_useless_is_an_error(rig: Rig) -> None:
    messages = raw(range(2))
    for message in messages:
        message.encoding = "nonsense"
    write_bag(rig.folder / "in", images(messages))
    for _ in range(2):
        with pytest.raises(BagError, match=r"no image of /camera/image could be used: 2 \(unknown"):
            rig.run()


def test_an_output_that_cannot_be_written_is_an_error_and_what_was_is_kept(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bag(rig.folder / "in", images(raw()))
    rig.run()
    again = rig.folder / "again"
    rig.run(StopAfter(50), output=again)
    before = rig.found(again)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full_disk:
        full_disk.setattr("sam_ros.tools.bag.output.Writer.write", fail)
        with pytest.raises(BagError, match=r"again cannot be written: .*No space left"):
            rig.run(output=again)
    assert rig.found(again) == before
    rig.run(output=again)
    assert rig.found(again) == rig.found()


def test_wrong_topics_are_said_before_anything_is_written(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw()))
    with pytest.raises(SamRosError, match=r"did you mean /camera/image\?"):
        rig.run(topic="/camera/images")
    assert not rig.out.exists()


def test_the_executable_is_interrupted_goes_on_and_reports(rig: Rig) -> None:
    count = 30
    write_bag(rig.folder / "in", images(raw(range(count))))
    command = [sys.executable, "-m", "sam_ros.tools.bag.main", str(rig.folder / "in")]
    command += ["--prompts", str(rig.folder / "prompts.yaml"), "--output", str(rig.out), "--threads", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + DEADLINE_SEC
        while not (rig.out / ".unfinished").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_SEC)
    assert process.returncode == 130 and errors.endswith("interrupted; the same command goes on from here\n")
    assert 0 < len(rig.found()["/sam/mask"]) < count
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_SEC)
    assert "30 images are answered" in again.stdout and again.stdout.startswith("object  class")
    assert len(rig.found()["/sam/mask"]) == count
    wrong = subprocess.run(
        [*command, "--topic", "/a"], capture_output=True, text=True, check=False, timeout=DEADLINE_SEC
    )
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: ") and "no topic /a" in wrong.stderr


def executed(rig: Rig, video: Path) -> subprocess.CompletedProcess[str]:
    """The executable, run to its end with a video to draw."""
    command = [sys.executable, "-m", "sam_ros.tools.bag.main", str(rig.folder / "in"), "--video", str(video)]
    command += ["--prompts", str(rig.folder / "prompts.yaml"), "--output", str(rig.out), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SEC)


def test_an_image_whose_stamp_is_no_time_is_left_out_of_the_video_too(rig: Rig) -> None:
    written = images(raw(range(4)))
    written[2][2].header.stamp.nanosec = 1_000_000_000
    write_bag(rig.folder / "in", written)
    done = executed(rig, rig.folder / "video.mp4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2:] == [
        "3 images are answered",
        "left out: 1 (invalid header)",
        f"3 images are in {rig.folder / 'video.mp4'}",
    ]
    assert (rig.folder / "video.mp4").stat().st_size > 1000


def test_a_video_that_cannot_be_drawn_does_not_cost_the_report(rig: Rig) -> None:
    write_bag(rig.folder / "in", images(raw(range(2))))
    done = executed(rig, rig.folder / "nowhere" / "video.mp4")
    assert done.returncode == 1 and done.stdout.endswith("2 images are answered\n")
    assert done.stderr.splitlines()[-1].startswith("error: OpenCV cannot write a video")
