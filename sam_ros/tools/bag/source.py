"""A bag to read from: ROS 2's sqlite3 and mcap, also compressed, as serialized messages of one topic."""

from __future__ import annotations

import difflib
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos
from rosbags.rosbag2 import Reader

from sam_ros.errors import SamRosError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORAGES = (".mcap", ".db3")
METADATA = "metadata.yaml"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # a serialized message begins with a zero
CUT_OFF = "its recording was cut off"


class BagError(SamRosError):
    """A bag that cannot be read or written; the message says what is wrong and what would do."""

    kind = "bag"


@dataclass(frozen=True)
class Recorded:
    """One message as it was recorded.

    Attributes:
        time_ns: when that was; not the stamp of its header.
        data: the message, serialized.
    """

    time_ns: int
    data: bytes


@dataclass(frozen=True)
class Topic:
    """What a bag has of one topic.

    Attributes:
        name: of it.
        type_name: such as sensor_msgs/msg/Image.
        count: of its messages.
        qos: of its publishers.
        connections: the bag's own.
    """

    name: str
    type_name: str
    count: int
    qos: tuple[Qos, ...]
    connections: tuple[Connection, ...]


class SourceBag:
    """An open bag; to be used in a ``with``.

    Args:
        path: a folder with metadata.yaml, one .mcap or .db3, or one of those compressed as a whole (.zstd).

    Raises:
        BagError: it is none of that, damaged, or without a message.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open_files = ExitStack()
        try:
            with _explained(path):
                self._reader = self._open_files.enter_context(Reader(self._plain_path()))
                self.topics = _topics(self._reader.connections)
            if not any(topic.count for topic in self.topics.values()):
                raise BagError(f"{path} holds no message")
        except BaseException:
            self._open_files.close()
            raise

    def __enter__(self) -> SourceBag:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it, and remove what was inflated."""
        self._open_files.close()

    @property
    def duration_sec(self) -> float:
        """From its first message to its last, in seconds."""
        return float(self._reader.duration) / 1e9

    def _plain_path(self) -> Path:
        """A path that the reader understands; a file that is compressed as a whole is inflated for it."""
        if self.path.is_dir():
            _check_folder(self.path)
            return self.path
        if self.path.suffix != ".zstd":
            _check_file(self.path)
            return self.path
        folder = Path(self._open_files.enter_context(TemporaryDirectory(prefix="sam_ros_bag_")))
        inflated = folder / self.path.stem
        _check_file(inflated, self.path)
        with zstd.open(self.path, "rb") as packed, inflated.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        return inflated

    def topic(self, name: str, type_names: Sequence[str]) -> Topic:
        """The topic of this name; '' is the only one of these types.

        Raises:
            BagError: there is none of that name and of these types, or '' could mean several.
        """
        fitting = [topic for topic in self.topics.values() if topic.type_name in type_names and topic.count]
        if not name:
            return self._only(fitting, type_names)
        found = self.topics.get(name)
        if found is None:
            nearest = difflib.get_close_matches(name, self.topics, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(self.topics))}"
            raise BagError(f"{self.path} has no topic {name}; {hint}")
        if found.type_name not in type_names:
            raise BagError(
                f"{name} is {found.type_name or 'of several types'}, not {' or '.join(type_names)}"
            )
        if not found.count:
            raise BagError(f"{self.path} has no message on {name}")
        return found

    def _only(self, fitting: Sequence[Topic], type_names: Sequence[str]) -> Topic:
        kinds = " or ".join(type_names)
        if not fitting:
            raise BagError(f"{self.path} has no message of {kinds}; it has {self._listed()}")
        if len(fitting) > 1:
            names = ", ".join(sorted(topic.name for topic in fitting))
            raise BagError(f"{self.path} has several topics of {kinds}: {names}; say which by --topic")
        return fitting[0]

    def _listed(self) -> str:
        return ", ".join(f"{topic.name} ({topic.type_name})" for topic in self.topics.values())

    def messages(self, topic: Topic) -> Iterator[Recorded]:
        """Its messages in the order of recording.

        Raises:
            BagError: the bag is damaged from there on.
        """
        with _explained(self.path):
            for _, time_ns, data in self._reader.messages(topic.connections):
                yield Recorded(time_ns, _inflated(data))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of which bag it is that something went wrong."""
    try:
        yield
    except (BagError, MemoryError, GeneratorExit):
        raise
    except Exception as error:  # no promise bounds what readers of damaged files raise
        hint = f": {CUT_OFF}; {_mending(path)}" if "magic" in str(error) else ""
        raise BagError(f"{path} is damaged or no bag: {error or type(error).__name__}{hint}") from error


def _mending(path: Path) -> str:
    """What makes a bag of the files of a recorder that did not end by itself."""
    return f"ros2 bag reindex {path} mends an .db3, mcap recover an .mcap"


def _check_folder(path: Path) -> None:
    if (path / METADATA).exists():
        return
    files = sorted(file.name for file in path.iterdir() if file.name.removesuffix(".zstd").endswith(STORAGES))
    if not files:
        raise BagError(f"{path} is no bag: it has neither {METADATA} nor an .mcap or .db3 file")
    raise BagError(
        f"{path} has no {METADATA}: {CUT_OFF}. ros2 bag reindex {path} writes one; or give one of its files, "
        f"such as {path / files[0]}"
    )


def _check_file(plain: Path, given: Path | None = None) -> None:
    given = given or plain
    if not given.exists():
        raise BagError(f"{given} does not exist")
    if plain.suffix == ".bag":
        raise BagError(
            f"{given} is a bag of ROS 1: rosbags-convert --src {given} --dst NEW makes one of ROS 2"
        )
    if plain.suffix not in STORAGES:
        raise BagError(
            f"{given} is no bag: a folder, an .mcap or a .db3 is expected, also compressed (.zstd)"
        )


def _topics(connections: Sequence[Connection]) -> dict[str, Topic]:
    """By name; a topic may have several publishers, whose messages belong together."""
    by_name: dict[str, list[Connection]] = {}
    for connection in connections:
        by_name.setdefault(connection.topic, []).append(connection)
    return {name: _topic(name, some) for name, some in by_name.items()}


def _topic(name: str, connections: Sequence[Connection]) -> Topic:
    types = {connection.msgtype for connection in connections}
    qos = [
        q for c in connections if isinstance(c.ext, ConnectionExtRosbag2) for q in c.ext.offered_qos_profiles
    ]
    return Topic(
        name,
        types.pop() if len(types) == 1 else "",
        sum(connection.msgcount for connection in connections),
        tuple(dict.fromkeys(qos)),
        tuple(connections),
    )


def _inflated(data: bytes) -> bytes:
    """A message that was compressed by itself, as where a file was given without its metadata."""
    return zstd.decompress(data) if data.startswith(ZSTD_MAGIC) else data
