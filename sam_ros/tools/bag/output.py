"""A bag to write: an mcap file after the other, so that what is written is a whole bag at any time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from sam_ros.tools.bag.definitions import Definition
from sam_ros.tools.bag.metadata import FILE, Metadata, merged, read_metadata, write_metadata

UNFINISHED = ".unfinished"  # the folder of the file that is being written
VERSION: Literal[8] = 8  # of metadata.yaml; what came later has other forms of QoS only
NO_TIME = QosTime(0, 0)
# As the node publishes them.
OUTPUT_QOS = Qos(
    QosHistory.KEEP_LAST,
    2,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    NO_TIME,
    NO_TIME,
    QosLiveliness.AUTOMATIC,
    NO_TIME,
    False,
)


@dataclass(frozen=True)
class OutputTopic:
    """A topic to be written: its name, type, and how its publisher offers it."""

    name: str
    definition: Definition
    qos: tuple[Qos, ...] = (OUTPUT_QOS,)


class OutputBag:
    """A bag that grows by whole files.

    Args:
        folder: of the bag; made where it is missing.
        topics: of all messages to come.
        custom_data: for metadata.yaml.
        parts: metadata of the files that are there already; what else is there of the bag is removed.
    """

    def __init__(
        self,
        folder: Path,
        topics: Sequence[OutputTopic],
        custom_data: Mapping[str, str],
        parts: Iterable[Metadata] = (),
    ) -> None:
        self._folder, self._topics, self._custom_data = folder, topics, custom_data
        self.parts = list(parts)
        """Metadata of the files that are finished."""
        self._writer: Writer | None = None
        self._connections: dict[str, Connection] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_what_is_unfinished()

    def write(self, topic: str, time_ns: int, data: bytes) -> None:
        """Write a serialized message, recorded at that time."""
        if self._writer is None:
            self._writer = self._begin_file()
        self._writer.write(self._connections[topic], time_ns, data)

    def finish_file(self) -> None:
        """End the present file, if one was begun: from here on it is part of the bag."""
        if self._writer is None:
            return
        written = self._writer.path
        self._writer.close()
        self._writer = None
        part = read_metadata(written)
        for name in part["relative_file_paths"]:
            (written / name).replace(self._folder / name)
        shutil.rmtree(written.parent)
        self.parts.append(part)
        write_metadata(self._folder, merged(self.parts, self._custom_data))

    def discard_file(self) -> None:
        """Forget the present file, of which nothing is certain."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        shutil.rmtree(self._folder / UNFINISHED, ignore_errors=True)

    def _begin_file(self) -> Writer:
        path = self._folder / UNFINISHED / f"{self._folder.name}_{len(self.parts)}"
        writer = Writer(path, version=VERSION, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)  # masks shrink to a hundredth
        writer.open()
        self._connections = {
            topic.name: writer.add_connection(
                topic.name,
                topic.definition.type_name,
                msgdef=topic.definition.text,
                rihs01=topic.definition.type_hash,
                offered_qos_profiles=topic.qos,
            )
            for topic in self._topics
        }
        return writer

    def _remove_what_is_unfinished(self) -> None:
        """Whatever was written after the last part that is known of."""
        shutil.rmtree(self._folder / UNFINISHED, ignore_errors=True)
        known = {name for part in self.parts for name in part["relative_file_paths"]}
        for file in self._folder.glob(f"{self._folder.name}_*.mcap"):
            if file.name not in known:
                file.unlink()
        if self.parts:
            write_metadata(self._folder, merged(self.parts, self._custom_data))
        else:
            (self._folder / FILE).unlink(missing_ok=True)
