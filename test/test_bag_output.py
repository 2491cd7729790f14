"""A bag that grows: whatever happens, what is finished is a whole bag."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from bag_rig import read_bag
from node_rig import header
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image

from sam_ros.tools.bag.definitions import definition_of
from sam_ros.tools.bag.metadata import Metadata, merged, read_metadata, write_metadata
from sam_ros.tools.bag.output import OUTPUT_QOS, OutputBag, OutputTopic

TOPICS = [OutputTopic(name, definition_of(Image)) for name in ("/a", "/b")]
CUSTOM = {"from": "a test"}


def message(number: int) -> bytes:
    return bytes(serialize_message(Image(header=header(number), encoding=f"image {number}")))


def write(bag: OutputBag, *numbers: int) -> None:
    for number in numbers:
        bag.write("/b" if number % 2 else "/a", 1000 + number, message(number))


def found(folder: Path) -> list[tuple[int, str]]:
    by_topic = read_bag(folder)
    return sorted((time_ns, image.encoding) for some in by_topic.values() for time_ns, image in some)


def expected(*numbers: int) -> list[tuple[int, str]]:
    return [(1000 + number, f"image {number}") for number in numbers]


def test_each_finished_file_is_part_of_the_bag(tmp_path: Path) -> None:
    bag = OutputBag(tmp_path / "out", TOPICS, CUSTOM)
    write(bag, 0, 1)
    assert not (tmp_path / "out" / "metadata.yaml").exists()
    bag.finish_file()
    assert found(tmp_path / "out") == expected(0, 1)
    write(bag, 2)
    assert found(tmp_path / "out") == expected(0, 1)
    bag.finish_file()
    bag.finish_file()  # there is nothing more
    assert found(tmp_path / "out") == expected(0, 1, 2)
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file())
    assert names == ["metadata.yaml", "out_0.mcap", "out_1.mcap"]


def test_the_bag_says_all_that_a_player_wants_to_know(tmp_path: Path) -> None:
    bag = OutputBag(tmp_path / "out", TOPICS, CUSTOM)
    write(bag, 0, 1)
    bag.finish_file()
    write(bag, 2)
    bag.finish_file()
    with Reader(tmp_path / "out") as reader:
        assert (reader.start_time, reader.end_time, reader.message_count) == (1000, 1003, 3)
        for connection in reader.connections:
            assert connection.msgtype == "sensor_msgs/msg/Image"
            assert connection.digest == definition_of(Image).type_hash
            assert "MSG: std_msgs/Header" in connection.msgdef.data
            assert connection.ext.offered_qos_profiles == [OUTPUT_QOS]  # type: ignore[union-attr]
    metadata = read_metadata(tmp_path / "out")
    assert metadata["custom_data"] == CUSTOM and metadata["storage_identifier"] == "mcap"
    assert [file["message_count"] for file in metadata["files"]] == [2, 1]
    counts = [topic["message_count"] for topic in metadata["topics_with_message_count"]]
    assert counts == [2, 1]


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    bag = OutputBag(tmp_path / "out", TOPICS, CUSTOM)
    write(bag, 0)
    bag.finish_file()
    write(bag, 1)
    bag.discard_file()
    assert found(tmp_path / "out") == expected(0)
    write(bag, 3)
    bag.finish_file()
    assert found(tmp_path / "out") == expected(0, 3)


def test_what_was_written_after_the_parts_that_are_known_is_removed(tmp_path: Path) -> None:
    killed = OutputBag(tmp_path / "out", TOPICS, CUSTOM)
    write(killed, 0)
    killed.finish_file()
    parts = list(killed.parts)
    write(killed, 1)
    killed.finish_file()
    write(killed, 2)  # and then it is killed
    bag = OutputBag(tmp_path / "out", TOPICS, CUSTOM, parts)
    killed.discard_file()  # closes what a process that is killed leaves open
    assert found(tmp_path / "out") == expected(0)
    write(bag, 5)
    bag.finish_file()
    assert found(tmp_path / "out") == expected(0, 5)


def test_a_bag_of_which_no_part_is_known_begins_anew(tmp_path: Path) -> None:
    killed = OutputBag(tmp_path / "out", TOPICS, CUSTOM)
    write(killed, 0)
    killed.finish_file()
    OutputBag(tmp_path / "out", TOPICS, CUSTOM)
    assert list((tmp_path / "out").iterdir()) == []


def part(name: str, start_ns: int, duration_ns: int, counts: tuple[int, int]) -> Metadata:
    return {
        "version": 8,
        "relative_file_paths": [name],
        "files": [{"path": name}],
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "duration": {"nanoseconds": duration_ns},
        "message_count": sum(counts),
        "topics_with_message_count": [
            {"topic_metadata": {"name": topic}, "message_count": count}
            for topic, count in zip("ab", counts, strict=True)
        ],
    }


def test_metadata_of_files_adds_up() -> None:
    one = merged([part("x", 100, 50, (1, 2)), part("y", 90, 20, (3, 4))], CUSTOM)
    assert one == {
        **part("x", 90, 60, (4, 6)),
        "relative_file_paths": ["x", "y"],
        "files": [{"path": "x"}, {"path": "y"}],
        "custom_data": CUSTOM,
    }


def test_metadata_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for number in (1, 2):
        write_metadata(tmp_path, {"version": number})
        assert read_metadata(tmp_path) == {"version": number}
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.yaml"]
    assert yaml.safe_load((tmp_path / "metadata.yaml").read_text()).keys() == {"rosbag2_bagfile_information"}


def test_a_topic_that_was_not_announced_cannot_be_written(tmp_path: Path) -> None:
    bag = OutputBag(tmp_path / "out", TOPICS, CUSTOM)
    with pytest.raises(KeyError):
        bag.write("/c", 0, message(0))
    bag.discard_file()
