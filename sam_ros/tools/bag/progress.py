"""How far a run has come: what is needed to go on from there, and the file that keeps it."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam_ros.core.follower import Follower
from sam_ros.core.objects import ObjectTable
from sam_ros.tools.bag.metadata import Metadata
from sam_ros.tools.bag.records import Records
from sam_ros.tools.bag.source import BagError

FILE = ".unfinished.state"


@dataclass
class Progress:
    """What a run has done, and what it remembers.

    Attributes:
        position: how many images of the topic are done.
        prompts_taken: how many prompts are.
        table: the objects.
        follower: how the last images looked.
        records: what became of each object.
        dropped: images without answers, by the kind of the reason.
        refused: prompts, and why.
        depends_on_all: whether what an image looks like depends on those before, all of which are then read
            again.
    """

    position: int = 0
    prompts_taken: int = 0
    table: ObjectTable = field(default_factory=ObjectTable)
    follower: Follower = field(default_factory=Follower)
    records: Records = field(default_factory=Records)
    dropped: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    depends_on_all: bool = False


@dataclass(frozen=True)
class Saved:
    """What the file of an unfinished run holds.

    Attributes:
        asked: what the run was asked to do, by name.
        progress: how far it has come.
        parts: metadata of the bag's files that are finished.
    """

    asked: Mapping[str, str]
    progress: Progress
    parts: list[Metadata]


def save(folder: Path, saved: Saved) -> None:
    """Keep it in the folder of the bag, in place of what was kept there before."""
    whole = folder / f"{FILE}.new"
    with whole.open("wb") as file:
        pickle.dump(saved, file, protocol=5)
    whole.replace(folder / FILE)


def load(folder: Path) -> Saved | None:
    """What was kept in the folder, None if nothing was.

    Raises:
        BagError: it cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            saved = _ValuesUnpickler(file).load()
    except Exception as error:  # no promise bounds what unpickling raises
        raise BagError(
            f"{path} cannot be read, so that the run cannot go on: {error}. Remove {folder} to begin anew"
        ) from error
    if not isinstance(saved, Saved):
        raise BagError(f"{path} is not the state of a run. Remove {folder} to begin anew")
    return saved


def forget(folder: Path) -> None:
    """The run is finished: there is nothing to go on with."""
    (folder / FILE).unlink(missing_ok=True)


# A pickle may name any function to be called. Only these values are made of one, whoever wrote it.
VALUES = {
    "collections": {"Counter"},
    "sam_ros.core.bank": {"Bank"},  # empty: objects of a bag are followed by motion
    "sam_ros.core.follower": {"Follower"},
    "sam_ros.core.motion": {"View"},
    "sam_ros.core.objects": {"Look", "ObjectTable", "Point", "SegmentedObject", "Tracking", "Tracks"},
    "sam_ros.tools.bag.progress": {"Progress", "Saved"},
    "sam_ros.tools.bag.records": {"Record", "Records"},
}
ARRAYS = {"_frombuffer", "_reconstruct", "dtype", "ndarray", "scalar"}  # where NumPy has them changes


class _ValuesUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_array = module.split(".")[0] == "numpy" and name in ARRAYS
        if not is_array and name not in VALUES.get(module, ()):
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)
