"""``sam_web`` over real ROS and a real connection: what goes in at one end comes out at the other."""

from __future__ import annotations

import signal
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from node_rig import FRAME_ID, SECOND, compressed_msg, header, image_msg
from processes import RosSession, RunningProcess, ros_session
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image

pytest.importorskip("aiohttp")

from web_rig import EVERY_GESTURE, SEEN, PageClient, StandIn, address_of, connect_prompts, scored, start_web

H, W = 60, 80


class Web:
    """The executable, a page that looks at it, and a stand-in for camera and node."""

    def __init__(self, ros: RosSession, *arguments: str) -> None:
        self.ros = ros
        self.sam = StandIn(ros)
        self.process: RunningProcess = start_web(ros, *arguments)
        self.address = address_of(ros, self.process)
        self.page = PageClient(ros, self.address)
        self.sam.wait_for_viewer()
        connect_prompts(ros, self.sam, self.page)
        self._stamp_ns = 100 * SECOND

    def stamp(self) -> int:
        self._stamp_ns += SECOND
        return self._stamp_ns

    def wait_until(self, condition: Any, what: str) -> None:
        self.ros.wait_until(lambda: bool(condition()), what)

    def frame_of(self, image_rgb: npt.NDArray[np.uint8], stamp_ns: int) -> tuple[dict[str, Any], list[bytes]]:
        """Show an image until the page has a frame of its stamp."""
        self.sam.show_until(image_rgb, stamp_ns, lambda: self.frames(stamp_ns), "a frame")
        return self.frames(stamp_ns)[-1]

    def frames(self, stamp_ns: int) -> list[tuple[dict[str, Any], list[bytes]]]:
        return [f for f in self.page.frames if f[0]["sec"] * SECOND + f[0]["nanosec"] == stamp_ns]

    def close(self) -> None:
        self.page.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with ros_session(tmp_path_factory.mktemp("web")) as ros:
        web = Web(ros)
        yield web
        web.close()


@pytest.fixture
def web(shared: Web) -> Web:
    shared.sam.prompts.clear()
    shared.page.frames.clear()
    shared.page.messages.clear()
    return shared


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


def picture(value: int = 0) -> npt.NDArray[np.uint8]:
    image = np.full((H, W, 3), (200, value, 40), np.uint8)
    image[:, W // 2 :] = (20, value, 180)
    return image


def decoded(data: bytes) -> npt.NDArray[Any]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))


@pytest.mark.parametrize(
    ("kind", "topic"),
    [("foreground", "point"), ("more", "point_foreground"), ("background", "point_background")],
)
def test_a_click_goes_to_its_topic_with_the_stamp_of_what_was_seen(web: Web, kind: str, topic: str) -> None:
    web.page.send(type="click", kind=kind, x=3.5, y=4.25, **SEEN)
    name, msg = web.sam.next_prompt()
    assert (name, msg.header.stamp.sec, msg.header.stamp.nanosec) == (topic, 7, 8)
    assert (msg.header.frame_id, msg.point.x, msg.point.y, msg.point.z) == ("lens", 3.5, 4.25, 0.0)


def test_a_box_is_a_stamped_prompt_for_one_object(web: Web) -> None:
    web.page.send(type="drag", x0=10, y0=20, x1=30, y1=24, **SEEN)
    name, msg = web.sam.next_prompt()
    assert (name, msg.header.stamp.sec, msg.header.frame_id, msg.id) == ("prompt", 7, "lens", "")
    assert (msg.bbox.center.position.x, msg.bbox.center.position.y) == (20.0, 22.0)
    assert (msg.bbox.size_x, msg.bbox.size_y) == (20.0, 4.0)


def test_edits_go_to_their_topics(web: Web) -> None:
    for gesture in (
        {"type": "choose", "index": 2},
        {"type": "select", "id": "_1"},
        {"type": "remove", "id": ""},
    ):
        web.page.send(**gesture)
    got = [web.sam.next_prompt() for _ in range(3)]
    assert sorted((name, msg.data) for name, msg in got) == [("choose", 2), ("remove", ""), ("select", "_1")]


@pytest.mark.parametrize("name", ["undo", "clear"])
def test_services_are_called_and_their_answers_told(web: Web, name: str) -> None:
    web.page.send(type="command", name=name)
    web.wait_until(lambda: web.page.of_type("said"), "the service's answer")
    assert web.page.of_type("said") == [{"type": "said", "good": True, "text": f"{name}: {name} it is"}]
    assert web.sam.calls[-1] == name


def test_an_image_is_shown_without_an_answer(web: Web) -> None:
    stamp = web.stamp()
    values, (jpeg, png) = web.frame_of(picture(90), stamp)
    assert (values["frame_id"], values["size"], values["objects"]) == (FRAME_ID, [W, H], [])
    assert (values["answered"], png) == (False, b"")
    np.testing.assert_allclose(decoded(jpeg)[5, 5], (200, 90, 40), atol=6)
    np.testing.assert_allclose(decoded(jpeg)[5, 75], (20, 90, 180), atol=6)


def test_an_image_and_its_answer_are_shown_together(web: Web) -> None:
    labels = np.zeros((H, W), np.uint16)
    labels[10:20, 30:50] = 1
    labels[15:20, 50:60] = 2
    stamp = web.stamp()
    web.sam.answer(
        labels, stamp, scored("_7", (30, 10, 50, 20), 0.9, 0.5, 0.2), scored("cup", (50, 15, 60, 20), 0.8)
    )

    def answered() -> bool:
        web.sam.show(picture(), stamp)
        return any(values["answered"] for values, _ in web.frames(stamp))

    web.wait_until(answered, "the answered frame")
    values, (jpeg, png) = next(f for f in web.frames(stamp) if f[0]["answered"])
    assert decoded(jpeg).shape == (H, W, 3)
    np.testing.assert_array_equal(decoded(png)[..., 0], labels)
    first, second = values["objects"]
    assert (first["id"], first["iou"], first["area"], first["box"]) == (
        "_7",
        [0.9, 0.5, 0.2],
        200,
        [30, 10, 50, 20],
    )
    assert (second["id"], second["iou"], second["area"]) == ("cup", [0.8], 50)
    assert first["colour"] != second["colour"]


def test_labels_of_another_resolution_are_not_drawn_on_an_image(web: Web) -> None:
    stamp = web.stamp()
    web.sam.answer(np.ones((H, W + 2), np.uint16), stamp, scored("_1", (0, 0, 5, 5), 0.5))

    def problem() -> bool:
        web.sam.show(picture(), stamp)
        return any("belong to an image of" in s["image_problem"] for s in web.page.of_type("status"))

    web.wait_until(problem, "the problem to be said")
    assert not any(values["objects"] for values, _ in web.frames(stamp))
    empty = np.zeros((H, W), np.uint16)
    web.sam.answer(empty, web.stamp())  # the node goes on
    web.frame_of(picture(), web.stamp())


def test_scores_that_no_browser_reads_are_told_and_not_sent(web: Web) -> None:
    stamp = web.stamp()
    web.sam.answer(np.ones((H, W), np.uint16), stamp, scored("_1", (0, 0, W, H), float("nan")))

    def problem() -> bool:
        web.sam.show(picture(), stamp)
        return any("not JSON compliant" in s["image_problem"] for s in web.page.of_type("status"))

    web.wait_until(problem, "the problem to be said")
    assert not any(values["objects"] for values, _ in web.frames(stamp))
    web.sam.answer(np.zeros((H, W), np.uint16), web.stamp())  # the node goes on
    web.frame_of(picture(), web.stamp())


def test_candidates_are_passed_on(web: Web) -> None:
    candidates = np.zeros((H, W, 3), np.uint8)
    candidates[:10, :, 0], candidates[:20, :, 1], candidates[:30, :, 2] = 255, 255, 255
    stamp = web.stamp()
    web.sam.offer(candidates, stamp)
    web.wait_until(lambda: web.page.candidates, "candidates")
    values, (png,) = web.page.candidates[-1]
    assert values["sec"] * SECOND == stamp
    np.testing.assert_array_equal(decoded(png), candidates)


def test_all_that_may_be_for_another_object_voids_the_candidates_of_every_page(web: Web) -> None:
    other = PageClient(web.ros, web.address)
    for gesture in EVERY_GESTURE:  # ends with the two services
        web.page.send(**gesture)
    choices = sum(gesture["type"] == "choose" for gesture in EVERY_GESTURE)
    for page in (web.page, other):
        web.wait_until(lambda page=page: len(page.of_type("said")) == 2, "the answers of the services")
        assert len(page.of_type("candidates_void")) == len(EVERY_GESTURE) - choices
    other.close()


def test_the_ious_of_candidates_are_passed_on_with_the_stamp_of_their_frame(web: Web) -> None:
    web.sam.report("sam: candidates", "", {"stamp": "soon", "IoU 1": "1"})  # nothing that the node would say
    report = {"stamp": "7.000000008", "IoU 1": "0.9100", "IoU 2": "0.5200", "IoU 3": "0.3100"}
    web.sam.report("sam: candidates", "masks to choose from", report)
    web.wait_until(lambda: web.page.of_type("candidate_iou"), "the IoUs")
    assert web.page.of_type("candidate_iou") == [
        {"type": "candidate_iou", "sec": 7, "nanosec": 8, "iou": [0.91, 0.52, 0.31]}
    ]


def test_a_refusal_is_told_in_the_node_s_words_and_only_its_own(web: Web) -> None:
    refusal = {"topic": "/sam/point", "id": "", "kind": "stale", "reason": "too old by 3 s"}
    refusal["stamp"] = "7.000000008"
    web.sam.report("other: prompt refused", "not of interest", refusal)
    web.sam.report("sam: prompt refused", refusal["reason"], refusal, DiagnosticStatus.WARN)
    web.wait_until(lambda: web.page.of_type("refused"), "the refusal")
    assert web.page.of_type("refused") == [
        {
            "type": "refused",
            "topic": "/sam/point",
            "id": "",
            "kind": "stale",
            "reason": "too old by 3 s",
            "sec": 7,
            "nanosec": 8,
        }
    ]


def test_the_status_has_the_node_s_figures_and_says_when_it_is_gone(web: Web) -> None:
    def statuses() -> list[Any]:
        return [status["node_status"] for status in web.page.of_type("status")]

    def reported() -> bool:
        web.sam.report("sam: segmentation", "segmenting", {"encode (ms)": "44.3"})
        return any(statuses())

    web.wait_until(reported, "the node's status")
    told = next(status for status in statuses() if status)
    assert told == {"level": "ok", "message": "segmenting", "values": {"encode (ms)": "44.3"}}
    web.page.messages.clear()
    web.wait_until(lambda: None in statuses(), "the node's silence")
    last = web.page.of_type("status")[-1]
    assert (last["node"], last["image_topic"], last["image_publishers"]) == ("/sam", "/image", 1)


def test_a_bad_gesture_is_answered(web: Web) -> None:
    web.page.send(type="click", kind="foreground", x=1)
    web.wait_until(lambda: web.page.of_type("refused"), "the refusal")
    assert "y must be a finite number" in web.page.of_type("refused")[0]["reason"]
    assert not web.sam.prompts


def test_nothing_is_subscribed_to_without_a_viewer(ros: RosSession) -> None:
    topics = ("image", "sam/labels", "sam/segments", "sam/candidates")

    def counts() -> set[int]:
        return {ros.node.count_subscribers(topic) for topic in topics}

    address = address_of(ros, start_web(ros))
    assert counts() == {0}
    first, second = PageClient(ros, address), PageClient(ros, address)
    ros.wait_until(lambda: counts() == {1}, "subscriptions")
    first.close()
    second.send(type="drawn", sequence=0)
    assert counts() == {1}
    second.close()
    ros.wait_until(lambda: counts() == {0}, "no subscriptions")


def test_without_the_node_a_gesture_is_refused_in_words(ros: RosSession) -> None:
    page = PageClient(ros, address_of(ros, start_web(ros)))
    page.send(type="click", kind="foreground", x=1, y=1, **SEEN)
    page.send(type="command", name="undo")
    ros.wait_until(lambda: len(page.of_type("refused")) == 2, "refusals")
    assert [(message["topic"], message["reason"]) for message in page.of_type("refused")] == [
        ("/sam/point", "nobody listens on this topic: is the node running?"),
        ("/sam/undo", "nobody offers this service: is the node running?"),
    ]
    page.close()


def test_pictures_are_made_smaller_and_coordinates_stay_those_of_the_image(ros: RosSession) -> None:
    web = Web(ros, "-p", "longest_side:=40", "-p", "jpeg_quality:=50", "-p", "max_rate:=0")
    values, (jpeg, _) = web.frame_of(picture(), web.stamp())
    assert (values["size"], decoded(jpeg).shape) == ([W, H], (30, 40, 3))
    web.close()


def test_a_node_of_another_name_and_a_compressed_camera(ros: RosSession) -> None:
    publisher = ros.node.create_publisher(CompressedImage, "front/compressed", 10)
    web = start_web(ros, "-p", "node:=robot/sam", "-p", "image_transport:=compressed", "-r", "image:=front")
    page = PageClient(ros, address_of(ros, web))
    message = compressed_msg(picture(60), ".png", 5 * SECOND)
    ros.wait_until(lambda: publisher.publish(message) or bool(page.frames), "a frame")
    values, (jpeg, _) = page.frames[0]
    assert (values["sec"], values["size"]) == (5, [W, H])
    np.testing.assert_allclose(decoded(jpeg)[5, 5], (200, 60, 40), atol=6)
    page.send(type="click", kind="foreground", x=1, y=1, **SEEN)
    ros.wait_until(lambda: bool(page.of_type("refused")), "the refusal")
    assert page.of_type("refused")[0]["topic"] == "/robot/sam/point"
    page.close()


def test_a_still_image_that_was_published_before_anybody_looked_is_shown(ros: RosSession) -> None:
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros.node.create_publisher(Image, "map", kept).publish(image_msg(picture(60), "rgb8", 5 * SECOND))
    web = start_web(ros, "-p", "image_durability:=transient_local", "-r", "image:=map")
    page = PageClient(ros, address_of(ros, web))
    ros.wait_until(lambda: bool(page.frames), "the still image")
    assert (page.frames[0][0]["sec"], page.frames[0][0]["size"]) == (5, [W, H])
    page.messages.clear()
    ros.wait_until(lambda: any(not s["image_hz"] for s in page.of_type("status")), "no second image")
    assert all(status["image_is_still"] for status in page.of_type("status")), "nothing is waited for"
    page.close()


def test_a_bad_image_does_not_end_it(ros: RosSession) -> None:
    web = Web(ros)
    bad = Image(header=header(SECOND), encoding="rgb8", width=W, height=H, step=3 * W, data=array("B", [1]))

    def problem() -> bool:
        web.sam.image.publish(bad)
        return any("only 1 bytes of data" in s["image_problem"] for s in web.page.of_type("status"))

    web.wait_until(problem, "the problem to be said")
    web.frame_of(picture(), web.stamp())
    web.close()


def test_an_image_whose_stamp_is_no_time_does_not_end_it(ros: RosSession) -> None:
    web = Web(ros)
    bad = image_msg(picture(), "rgb8", SECOND)
    bad.header.stamp.nanosec = 2 * SECOND
    reason = "a stamp's nanosec must be below 1000000000, got 2000000000"

    def told_twice() -> bool:
        web.sam.image.publish(bad)
        return [s["image_problem"] for s in web.page.of_type("status")].count(reason) >= 2

    web.wait_until(told_twice, "the problem to be said")
    web.frame_of(picture(), web.stamp())
    web.page.messages.clear()
    web.wait_until(lambda: web.page.of_type("status"), "the next status")
    assert web.page.of_type("status")[0]["image_problem"] == ""
    assert 1 <= web.process.output().count(reason) <= 2  # once in a while, not for each image
    assert web.process.stop() == 0
    web.close()


def test_an_answer_or_report_that_cannot_be_read_does_not_end_it(ros: RosSession) -> None:
    web = Web(ros)
    for _ in range(3):
        web.sam.answer_at_no_time()
    web.wait_until(lambda: len(web.page.of_type("failed")) == 2, "the failures")
    for half in ("labels", "segments"):
        reason = f"a message on /sam/{half} failed: a stamp's nanosec must be below 1000000000"
        assert sum(reason in message["reason"] for message in web.page.of_type("failed")) == 1
        assert web.process.output().count(reason) == 1
    labels = np.ones((H, W), np.uint16)
    stamp = web.stamp()
    web.sam.answer(labels, stamp, scored("_1", (0, 0, W, H), 0.9))
    web.sam.show_until(picture(), stamp, lambda: any(f[0]["objects"] for f in web.frames(stamp)), "masks")
    web.close()


def test_the_masks_of_a_node_that_takes_seconds_stay_until_the_next_ones(ros: RosSession) -> None:
    web = Web(ros)

    def answer(stamp: int) -> None:
        web.sam.answer(np.ones((H, W), np.uint16), stamp, scored("_1", (0, 0, W, H), 0.9))
        web.sam.show_until(picture(), stamp, lambda: any(f[0]["objects"] for f in web.frames(stamp)), "masks")

    def seconds_pass(num_seconds: int) -> None:
        """By the status that comes every second; the node reports all the while."""
        web.page.messages.clear()

        def have_passed() -> bool:
            web.sam.report("sam: segmentation", "segmenting", {"encode (ms)": "20000.0"})
            web.sam.show(picture(), web.stamp())
            return len(web.page.of_type("status")) > num_seconds

        web.wait_until(have_passed, f"{num_seconds} s")

    for _ in range(4):
        seconds_pass(4)
        answer(web.stamp())
    web.page.frames.clear()
    seconds_pass(3)
    assert all(values["objects"] for values, _ in web.page.frames)
    web.close()


def test_masks_that_come_too_late_for_their_images_are_told_until_they_do_not(ros: RosSession) -> None:
    web = Web(ros, "-p", "images_kept:=2")
    late = "masks come later than the 2 images kept: raise images_kept"

    def is_told(reason: str) -> bool:
        """Three images, each seen on the page, and an answer: to the first if there is to be a reason."""
        stamps = [web.stamp() for _ in range(3)]
        for stamp in stamps:
            web.frame_of(picture(), stamp)
        web.sam.answer(np.zeros((H, W), np.uint16), stamps[0] if reason else stamps[-1])
        web.page.messages.clear()
        web.wait_until(lambda: web.page.of_type("status"), "the next status")
        return bool(web.page.of_type("status")[-1]["late"] == reason)

    for reason in (late, "", late):
        web.wait_until(lambda reason=reason: is_told(reason), f"the reason {reason!r}")
    web.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly_while_a_page_is_open(ros: RosSession, number: signal.Signals) -> None:
    web = Web(ros)
    web.frame_of(picture(), web.stamp())
    assert web.process.stop(number) == 0
    assert web.page.closed.wait(10)
    assert "Traceback" not in web.process.output()
    web.close()
