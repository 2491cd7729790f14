"""From one bag to another: opens both, goes through the images, keeps what is needed to go on later."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from sam_ros.core.segmenter import Options
from sam_ros.errors import EncodeCancelledError, InvalidImageError, SamRosError
from sam_ros.node.images import CameraStream
from sam_ros.node.inputs import CAMERAS, CameraInput
from sam_ros.node.loading import load_warm_predictor
from sam_ros.node.serialized import stamp_of_serialized
from sam_ros.predictor import Predictor, load_predictor
from sam_ros.tools.bag.answers import AnswerWriter, output_topics
from sam_ros.tools.bag.arguments import Job
from sam_ros.tools.bag.arrivals import Arrivals, Arrived, with_next_stamps
from sam_ros.tools.bag.definitions import definition_of, type_name_of
from sam_ros.tools.bag.following import Following
from sam_ros.tools.bag.laps import Laps
from sam_ros.tools.bag.metadata import FILE as METADATA
from sam_ros.tools.bag.metadata import read_metadata
from sam_ros.tools.bag.output import OUTPUT_QOS, OutputBag, OutputTopic
from sam_ros.tools.bag.plan import Plan
from sam_ros.tools.bag.preparing import Prepared, ReadImage, prepared
from sam_ros.tools.bag.progress import Progress, Saved, forget, load, save
from sam_ros.tools.bag.prompts import PromptFile
from sam_ros.tools.bag.records import as_table
from sam_ros.tools.bag.requests import TimedRequest, request_of_prompt, requests_of_detections
from sam_ros.tools.bag.source import BagError, Recorded, SourceBag, Topic
from sam_ros.tools.bag.video import write_video

FILE_SEC = 60.0  # of work that go into one file: what a run that is killed loses at most
CAMERA_OF = {type_name_of(camera.message_type): camera for camera in CAMERAS.values()}
DETECTIONS = "vision_msgs/msg/Detection2DArray"
CUSTOM_KEY = "sam_ros"  # in metadata.yaml
BY_MOTION = "objects are followed by motion: %s has a memory, by which only the node follows (follower: auto)"
_logger = logging.getLogger(__name__)


def run(job: Job, stop: Event, load: Callable[..., Predictor] = load_predictor) -> str | None:
    """Do a job, or go on with it; returns what to tell of it, None if it was stopped before its end.

    Args:
        job: what to do.
        stop: once set, it ends as soon as it can.
        load: makes the predictor; tests hand in one that they have.

    Raises:
        SamRosError: it cannot be done, or not any further; what is written then is a whole bag.
    """
    prompts = job.prompts()
    with SourceBag(job.source) as source:
        topic = source.topic(job.topic, tuple(CAMERA_OF))
        saved = _begun(job)
        report = f"{job.output} is finished already"
        try:
            if saved is not None:
                work = _Work(job, source, topic, saved, stop)
                work.run(prompts, load)
                report = work.report()
        except EncodeCancelledError:
            return None
        return report


def draw(job: Job, path: Path, stop: Event) -> str | None:
    """Draw the video of a job that is done; returns what to tell of it, None if it was stopped early.

    Args:
        job: whose images and answers are drawn.
        path: of the video, an MP4.
        stop: once set, it ends as soon as it can.

    Raises:
        SamRosError: the video cannot be written, or a bag is damaged; there is no video then.
    """
    with SourceBag(job.source) as source:
        try:
            return _video(job, path, source, source.topic(job.topic, tuple(CAMERA_OF)), stop)
        except EncodeCancelledError:
            return None


def _begun(job: Job) -> Saved | None:
    """What was done of a job already; None if all of it was.

    Raises:
        BagError: its output is something else's.
    """
    anew = Saved(job.asked(), Progress(), [])
    saved = load(job.output)
    if saved is not None and saved.progress.position > 0:
        _check_is_same(job, saved)
        return saved
    if saved is not None or not job.output.exists() or _is_empty_folder(job.output):
        return anew
    if (job.output / METADATA).exists() and _custom_data(job).items() <= _custom_data_of(job).items():
        return None
    raise BagError(f"{job.output} exists already and is nothing that this run could go on with")


def _check_is_same(job: Job, saved: Saved) -> None:
    asked, before = job.asked(), saved.asked
    others = [f"{name} {before.get(name)!r}" for name in asked if before.get(name) != asked[name]]
    if others:
        raise BagError(
            f"{job.output} is the unfinished output of another run, with {', '.join(others)}. Remove it, or "
            "give another --output"
        )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _custom_data(job: Job) -> dict[str, str]:
    return {CUSTOM_KEY: json.dumps(job.asked())}


def _custom_data_of(job: Job) -> dict[str, str]:
    """What the bag that is the output says of its origin."""
    try:
        return dict(read_metadata(job.output).get("custom_data") or {})
    except Exception as error:  # whatever somebody has written there
        raise BagError(f"{job.output} exists already, and its {METADATA} cannot be read: {error}") from error


def _messages(source: SourceBag, topic: Topic, stop: Event) -> Iterator[Recorded]:
    """The messages of a topic.

    Raises:
        EncodeCancelledError: it is to stop.
        BagError: the bag is damaged.
    """
    for recorded in source.messages(topic):
        if stop.is_set():
            raise EncodeCancelledError("stopped while the bag was read")
        yield recorded


def _video(job: Job, path: Path, source: SourceBag, topic: Topic, stop: Event) -> str:
    """Write the video of a finished job; what to tell of it."""
    read_image = partial(_read, CAMERA_OF[topic.type_name], job.parameters.max_image_pixels, CameraStream())
    messages = _messages(source, topic, stop)
    images = tqdm(messages, "video", topic.count, unit=" images", disable=None, dynamic_ncols=True)
    with SourceBag(job.output) as answers:
        count = write_video(path, images, read_image, answers, job.node)
    return f"{count} images are in {path}"


def _read(camera: CameraInput, max_pixels: int, stream: CameraStream, data: bytes) -> npt.NDArray[np.uint8]:
    return camera.read(data, max_pixels, stream)


class _Work:
    """One job under way.

    Args:
        job: what to do.
        source: the open bag.
        topic: of its images.
        saved: what was done already.
        stop: once set, it ends as soon as it can.
    """

    def __init__(self, job: Job, source: SourceBag, topic: Topic, saved: Saved, stop: Event) -> None:
        self._job, self._source, self._topic, self._stop = job, source, topic, stop
        self._progress = saved.progress
        camera = CAMERA_OF[topic.type_name]
        self._stream = CameraStream(_logger.warning)
        self._read_image: ReadImage = partial(_read, camera, job.parameters.max_image_pixels, self._stream)
        topics = output_topics(job.node)
        if job.with_images:
            topics.append(
                OutputTopic(topic.name, definition_of(camera.message_type), topic.qos or (OUTPUT_QOS,))
            )
        self._bag = OutputBag(job.output, topics, _custom_data(job), saved.parts)
        self._answers = AnswerWriter(self._bag, job.node, self._read_image)
        self._first_stamp_ns = self._find_first_stamp_ns()
        self._is_certain = True  # that all that was answered is written

    def run(self, prompts: PromptFile, load: Callable[..., Predictor]) -> None:
        """Go through the images that are left.

        Raises:
            EncodeCancelledError: it was stopped before the last one.
            SamRosError: it cannot go on.
        """
        with self._explaining_output():
            self._save()
            plan = Plan(self._requests(prompts), self._progress.prompts_taken)
            try:
                following = self._go_through(plan, load)
            finally:
                self._save()
            following.finish()
            self._finish()

    @contextmanager
    def _explaining_output(self) -> Iterator[None]:
        """Where the output cannot be written, forget what is not certain of it, and say so."""
        try:
            yield
        except OSError as error:
            self._bag.discard_file()
            raise BagError(f"{self._job.output} cannot be written: {error}") from error

    def _go_through(self, plan: Plan, load: Callable[..., Predictor]) -> Following:
        """Answer the images that are left."""
        if self._progress.position:
            _logger.info("going on after %d of %d images", self._progress.position, self._topic.count)
        model = load_warm_predictor(load, self._job.parameters, self._stop.is_set, _logger)
        if model.has_memory:
            _logger.info(BY_MOTION, self._job.parameters.model_type)
        following = Following(model, _options(self._job), plan, self._progress)
        images = prepared(self._arrivals(), self._read_image, model, self._stop.is_set)
        with closing(images), self._bar() as bar, logging_redirect_tqdm():
            began = time.monotonic()
            for image in images:
                self._answer(image, following)
                bar.update()
                if time.monotonic() - began > FILE_SEC:
                    self._save()
                    began = time.monotonic()
                if self._stop.is_set():
                    raise EncodeCancelledError("stopped between images")
        return following

    def _answer(self, image: Prepared, following: Following) -> None:
        outputs = following.answer(image)
        recorded = image.arrived.recorded
        if outputs is None:
            return
        try:
            if self._job.with_images:
                self._bag.write(self._topic.name, recorded.time_ns, recorded.data)
            self._answers.write(outputs, recorded.time_ns)
        except BaseException:
            self._is_certain = False
            raise

    def _save(self) -> None:
        """Make what is written part of the bag, and keep what is needed to go on from there."""
        if not self._is_certain:
            return
        self._bag.finish_file()
        self._progress.depends_on_all = self._stream.brightness.is_in_use
        save(self._job.output, Saved(self._job.asked(), self._progress, self._bag.parts))

    def _finish(self) -> None:
        forget(self._job.output)
        if not self._bag.parts:
            raise BagError(f"no image of {self._topic.name} could be used: {self._left_out()}")

    def _find_first_stamp_ns(self) -> int:
        """Stamp of the first image that has one."""
        for recorded in self._source.messages(self._topic):
            with suppress(SamRosError):
                return stamp_of_serialized(recorded.data)
        raise BagError(f"no message of {self._topic.name} has a header that can be read")

    def _requests(self, prompts: PromptFile) -> list[TimedRequest]:
        """All prompts: those of the file and those that the bag has."""
        tolerance_ns = round(self._job.parameters.stamp_tolerance * 1e9)
        first_ns, laps, size_hw = self._first_stamp_ns, self._laps(prompts), prompts.size_hw
        requests = [
            request_of_prompt(prompt, first_ns, laps, tolerance_ns, size_hw) for prompt in prompts.prompts
        ]
        if prompts.topic:
            topic = self._source.topic(prompts.topic, (DETECTIONS,))
            messages = self._until_damage(topic)
            requests += requests_of_detections(topic.name, messages, laps, tolerance_ns, size_hw)
        return requests

    def _laps(self, prompts: PromptFile) -> Laps:
        """The laps of the bag's images; of none where all prompts are of the first lap anyway.

        It takes to read the whole bag once more.
        """
        is_asked = prompts.topic or any(prompt.is_stamp for prompt in prompts.prompts)
        return Laps(map(Arrivals().take, self._until_damage(self._topic)) if is_asked else ())

    def _until_damage(self, topic: Topic) -> Iterator[Recorded]:
        """The messages of a topic; the run tells of damage once it has answered the images before."""
        with suppress(BagError):
            yield from _messages(self._source, topic, self._stop)

    def _arrivals(self) -> Iterator[Arrived]:
        """The images that are left. Of the others, headers are read, and pixels where they matter."""
        arrivals, messages = Arrivals(), _messages(self._source, self._topic, self._stop)
        for recorded in islice(messages, self._progress.position):
            arrived = arrivals.take(recorded)
            if self._progress.depends_on_all and arrived.frame is not None:
                with suppress(InvalidImageError):
                    self._read_image(recorded.data)
        yield from with_next_stamps(map(arrivals.take, messages))

    def _bar(self) -> Any:
        done, count = self._progress.position, self._topic.count
        return tqdm(total=count, initial=done, unit=" images", disable=None, dynamic_ncols=True)

    def report(self) -> str:
        """What became of the objects, of images and of prompts."""
        lines = [as_table(self._progress.records.all, self._first_stamp_ns)]
        lines.append(f"{self._progress.position - self._progress.dropped.total()} images are answered")
        if self._progress.dropped:
            lines.append(f"left out: {self._left_out()}")
        lines += [f"refused: {reason}" for reason in self._progress.refused]
        return "\n".join(lines)

    def _left_out(self) -> str:
        return ", ".join(f"{count} ({kind})" for kind, count in self._progress.dropped.items())


def _options(job: Job) -> Options:
    return Options(
        multimask_output=job.parameters.multimask_output,
        max_objects=job.parameters.max_objects,
        min_predicted_iou=job.parameters.min_predicted_iou,
        min_stability_score=job.parameters.min_stability_score,
        follower="motion",  # what a model remembers is not kept for a run that goes on later
    )
