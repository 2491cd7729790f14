"""What the ``bag`` executable is asked: its command line, checked."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from sam_ros.node.parameters import Parameters
from sam_ros.tools.bag.prompts import PromptFile, read_prompt_file

# Those of the node's parameters that mean the same without a node.
PARAMETERS = (
    "model_type",
    "checkpoint",
    "device",
    "precision",
    "compile",
    "threads",
    "max_image_pixels",
    "multimask_output",
    "min_predicted_iou",
    "min_stability_score",
    "max_objects",
    "stamp_tolerance",
)
DESCRIPTION = """\
Segment and follow objects through a recorded bag, as the node sam does with a live camera,
but with every image and as fast as the machine can. Nothing else of ROS has to run.
Objects are followed by motion, also with the models of which the node uses the memory
(sam2.1_*, edgetam): for these the answers are those of the node with follower: motion."""
EXAMPLE = """\
prompts.yaml says what to segment:

  prompts:
    - at: 0.0                        # seconds after the first image; or stamp: 1718181818.25
      id: cup                        # the same id prompts the same object again
      class: cup                     # optional
      points: [[320, 240]]           # pixels on it, x to the right, y down
      background: [[400, 240]]       # optional: pixels that are not
    - at: 2.5
      box: [200, 150, 440, 330]      # left, top, right, bottom
  topic: /detector/detections        # optional: vision_msgs/Detection2DArray messages of the bag
  image_size: [640, 360]             # optional: width, height of the image that all this refers to

OUT then holds /sam/mask, /sam/labels and /sam/segments with the stamps of the images. A run that was
interrupted goes on with the same command."""


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        source: path of the bag to read.
        output: folder of the bag to write.
        prompt_path: of the file of prompts.
        topic: of the images; '' for the only one.
        node: full name of the node whose topics the answers get.
        with_images: whether the images go into the output too.
        video: path of an MP4 to write, or None.
        parameters: of the node; those that are not in PARAMETERS have their defaults.
    """

    source: Path
    output: Path
    prompt_path: Path
    topic: str
    node: str
    with_images: bool
    video: Path | None
    parameters: Parameters

    def prompts(self) -> PromptFile:
        """What its file says; raises PromptFileError."""
        return read_prompt_file(self.prompt_path)

    def asked(self) -> dict[str, str]:
        """All that decides what is in the output, by name: only a run of the same goes on."""
        digest = hashlib.sha256(self.prompt_path.read_bytes()).hexdigest()
        return {
            "bag": str(self.source),
            "prompts": f"{self.prompt_path.name}, SHA-256 {digest}",
            "topic": self.topic,
            "node": self.node,
            "images": str(self.with_images),
            **{name: str(getattr(self.parameters, name)) for name in PARAMETERS},
        }


def parse_arguments(argv: Sequence[str]) -> Job:
    """The job that a command line describes; ends the process where it cannot be understood.

    Raises:
        InvalidParameterError: a value that is out of range.
    """
    argv = list(argv)
    if "--ros-args" in argv:  # launch appends them to every executable
        del argv[argv.index("--ros-args") :]
    given = _parser().parse_args(argv)
    return Job(
        source=given.bag.resolve(),
        output=given.output.resolve(),
        prompt_path=given.prompts,
        topic=given.topic,
        node="/" + given.node.strip("/"),
        with_images=given.images,
        video=given.video and given.video.resolve(),
        parameters=Parameters(**{name: getattr(given, name) for name in PARAMETERS}),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bag",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_paths(parser)
    model = parser.add_argument_group("parameters of the node")
    for parameter in fields(Parameters):
        if parameter.name in PARAMETERS:
            _add_parameter(model, parameter)
    return parser


def _add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bag", type=Path, metavar="IN", help="folder, .mcap or .db3 of ROS 2, also compressed by zstd"
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        required=True,
        metavar="FILE",
        help="YAML that says what to segment, see below",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="folder of the new bag")
    parser.add_argument("--topic", default="", help="of the images, where the bag has several")
    parser.add_argument(
        "--node", default="/sam", help="full name of the node whose topics the answers get (%(default)s)"
    )
    parser.add_argument("--images", action="store_true", help="copy the images into OUT, too")
    parser.add_argument(
        "--video", type=Path, metavar="FILE.mp4", help="also write a video with the masks drawn on the images"
    )


def _add_parameter(group: Any, parameter: Field[Any]) -> None:
    """An option that is named, described and limited as the node's parameter."""
    option = "--" + parameter.name.replace("_", "-")
    text = parameter.metadata["description"].replace("%", "%%") + " (%(default)s)"
    if isinstance(parameter.default, bool):
        action = argparse.BooleanOptionalAction
        group.add_argument(option, default=parameter.default, action=action, help=text)
        return
    group.add_argument(
        option,
        default=parameter.default,
        type=type(parameter.default),
        choices=parameter.metadata["choices"] or None,
        metavar=None if parameter.metadata["choices"] else type(parameter.default).__name__.upper(),
        help=text,
    )
