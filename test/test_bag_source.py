"""Bags of every kind are read alike, and what is wrong with one is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bag_rig import LATENCY_NS, START_NS, images, mono16_msg, scene, stamp_of, write_bag
from node_rig import compressed_msg, detections, image_msg
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from sensor_msgs.msg import Image

from sam_ros.tools.bag.source import BagError, SourceBag

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
MESSAGES = [image_msg(scene(number), "rgb8", stamp_of(number)) for number in range(3)]
MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
NONE, FILE, MESSAGE = CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE


def check(path: Path) -> None:
    """That the bag holds ``MESSAGES``."""
    with SourceBag(path) as bag:
        topic = bag.topic("", IMAGES)
        assert (topic.name, topic.type_name, topic.count) == ("/camera/image", IMAGES[0], 3)
        found = list(bag.messages(topic))
        assert bag.duration_sec == pytest.approx(0.2)
    assert [deserialize_message(one.data, Image) for one in found] == MESSAGES
    assert [one.time_ns for one in found] == [stamp_of(number) + LATENCY_NS for number in range(3)]


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (MCAP, NONE),
        (MCAP, FILE),
        (MCAP, MESSAGE),
        (MCAP, CompressionMode.STORAGE),
        (SQLITE, NONE),
        (SQLITE, FILE),
        (SQLITE, MESSAGE),
    ],
)
def test_bags_of_every_storage_and_compression_hold_the_same(
    tmp_path: Path, storage: StoragePlugin, compression: CompressionMode
) -> None:
    check(write_bag(tmp_path / "in", images(MESSAGES), storage, compression))


@pytest.mark.parametrize(("storage", "suffix"), [(MCAP, ".mcap"), (SQLITE, ".db3")])
@pytest.mark.parametrize("compression", [NONE, FILE, MESSAGE])
def test_one_file_without_its_metadata_is_enough(
    tmp_path: Path, storage: StoragePlugin, suffix: str, compression: CompressionMode
) -> None:
    folder = write_bag(tmp_path / "in", images(MESSAGES), storage, compression)
    check(folder / f"in{suffix}{'.zstd' if compression is FILE else ''}")


def test_a_topic_is_found_by_its_type_or_chosen_by_its_name(tmp_path: Path) -> None:
    other = [compressed_msg(scene(0), ".png", stamp_of(0))]
    found = [("/found", START_NS, detections(START_NS))]
    path = write_bag(tmp_path / "in", [*images(MESSAGES), *images(other, "/other"), *found])
    with SourceBag(path) as bag:
        assert bag.topic("", ("vision_msgs/msg/Detection2DArray",)).name == "/found"
        assert bag.topic("/other", IMAGES).type_name == IMAGES[1]
        problems = {
            "": "has several topics of .*: /camera/image, /other; say which by --topic",
            "/oter": "has no topic /oter; did you mean /other?",
            "/q": "has no topic /q; there are /camera/image, /found, /other",
            "/found": "/found is vision_msgs/msg/Detection2DArray, not sensor_msgs/msg/Image or",
        }
        for name, problem in problems.items():
            with pytest.raises(BagError, match=problem):
                bag.topic(name, IMAGES)


def test_a_bag_without_images_says_what_it_has(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "in", [("/found", START_NS, detections(START_NS))])
    with SourceBag(path) as bag, pytest.raises(BagError, match=r"it has /found \(vision_msgs/msg"):
        bag.topic("", IMAGES)


def problem_of(path: Path) -> str:
    """What is said of a bag that cannot be opened."""
    with pytest.raises(BagError) as raised:
        SourceBag(path)
    return str(raised.value)


def test_what_is_no_bag_is_said(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "nothing") == f"{tmp_path / 'nothing'} does not exist"
    assert "is no bag: it has neither metadata.yaml nor" in problem_of(tmp_path)
    for name, problem in {
        "a.bag": "is a bag of ROS 1",
        "a.txt": "is no bag: a folder",
        "a.mcap": "seems to be empty",
        "a.db3": "a.db3 is damaged or no bag",
        "a.mcap.zstd": "a.mcap.zstd is damaged or no bag",
        "a.txt.zstd": "is no bag: a folder",
    }.items():
        (tmp_path / name).touch()
        assert problem in problem_of(tmp_path / name)


def test_a_bag_without_messages_is_said_to_be_empty(tmp_path: Path) -> None:
    for storage in (MCAP, SQLITE):
        path = write_bag(tmp_path / storage.name, [], storage)
        assert problem_of(path) == f"{path} holds no message"


@pytest.mark.parametrize("storage", [MCAP, SQLITE])
def test_a_recording_without_metadata_says_what_mends_it(tmp_path: Path, storage: StoragePlugin) -> None:
    path = write_bag(tmp_path / "in", images(MESSAGES), storage)
    (path / "metadata.yaml").unlink()
    assert f"its recording was cut off. ros2 bag reindex {path} writes one" in problem_of(path)


def test_a_file_that_was_cut_off_says_what_mends_it(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "in", images(MESSAGES)) / "in.mcap"
    path.write_bytes(path.read_bytes()[:-100])
    assert "its recording was cut off" in problem_of(path) and "mcap recover" in problem_of(path)


def test_metadata_that_is_damaged_or_names_missing_files_is_said(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "in", images(MESSAGES))
    shutil.move(path / "in.mcap", path / "elsewhere.mcap")
    assert "in.mcap" in problem_of(path)
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    assert "is damaged or no bag" in problem_of(path)


def damage(path: Path) -> None:
    """Overwrite an eighth of a file, in its middle."""
    data = bytearray(path.read_bytes())
    half, length = len(data) // 2, len(data) // 8
    data[half : half + length] = b"\xa5" * length
    path.write_bytes(data)


def test_a_bag_that_is_damaged_in_the_middle_is_read_up_to_there(tmp_path: Path) -> None:
    messages = [mono16_msg(number) for number in range(64)]
    folder = write_bag(tmp_path / "in", images(messages), MCAP, CompressionMode.STORAGE)
    damage(folder / "in.mcap")
    found: list[Image] = []
    with SourceBag(folder) as bag, pytest.raises(BagError, match="is damaged"):
        found.extend(deserialize_message(one.data, Image) for one in bag.messages(bag.topic("", IMAGES)))
    assert 0 < len(found) < len(messages)
    assert found == messages[: len(found)]


@pytest.mark.parametrize("compression", [NONE, MESSAGE])
def test_a_damaged_database_is_said_to_be(tmp_path: Path, compression: CompressionMode) -> None:
    messages = [mono16_msg(number) for number in range(64)]
    folder = write_bag(tmp_path / "in", images(messages), SQLITE, compression)
    damage(folder / "in.db3")
    assert "is damaged or no bag: Cannot open database" in problem_of(folder)
