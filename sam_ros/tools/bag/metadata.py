"""metadata.yaml of a bag of several files: rosbag2's, put together of those of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = "rosbag2_bagfile_information"
FILE = "metadata.yaml"

Metadata = dict[str, Any]
"""What stands below ROOT."""


def read_metadata(folder: Path) -> Metadata:
    """Of the bag in a folder."""
    return dict(yaml.safe_load((folder / FILE).read_text(encoding="utf-8"))[ROOT])


def write_metadata(folder: Path, metadata: Metadata) -> None:
    """Replace that of the bag in a folder, at once: a reader sees the old one or the new one."""
    whole = folder / f"{FILE}.new"
    whole.write_text(yaml.safe_dump({ROOT: metadata}, sort_keys=False), encoding="utf-8")
    whole.replace(folder / FILE)


def merged(parts: Sequence[Metadata], custom_data: Mapping[str, str]) -> Metadata:
    """That of one bag whose files are those of several, in their order; each has messages.

    Args:
        parts: of bags with the same topics.
        custom_data: to be kept in it.
    """
    start_ns = min(_start_ns(part) for part in parts)
    end_ns = max(_start_ns(part) + part["duration"]["nanoseconds"] for part in parts)
    topics = [
        {**topics[0], "message_count": sum(topic["message_count"] for topic in topics)}
        for topics in zip(*(part["topics_with_message_count"] for part in parts), strict=True)
    ]
    return {
        **parts[0],
        "relative_file_paths": [path for part in parts for path in part["relative_file_paths"]],
        "files": [file for part in parts for file in part["files"]],
        "starting_time": {"nanoseconds_since_epoch": start_ns},
        "duration": {"nanoseconds": end_ns - start_ns},
        "message_count": sum(part["message_count"] for part in parts),
        "topics_with_message_count": topics,
        "custom_data": dict(custom_data),
    }


def _start_ns(part: Metadata) -> int:
    return int(part["starting_time"]["nanoseconds_since_epoch"])
