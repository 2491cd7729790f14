"""The page in a real browser, before a stand-in for camera and node: what is seen, and what a hand does."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from node_rig import SECOND
from processes import RosSession, RunningProcess, ros_session

pytest.importorskip("aiohttp")

from browser import Tab, chromium
from web_rig import PageClient, StandIn, address_of, connect_prompts, scored, start_web

from sam_ros.core.overlay import PALETTE_RGB
from sam_ros.tools.web.server import FRAMES_UNDERWAY

H, W = 240, 320
GREY = 100
FILL, FILL_HOVERED = 0.42, 0.66  # as in masks.js
BOX = (80, 60, 160, 140)


def picture(value: int = GREY) -> npt.NDArray[np.uint8]:
    return np.full((H, W, 3), value, np.uint8)


def labels(*boxes: tuple[int, int, int, int]) -> npt.NDArray[np.uint16]:
    """One object in each box, in this order."""
    image = np.zeros((H, W), np.uint16)
    for number, (x0, y0, x1, y1) in enumerate(boxes, 1):
        image[y0:y1, x0:x1] = number
    return image


def seen(colour: tuple[int, ...], value: int = GREY, opacity: float = FILL) -> npt.NDArray[np.float64]:
    return np.asarray(colour) * opacity + value * (1 - opacity)


class Scene:
    """A stand-in for camera and node, the executable, and a tab that looks at it."""

    def __init__(self, ros: RosSession, browser: Any) -> None:
        self.ros = ros
        self.sam = StandIn(ros)
        self.web = start_web(ros)
        self.address = address_of(ros, self.web)
        client = PageClient(ros, self.address)
        self.sam.wait_for_viewer()
        connect_prompts(ros, self.sam, client)
        client.close()
        self.browser = browser
        self.tab = Tab(browser, self.address)
        self.sec = 100

    def wait_until(self, condition: Any, what: str) -> None:
        self.ros.wait_until(lambda: bool(condition()), what)

    def next_stamp(self) -> int:
        self.sec += 1
        return self.sec * SECOND

    def show(
        self, image: npt.NDArray[np.uint8], of: Any = None, *objects: Any, tab: Tab | None = None
    ) -> int:
        """Show an image, with an answer if there is one, until the tab does; returns its stamp."""
        tab, stamp = tab or self.tab, self.next_stamp()
        self.sam.wait_for_viewer()
        if of is not None:
            self.sam.answer(of, stamp, *objects)

        def is_drawn() -> bool:
            self.sam.show(image, stamp)
            return tab.stamp() == (self.sec, 0) and int(tab.place()["objects"]) == len(objects)

        self.wait_until(is_drawn, "the frame on the page")
        return stamp

    def next_prompt(self) -> tuple[str, Any]:
        """The next prompt, which must be for the frame on the page if it has a stamp."""
        name, msg = self.sam.next_prompt()
        if hasattr(msg, "header"):
            assert (msg.header.stamp.sec, msg.header.frame_id) == (self.tab.stamp()[0], "camera_optical")
        return name, msg


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Scene]:
    with ros_session(tmp_path_factory.mktemp("page")) as ros:
        yield Scene(ros, browser)


@pytest.fixture
def scene(shared: Scene) -> Iterator[Scene]:
    """The shared scene with a fresh tab."""
    shared.tab.close()
    shared.wait_until(lambda: shared.sam.image.get_subscription_count() == 0, "sam_web to look at nothing")
    shared.tab = Tab(shared.browser, shared.address)
    shared.sam.prompts.clear()
    shared.sam.calls.clear()
    yield shared
    assert shared.tab.errors == []


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


def swatch(tab: Tab, id: str) -> tuple[int, ...]:
    """The colour of an object in the list, RGB."""
    style = tab.page.eval_on_selector(
        f'#objects [data-id="{id}"] .swatch', "e => getComputedStyle(e).backgroundColor"
    )
    return tuple(map(int, re.findall(r"\d+", style)))


def test_masks_are_drawn_in_the_overlay_s_colours_and_listed(scene: Scene) -> None:
    other = (200, 100, 260, 180)
    scene.show(picture(), labels(BOX, other), scored("_1", BOX, 0.912), scored("_2", other, 0.8))
    assert scene.tab.object_ids() == ["_1", "_2"]
    assert "IoU 0.91 \u00b7 6,400 px" in scene.tab.text('#objects [data-id="_1"]')
    first, second = swatch(scene.tab, "_1"), swatch(scene.tab, "_2")
    assert {first, second} <= set(PALETTE_RGB) and first != second
    np.testing.assert_allclose(scene.tab.rgb(120, 100), seen(first), atol=6)
    np.testing.assert_allclose(scene.tab.rgb(230, 140), seen(second), atol=6)
    np.testing.assert_allclose(scene.tab.rgb(30, 200), (GREY, GREY, GREY), atol=4)


def test_a_mask_moves_with_its_frame(scene: Scene) -> None:
    for number in range(4):
        x, grey = 40 + 50 * number, 60 + 30 * number
        scene.show(picture(grey), labels((x, 60, x + 30, 140)), scored("_1", (x, 60, x + 30, 140), 0.9))
        np.testing.assert_allclose(scene.tab.rgb(x + 15, 100), seen(swatch(scene.tab, "_1"), grey), atol=6)
        np.testing.assert_allclose(scene.tab.rgb(x - 15, 100), (grey, grey, grey), atol=4)


def test_more_objects_than_a_byte_counts_are_told_apart(scene: Scene) -> None:
    boxes = [(x, y, x + 8, y + 8) for y in range(0, 200, 10) for x in range(0, 320, 10)][:300]
    scene.show(picture(), labels(*boxes), *(scored(f"o{n}", box, 0.9) for n, box in enumerate(boxes)))
    x, y = boxes[290][:2]
    scene.tab.page.mouse.move(*scene.tab.at(x + 4, y + 4))
    assert scene.tab.text("#tooltip") == "o290 \u00b7 IoU 0.90 \u00b7 64 px"
    np.testing.assert_allclose(
        scene.tab.rgb(x + 4, y + 4), seen(swatch(scene.tab, "o290"), opacity=FILL_HOVERED), atol=6
    )


def test_a_mask_stays_crisp_at_any_zoom(scene: Scene) -> None:
    scene.show(picture(), labels(BOX), scored("_1", BOX, 0.9))
    scene.tab.page.mouse.move(*scene.tab.at(80, 100))
    scene.tab.page.mouse.wheel(0, -1500)
    scene.wait_until(lambda: float(scene.tab.place()["scale"]) > 8, "the zoom")
    np.testing.assert_allclose(scene.tab.rgb(79.4, 100), (GREY, GREY, GREY), atol=4)
    np.testing.assert_allclose(scene.tab.rgb(79.6, 100), swatch(scene.tab, "_1"), atol=4)  # the outline
    np.testing.assert_allclose(scene.tab.rgb(80.4, 100), swatch(scene.tab, "_1"), atol=4)
    scene.tab.page.keyboard.press("0")
    scene.wait_until(lambda: float(scene.tab.place()["scale"]) < 8, "the whole image")


@pytest.mark.parametrize(
    ("options", "topic"),
    [
        ({}, "point"),
        ({"modifiers": ["Shift"]}, "point_foreground"),
        ({"button": "right"}, "point_background"),
    ],
    ids=["left", "shift", "right"],
)
def test_a_click_goes_to_the_frame_that_was_seen(scene: Scene, options: dict[str, Any], topic: str) -> None:
    scene.show(picture())
    for x, y in ((120, 100), (0, 0), (W - 1, H - 1)):
        scene.tab.click(x, y, **options)
        name, msg = scene.next_prompt()
        assert name == topic
        assert (msg.point.x, msg.point.y) == (pytest.approx(x, abs=0.5), pytest.approx(y, abs=0.5))
        assert 0 <= msg.point.x <= W - 1 and 0 <= msg.point.y <= H - 1


def test_a_drag_is_a_box_in_pixel_edges(scene: Scene) -> None:
    scene.show(picture())
    scene.tab.drag(200, 150, 60, 40)  # from the lower right
    name, msg = scene.next_prompt()
    centre, size = msg.bbox.center.position, (msg.bbox.size_x, msg.bbox.size_y)
    assert (name, msg.id) == ("prompt", "")
    assert (centre.x, centre.y) == (pytest.approx(130.5, abs=0.5), pytest.approx(95.5, abs=0.5))
    assert size == (pytest.approx(140, abs=0.5), pytest.approx(110, abs=0.5))


def test_the_picture_stands_still_while_a_box_is_dragged(scene: Scene) -> None:
    scene.show(picture())
    before = scene.tab.stamp()
    mouse = scene.tab.page.mouse
    mouse.move(*scene.tab.at(60, 40))
    mouse.down()
    mouse.move(*scene.tab.at(100, 80))
    stamp = scene.next_stamp()
    scene.sam.answer(labels(BOX), stamp, scored("new", BOX, 0.9))
    scene.sam.show_until(picture(), stamp, lambda: scene.tab.object_ids() == ["new"], "the list")
    assert scene.tab.stamp() == before
    mouse.up()
    name, msg = scene.sam.next_prompt()
    assert (name, msg.header.stamp.sec) == ("prompt", before[0])
    scene.wait_until(lambda: scene.tab.stamp() == (scene.sec, 0), "the newer frame")


def test_escape_drops_a_box(scene: Scene) -> None:
    scene.show(picture())
    mouse = scene.tab.page.mouse
    mouse.move(*scene.tab.at(60, 40))
    mouse.down()
    mouse.move(*scene.tab.at(100, 80))
    scene.tab.page.keyboard.press("Escape")
    mouse.up()
    scene.tab.click(10, 10)
    assert scene.next_prompt()[0] == "point"
    assert scene.sam.prompts == []


def test_candidates_are_shown_with_their_iou_and_chosen(scene: Scene) -> None:
    candidates = np.zeros((H, W, 3), np.uint8)
    for channel, x1 in enumerate((120, 160, 200)):
        candidates[60:140, 80:x1, channel] = 255
    stamp = scene.show(picture(), labels(BOX), scored("_1", BOX, 0.9))  # as followed: one IoU
    scene.sam.offer(candidates, stamp)
    scene.wait_until(lambda: scene.tab.page.locator("#candidate-list canvas").count() == 3, "thumbnails")
    report = {"stamp": f"{stamp // SECOND}.000000000", "IoU 1": "0.91", "IoU 2": "0.62", "IoU 3": "0.3"}
    scene.sam.report("sam: candidates", "masks to choose from", {**report, "stamp": "1.000000000"})
    scene.sam.report("sam: candidates", "masks to choose from", report)
    scene.wait_until(lambda: "IoU" in scene.tab.text("#candidate-list"), "their IoUs")
    assert scene.tab.text("#candidate-list").split() == [
        "1",
        "IoU",
        "0.91",
        "2",
        "IoU",
        "0.62",
        "3",
        "IoU",
        "0.30",
    ]
    assert thumbnails_have_masks_of_growing_area(scene.tab)
    scene.tab.page.keyboard.press("2")
    assert scene.next_prompt()[1].data == 1
    scene.tab.page.locator("#candidate-list button").nth(2).click()
    name, msg = scene.next_prompt()
    assert (name, msg.data) == ("choose", 2)
    scene.tab.page.keyboard.press("n")
    assert scene.next_prompt()[1].data == 0


def offer(scene: Scene, stamp: int, *tabs: Tab) -> None:
    """Offer candidates until these tabs show them."""
    scene.sam.offer(np.full((H, W, 3), 255, np.uint8), stamp)
    for tab in tabs or (scene.tab,):
        scene.wait_until(lambda tab=tab: tab.page.is_visible("#candidate-list"), "thumbnails")


@pytest.mark.parametrize("button", ["Select", "\u2715"])
def test_candidates_are_gone_once_another_object_may_be_the_clicked_one(scene: Scene, button: str) -> None:
    other = (200, 100, 260, 180)
    stamp = scene.show(picture(), labels(BOX, other), scored("_1", BOX, 0.9), scored("_2", other, 0.8))
    second = Tab(scene.browser, scene.address)
    scene.wait_until(lambda: second.object_ids() == ["_1", "_2"], "the second page")
    offer(scene, stamp, scene.tab, second)
    scene.tab.page.click(f'#objects [data-id="_2"] button:text-is("{button}")')
    assert scene.tab.page.is_hidden("#candidates")
    assert scene.sam.next_prompt()[1].data == "_2"
    scene.wait_until(lambda: second.page.is_hidden("#candidates"), "no thumbnails on the other page")
    for tab in (scene.tab, second):
        tab.page.keyboard.press("2")
        tab.page.keyboard.press("n")
    scene.tab.page.keyboard.press("u")
    scene.wait_until(lambda: scene.sam.calls, "the undoing")
    assert scene.sam.prompts == []
    assert second.errors == []
    second.close()


def thumbnails_have_masks_of_growing_area(tab: Tab) -> bool:
    """Counts the pixels that are more blue than red: the picture is grey."""
    counts = tab.page.eval_on_selector_all(
        "#candidate-list canvas",
        """canvases => canvases.map(c => {
            const {data} = c.getContext("2d").getImageData(0, 0, c.width, c.height);
            let count = 0;
            for (let i = 0; i < data.length; i += 4) count += data[i + 2] > data[i] + 20;
            return count;
        })""",
    )
    return bool(0 < counts[0] < counts[1] < counts[2])


def test_keys_undo_clear_and_remove(scene: Scene) -> None:
    scene.show(picture(), labels(BOX), scored("_1", BOX, 0.9))
    for key, call in (("u", "undo"), ("Control+z", "undo"), ("c", "clear")):
        scene.sam.calls.clear()
        scene.tab.page.keyboard.press(key)
        scene.wait_until(lambda: scene.sam.calls, key)
        assert scene.sam.calls == [call]
    scene.tab.page.keyboard.press("Delete")
    assert (scene.sam.next_prompt()[1]).data == ""  # the clicked object
    scene.tab.page.mouse.move(*scene.tab.at(120, 100))
    scene.tab.page.keyboard.press("Delete")
    name, msg = scene.sam.next_prompt()
    assert (name, msg.data) == ("remove", "_1")


def test_hovering_tells_what_is_under_the_pointer(scene: Scene) -> None:
    other = (200, 100, 260, 180)
    cup = scored("cup_1", BOX, 0.87)
    cup.results[0].hypothesis.class_id = "cup"
    scene.show(picture(), labels(BOX, other), cup, scored("_2", other, 0.8))
    scene.tab.page.mouse.move(*scene.tab.at(120, 100))
    assert scene.tab.text("#tooltip") == "cup cup_1 \u00b7 IoU 0.87 \u00b7 6,400 px"
    assert scene.tab.page.locator("#objects li.hover").get_attribute("data-id") == "cup_1"
    expected = seen(swatch(scene.tab, "cup_1"), opacity=FILL_HOVERED)
    np.testing.assert_allclose(scene.tab.rgb(100, 120), expected, atol=6)
    scene.tab.page.hover('#objects [data-id="_2"]')
    expected = seen(swatch(scene.tab, "_2"), opacity=FILL_HOVERED)
    np.testing.assert_allclose(scene.tab.rgb(230, 140), expected, atol=6)
    assert scene.tab.page.is_hidden("#tooltip")


def hovered(tab: Tab) -> list[str]:
    """The ids of the objects that the list marks as under the pointer: none or one."""
    return [
        str(id)
        for id in tab.page.eval_on_selector_all("#objects li.hover", "rows => rows.map(r => r.dataset.id)")
    ]


def test_what_moves_under_a_resting_pointer_is_what_delete_removes(scene: Scene) -> None:
    aside = (200, 100, 260, 180)
    scene.show(picture(), labels(BOX, aside), scored("_1", BOX, 0.9), scored("_2", aside, 0.8))
    scene.tab.page.mouse.move(*scene.tab.at(120, 100))
    for boxes, id in (((aside, BOX), "_2"), ((BOX, aside), "_1")):
        scene.show(picture(), labels(*boxes), scored("_1", boxes[0], 0.9), scored("_2", boxes[1], 0.8))
        assert hovered(scene.tab) == [id]
        assert scene.tab.text("#tooltip").startswith(f"{id} ")
        scene.tab.page.keyboard.press("Delete")
        assert scene.sam.next_prompt()[1].data == id
    scene.show(picture(), labels(aside), scored("_1", aside, 0.9))
    assert hovered(scene.tab) == [] and scene.tab.page.is_hidden("#tooltip")
    scene.tab.page.keyboard.press("Delete")
    assert scene.sam.next_prompt()[1].data == ""  # the clicked object


def test_what_zooming_brings_under_a_resting_pointer_is_hovered(scene: Scene) -> None:
    corner = (0, 0, 60, 50)
    scene.show(picture(), labels(BOX, corner), scored("_1", BOX, 0.9), scored("_2", corner, 0.8))
    place = scene.tab.at(120, 100)
    scene.tab.page.mouse.move(*scene.tab.at(0, 0))
    scene.tab.page.mouse.wheel(0, -900)
    scene.wait_until(lambda: float(scene.tab.place()["scale"]) > 8, "the zoom")
    scene.tab.page.mouse.move(*place)
    assert hovered(scene.tab) == ["_2"]
    scene.tab.page.keyboard.press("0")
    scene.wait_until(lambda: hovered(scene.tab) == ["_1"], "the object that lies there now")
    assert scene.tab.text("#tooltip").startswith("_1 ")


def test_a_line_of_the_list_stays_hovered_until_its_object_is_gone(scene: Scene) -> None:
    other = (200, 100, 260, 180)
    for _ in range(2):
        scene.show(picture(), labels(BOX, other), scored("_1", BOX, 0.9), scored("_2", other, 0.8))
        scene.tab.page.hover('#objects [data-id="_2"]')
    scene.show(picture(), labels(BOX, other), scored("_1", BOX, 0.9), scored("_2", other, 0.8))
    assert hovered(scene.tab) == ["_2"]
    scene.show(picture(), labels(BOX), scored("_1", BOX, 0.9))
    scene.tab.page.keyboard.press("Delete")
    assert scene.sam.next_prompt()[1].data == ""  # the clicked object, not one that there is no longer


def test_the_list_selects_and_removes(scene: Scene) -> None:
    scene.show(picture(), labels(BOX), scored("_1", BOX, 0.9))
    for button, topic in (("Select", "select"), ("\u2715", "remove")):
        scene.tab.page.click(f'#objects [data-id="_1"] button:text-is("{button}")')
        name, msg = scene.sam.next_prompt()
        assert (name, msg.data) == (topic, "_1")


def test_a_paused_picture_takes_clicks_and_shows_what_they_could_mean(scene: Scene) -> None:
    first = scene.show(picture())
    scene.tab.page.keyboard.press("Space")
    assert scene.tab.text("#frozen") == "Paused: clicks go to this frame"
    stamp = scene.next_stamp()
    scene.sam.answer(labels(BOX), stamp, scored("new", BOX, 0.9))
    scene.sam.show_until(picture(200), stamp, lambda: scene.tab.object_ids() == ["new"], "the list")
    scene.tab.click(120, 100)
    name, msg = scene.sam.next_prompt()
    assert (name, msg.header.stamp.sec) == ("point", first // SECOND)
    candidates = np.zeros((H, W, 3), np.uint8)
    candidates[150:200, 200:300] = 255
    scene.sam.offer(candidates, first)
    scene.wait_until(lambda: scene.tab.page.locator("#candidate-list canvas").count() == 3, "thumbnails")
    np.testing.assert_allclose(scene.tab.rgb(250, 175), seen((86, 180, 233)), atol=6)
    np.testing.assert_allclose(scene.tab.rgb(30, 200), (GREY, GREY, GREY), atol=4)
    scene.tab.page.keyboard.press("Space")
    scene.wait_until(lambda: scene.tab.stamp() == (scene.sec, 0), "the newer frame")
    np.testing.assert_allclose(scene.tab.rgb(30, 200), (200, 200, 200), atol=4)


def test_an_answer_to_the_paused_frame_is_drawn_on_it(scene: Scene) -> None:
    stamp = scene.show(picture())
    scene.tab.page.keyboard.press("Space")
    scene.sam.answer(labels(BOX), stamp, scored("_1", BOX, 0.9))
    scene.wait_until(lambda: scene.tab.object_ids() == ["_1"], "the answer")
    np.testing.assert_allclose(scene.tab.rgb(120, 100), seen(swatch(scene.tab, "_1")), atol=6)


COUNT_DRAWN = """() => {
    const send = WebSocket.prototype.send;
    window.drawn = 0;
    WebSocket.prototype.send = function (text) {
        drawn += text.includes("drawn");
        return send.call(this, text);
    };
}"""


def test_a_paused_picture_keeps_its_objects_until_the_node_has_none(scene: Scene) -> None:
    """A node that does not follow answers prompts alone: no image that comes later has an answer."""
    stamp = scene.show(picture(), labels(BOX), scored("_1", BOX, 0.9))
    scene.tab.page.keyboard.press("Space")
    scene.tab.page.evaluate(COUNT_DRAWN)
    later = scene.next_stamp()
    scene.sam.show_until(picture(200), later, lambda: scene.tab.page.evaluate("drawn"), "a later image")
    assert scene.tab.object_ids() == ["_1"]
    scene.sam.answer(labels(), stamp)
    scene.sam.show_until(picture(), scene.next_stamp(), lambda: scene.tab.object_ids() == [], "an empty list")


def test_a_paused_picture_that_the_node_no_longer_has_is_said_to_be_stale(scene: Scene) -> None:
    def refuse(kind: str, stamp: int, reason: str) -> None:
        values = {"topic": "/sam/point", "kind": kind, "reason": reason}
        values["stamp"] = f"{stamp // SECOND}.000000000"
        scene.sam.report("sam: prompt refused", reason, values)
        scene.wait_until(lambda: reason in scene.tab.text("#log"), "the refusal")

    stamp = scene.show(picture())
    scene.tab.page.keyboard.press("Space")
    refuse("stale", stamp - SECOND, "of a detector, which saw an older frame")
    assert "stale" not in scene.tab.text("#state")
    scene.tab.click(120, 100)
    refuse("stale", stamp, "its frame is no longer kept")
    said = "This picture is stale: the node has dropped it, so resume"
    assert said in scene.tab.text("#state")
    refuse("invalid prompt", 0, "of somebody else")
    assert said in scene.tab.text("#state")
    refuse("stale", stamp - SECOND, "of the detector again")
    assert said in scene.tab.text("#state")
    scene.tab.page.keyboard.press("Space")
    scene.wait_until(lambda: "stale" not in scene.tab.text("#state"), "the live state")


def test_refusals_and_answers_of_services_are_said_in_words(scene: Scene) -> None:
    scene.show(picture())
    reason = {"topic": "/sam/point", "id": "_3", "reason": "it is stale"}
    scene.sam.report("sam: prompt refused", "the frame is too old", reason)
    scene.wait_until(lambda: "it is stale" in scene.tab.page.inner_text("#toasts"), "the refusal")
    assert "/sam/point _3" in scene.tab.text("#log")
    scene.tab.page.click("#undo")
    scene.wait_until(lambda: "undo: undo it is" in scene.tab.page.inner_text("#toasts"), "the answer")


def test_the_state_is_said_in_words(scene: Scene) -> None:
    def says(text: str) -> bool:
        scene.sam.show(picture(), scene.next_stamp())
        return text in scene.tab.page.inner_text("#state")

    scene.wait_until(lambda: says("Images only: the node /sam is not running"), "the missing node")

    def reports(message: str, level: bytes) -> bool:
        scene.sam.report("sam: segmentation", message, {"encode (ms)": "44.3"}, level)
        return says("Live" if message == "segmenting" else message)

    scene.wait_until(lambda: reports("segmenting", DiagnosticStatus.OK), "the node")
    assert "encode 44.3 ms" in scene.tab.text("#figures")
    scene.wait_until(lambda: reports("no image for 3 s", DiagnosticStatus.STALE), "the node's trouble")

    def answers_late() -> bool:
        scene.sam.answer(labels(), SECOND)
        scene.sam.report("sam: segmentation", "segmenting", {})
        return says("Images only: masks come later than the 60 images kept: raise images_kept")

    scene.wait_until(answers_late, "the late masks")


def test_nothing_is_loaded_from_elsewhere(scene: Scene) -> None:
    urls: list[str] = []
    scene.tab.page.on("request", lambda request: urls.append(request.url))
    scene.tab.page.reload()
    scene.show(picture())
    assert {urlsplit(url).netloc for url in urls if not url.startswith("blob:")} == {
        urlsplit(scene.address).netloc
    }


def test_two_viewers_see_the_same_and_a_stalled_one_holds_up_nobody(scene: Scene) -> None:
    second = Tab(scene.browser, scene.address)
    stamp = scene.show(picture(), labels(BOX), scored("_1", BOX, 0.9), tab=second)
    scene.wait_until(lambda: scene.tab.stamp() == second.stamp() == (stamp // SECOND, 0), "both")
    np.testing.assert_array_equal(scene.tab.rgb(120, 100), second.rgb(120, 100))
    second.page.evaluate("window.requestAnimationFrame = () => 0")  # it draws nothing any more
    for grey in range(60, 200, 20):
        scene.show(picture(grey))
        np.testing.assert_allclose(scene.tab.rgb(30, 200), (grey, grey, grey), atol=4)
    assert second.stamp() == (stamp // SECOND, 0)
    second.close()


def test_a_phone_has_room_and_fingers(scene: Scene) -> None:
    phone = Tab(
        scene.browser,
        scene.address,
        viewport={"width": 390, "height": 780},
        has_touch=True,
        is_mobile=True,
        device_scale_factor=3,
    )
    scene.tab.close()
    scene.tab = phone
    scene.show(picture())
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert phone.page.evaluate("canvas.clientWidth") == 390
    for selector in ("#pause", "#undo", '[data-tool="background"]', "#objects"):
        assert phone.page.locator(selector).bounding_box()["x"] >= 0
    phone.page.touchscreen.tap(*phone.at(100, 90))
    name, msg = scene.next_prompt()
    assert (name, msg.point.x) == ("point", pytest.approx(100, abs=1))
    phone.page.tap('[data-tool="more"]')
    phone.page.touchscreen.tap(*phone.at(100, 90))
    assert scene.next_prompt()[0] == "point_foreground"
    touch(phone, "touchStart", phone.at(50, 60))
    assert scene.next_prompt()[0] == "point_background"  # a long press, while the finger is still down
    touch(phone, "touchEnd")
    scale = float(phone.place()["scale"])
    (x, y), (x2, y2) = phone.at(140, 100), phone.at(180, 140)
    touch(phone, "touchStart", (x, y), (x2, y2))
    touch(phone, "touchMove", (x - 40, y - 40), (x2 + 40, y2 + 40))
    touch(phone, "touchEnd")
    scene.wait_until(lambda: float(phone.place()["scale"]) > 1.5 * scale, "the zoom")
    assert scene.sam.prompts == []


def touch(tab: Tab, kind: str, *places: tuple[float, float]) -> None:
    """What fingers do: playwright itself can only tap."""
    points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
    tab.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_pictures_that_cannot_be_drawn_do_not_hold_up_those_after_them(scene: Scene) -> None:
    scene.show(picture(60))
    before = scene.tab.stamp()
    scene.tab.page.evaluate(
        """() => {
            Object.assign(window, { failed: 0, decode: createImageBitmap });
            window.createImageBitmap = () => {
                failed += 1;
                return Promise.reject(new Error("no memory"));
            };
        }"""
    )

    def has_failed_often() -> bool:
        scene.sam.show(picture(80), scene.next_stamp())
        return bool(scene.tab.page.evaluate("failed") > 2 * FRAMES_UNDERWAY)

    scene.wait_until(has_failed_often, "pictures that fail")
    assert scene.tab.text("#toasts") == "A picture could not be drawn: no memory"
    assert scene.tab.stamp() == before
    scene.tab.page.evaluate("() => { window.createImageBitmap = decode; }")
    scene.show(picture(150))
    np.testing.assert_allclose(scene.tab.rgb(30, 200), (150, 150, 150), atol=4)
    assert {"no memory" in error for error in scene.tab.errors} == {True}
    scene.tab.errors.clear()


def test_it_comes_back_when_the_server_does(ros: RosSession, browser: Any) -> None:
    scene = Scene(ros, browser)
    scene.show(picture(60))
    assert scene.web.stop() == 0
    ros.processes.remove(scene.web)
    scene.wait_until(lambda: "Connection lost" in scene.tab.text("#state"), "the loss")
    np.testing.assert_allclose(scene.tab.rgb(30, 200), (60, 60, 60), atol=4)  # the last picture stays
    scene.web = start_web(ros, "-p", f"port:={urlsplit(scene.address).port}")
    scene.show(picture(150))
    np.testing.assert_allclose(scene.tab.rgb(30, 200), (150, 150, 150), atol=4)
    assert scene.tab.errors == []
    scene.tab.close()


COUNT = """
    window.counts = { sockets: 0, texts: 0 };
    window.WebSocket = class extends WebSocket {
        constructor(...given) {
            super(...given);
            counts.sockets += 1;
            this.addEventListener("message", ({ data }) => { counts.texts += typeof data === "string"; });
        }
    };
"""


def reload_and_count(tab: Tab) -> None:
    """Load the tab's page again; ``count`` tells of its connections and the texts that come over them."""
    tab.page.add_init_script(COUNT)
    tab.page.reload()


def count(tab: Tab, name: str) -> int:
    return int(tab.page.evaluate(f"counts.{name}"))


@contextmanager
def silent(process: RunningProcess) -> Iterator[None]:
    """It neither says nor does anything; its connections stay open."""
    process.popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.popen.send_signal(signal.SIGCONT)


def is_lost(tab: Tab) -> bool:
    return "Connection lost" in tab.text("#state")


def test_a_server_that_falls_silent_is_lost_though_its_connection_stays_open(
    ros: RosSession, browser: Any
) -> None:
    """As when the network or the robot's power is gone: nobody closes the connection."""
    scene = Scene(ros, browser)
    reload_and_count(scene.tab)
    scene.show(picture(60))
    scene.tab.page.keyboard.press("Space")
    before = count(scene.tab, "texts")
    scene.wait_until(lambda: count(scene.tab, "texts") > before + 6, "what comes every second")
    assert count(scene.tab, "sockets") == 1
    assert scene.tab.text("#state") == "Paused"
    with silent(scene.web):
        scene.tab.click(120, 100)
        scene.wait_until(lambda: is_lost(scene.tab), "the loss")
        assert "what was clicked last may not have arrived" in scene.tab.text("#toasts")
        for _ in range(2):  # it goes on and pauses again: that is no news of the connection
            scene.tab.page.keyboard.press("Space")
            assert is_lost(scene.tab)
        scene.tab.click(10, 10)
        assert "There is no connection: nothing was sent" in scene.tab.text("#toasts")
    scene.wait_until(lambda: scene.tab.text("#state") == "Paused", "the connection")
    scene.tab.page.keyboard.press("Space")
    scene.show(picture(150))
    np.testing.assert_allclose(scene.tab.rgb(30, 200), (150, 150, 150), atol=4)
    assert [round(msg.point.x) for _, msg in scene.sam.prompts] == [120]  # as soon as it was awake
    assert scene.tab.errors == []
    scene.tab.close()


def test_a_page_that_slept_does_not_take_its_own_silence_for_the_server_s(scene: Scene) -> None:
    scene.tab.page.clock.install()
    reload_and_count(scene.tab)
    scene.show(picture(60))
    for _ in range(3):
        before = count(scene.tab, "texts")
        scene.tab.page.clock.fast_forward("10:00")  # its timers come late, and once
        scene.wait_until(lambda before=before: count(scene.tab, "texts") > before, "the next message")
    scene.show(picture(150))
    assert count(scene.tab, "sockets") == 1


def test_a_server_that_is_slow_is_given_more_time_with_each_loss(scene: Scene) -> None:
    scene.tab.page.clock.install()
    scene.tab.page.reload()
    scene.show(picture(60))
    for silent_sec in (3, 7, 14):
        with silent(scene.web):
            scene.tab.page.clock.run_for(1000 * silent_sec)
            assert not is_lost(scene.tab)
            scene.tab.page.clock.run_for(2000 * silent_sec)
            assert is_lost(scene.tab)
        scene.wait_until(lambda: not is_lost(scene.tab), "the connection")
    scene.show(picture(150))


def test_one_tab_too_many_is_told_why(ros: RosSession, browser: Any) -> None:
    address = address_of(ros, start_web(ros, "-p", "max_viewers:=1"))
    first, second = Tab(browser, address), Tab(browser, address)
    text = "No place for this page: 1 pages are open, which is the parameter max_viewers"
    ros.wait_until(lambda: text in {first.text("#state"), second.text("#state")}, "the refusal")
    first.close()
    second.close()
