"""A client of the node that knows nothing of ROS but how it names topics and types: a program by itself.

Publishes a picture of a bright disc and clicks on it until a mask comes, which it writes as an .npz file.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import final
from cyclonedds.idl.types import float64, int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

HEIGHT, WIDTH, RADIUS = 96, 128, 30
CENTRE_XY = (50, 40)
AGAIN_SEC = 1.0  # discovery takes a while, and what is sent before is lost
DEADLINE_SEC = 90.0


@dataclass
@final
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    sec: int32
    nanosec: uint32


@dataclass
@final
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    stamp: Time
    frame_id: str


@dataclass
@final
class Image(IdlStruct, typename="sensor_msgs.msg.dds_.Image_"):
    header: Header
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]


@dataclass
@final
class Point(IdlStruct, typename="geometry_msgs.msg.dds_.Point_"):
    x: float64
    y: float64
    z: float64


@dataclass
@final
class PointStamped(IdlStruct, typename="geometry_msgs.msg.dds_.PointStamped_"):
    header: Header
    point: Point


PLAIN_CDR = Policy.DataRepresentation(use_cdrv0_representation=True)  # what ROS 2 speaks
RELIABLE = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(10), PLAIN_CDR)
BEST_EFFORT = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(1), PLAIN_CDR)


def disc() -> np.ndarray:
    """(H, W, 3) uint8 RGB: a bright disc on dark ground."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = np.hypot(columns - CENTRE_XY[0], rows - CENTRE_XY[1]) < RADIUS
    return np.where(inside[..., None], (230, 200, 40), (30, 40, 60)).astype(np.uint8)


def main(output: Path, domain_id: int) -> int:
    """Until a mask has come; the exit code."""
    participant = DomainParticipant(domain_id)
    image_writer = DataWriter(participant, Topic(participant, "rt/image", Image), qos=BEST_EFFORT)
    click_writer = DataWriter(participant, Topic(participant, "rt/sam/point", PointStamped), qos=RELIABLE)
    masks = DataReader(participant, Topic(participant, "rt/sam/mask", Image), qos=RELIABLE)
    pixels, deadline, seconds = disc(), time.monotonic() + DEADLINE_SEC, 0
    while time.monotonic() < deadline:
        seconds += 1
        header = Header(Time(seconds, 500), "cyclone")
        image_writer.write(Image(header, HEIGHT, WIDTH, "rgb8", 0, 3 * WIDTH, pixels.tobytes()))
        click_writer.write(PointStamped(header, Point(*map(float, CENTRE_XY), 0.0)))
        for mask in masks.take_iter(timeout=duration(seconds=AGAIN_SEC)):
            write(mask, output)
            return 0
    sys.stderr.write("no mask came\n")
    return 1


def write(mask: Image, output: Path) -> None:
    """Keep all of the mask's message."""
    np.savez(
        output,
        pixels=np.frombuffer(bytes(mask.data), np.uint8).reshape(mask.height, mask.step),
        size_hw=(mask.height, mask.width),
        stamp=(mask.header.stamp.sec, mask.header.stamp.nanosec),
        frame_id=mask.header.frame_id,
        encoding=mask.encoding,
        picture=disc(),
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
