"""What became of each object: on how many images it was seen, how sure the model was, when it was lost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sam_ros.core.objects import ObjectTable
from sam_ros.core.segmenter import Outputs
from sam_ros.errors import shortened

HEADINGS = ("object", "class", "images seen", "mean IoU", "first seen", "lost at")
MOST_ROWS = 50
MOST_TIMES = 5  # of being lost, in one row


@dataclass(frozen=True)
class Record:
    """One object.

    Attributes:
        id, class_id: as in the outputs.
        first_ns: stamp of the image on which it was first seen; None where it never was.
        images_alive: answered images since it was first prompted, until it was dropped.
        images_seen: those of them whose outputs have it.
        iou_sum: of its predicted IoU on these, clamped as published.
        lost_ns: stamps of the images on which it was missing after it was seen.
        is_seen: whether the last image's outputs have it.
    """

    id: str
    class_id: str = ""
    first_ns: int | None = None
    images_alive: int = 0
    images_seen: int = 0
    iou_sum: float = 0.0
    lost_ns: tuple[int, ...] = ()
    is_seen: bool = False

    @property
    def mean_iou(self) -> float | None:
        """Mean of its predicted IoU where it was seen."""
        return self.iou_sum / self.images_seen if self.images_seen else None

    def after(self, stamp_ns: int, class_id: str, predicted_iou: float | None) -> Record:
        """With one more image; ``predicted_iou`` is None where it is not seen."""
        alive = replace(self, class_id=class_id, images_alive=self.images_alive + 1)
        if predicted_iou is None:
            lost_ns = (*self.lost_ns, stamp_ns) if self.is_seen else self.lost_ns
            return replace(alive, lost_ns=lost_ns, is_seen=False)
        return replace(
            alive,
            first_ns=stamp_ns if self.first_ns is None else self.first_ns,
            images_seen=self.images_seen + 1,
            iou_sum=self.iou_sum + min(max(predicted_iou, 0.0), 1.0),
            is_seen=True,
        )


class Records:
    """All objects, in the order of their creation."""

    def __init__(self) -> None:
        self._by_created: dict[int, Record] = {}

    @property
    def all(self) -> list[Record]:
        """The records."""
        return [self._by_created[created] for created in sorted(self._by_created)]

    def add(self, table: ObjectTable, outputs: Outputs) -> None:
        """Take in what was answered on one image: the objects after it, and its outputs."""
        seen = {one.created: float(masks.predicted_iou[0]) for one, masks in outputs.objects}
        for one in table.objects:
            record = self._by_created.get(one.created) or Record(one.id)
            self._by_created[one.created] = record.after(
                outputs.frame.stamp_ns, one.class_id, seen.get(one.created)
            )


def as_table(records: list[Record], first_stamp_ns: int) -> str:
    """A table for people; times are seconds after that stamp."""
    rows = [HEADINGS, *(_row(record, first_stamp_ns) for record in records[:MOST_ROWS])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if len(records) > MOST_ROWS:
        lines.append(f"and {len(records) - MOST_ROWS} more objects")
    return "\n".join(lines)


def _row(record: Record, first_stamp_ns: int) -> tuple[str, ...]:
    def seconds(stamp_ns: int) -> str:
        return f"{(stamp_ns - first_stamp_ns) / 1e9:.2f} s"

    lost = ", ".join(map(seconds, record.lost_ns[:MOST_TIMES]))
    more = len(record.lost_ns) - MOST_TIMES
    return (
        shortened(record.id),
        shortened(record.class_id),
        f"{record.images_seen} of {record.images_alive}",
        "" if record.mean_iou is None else f"{record.mean_iou:.3f}",
        "never" if record.first_ns is None else seconds(record.first_ns),
        f"{lost} and {more} times more" if more > 0 else lost,
    )
