"""A headless Chromium that looks at the page, and where things are on its canvas."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PilImage

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)

ARGUMENTS = [
    "--no-sandbox",  # as root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PLACE = "() => ({...canvas.dataset, bounds: canvas.getBoundingClientRect().toJSON()})"


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Tab:
    """One page; every place is in pixels of the image."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.errors: list[str] = []
        self._context = browser.new_context(**{"viewport": {"width": 1200, "height": 760}, **options})
        self.page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.session = self._context.new_cdp_session(self.page)  # for what playwright cannot do
        self.page.goto(address)

    def _note(self, message: Any) -> None:
        """A connection that is refused while the server is away is no error of the page."""
        if message.type == "error" and "WebSocket" not in message.text and "ERR_" not in message.text:
            self.errors.append(message.text)

    def close(self) -> None:
        self._context.close()

    def place(self) -> dict[str, Any]:
        """What the canvas says of the frame on it."""
        return dict(self.page.evaluate(PLACE))

    def stamp(self) -> tuple[int, int]:
        place = self.place()
        return (int(place["sec"]), int(place["nanosec"])) if "sec" in place else (0, 0)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where the centre of a pixel of the image is on the page."""
        place = self.place()
        scale = float(place["scale"])
        left, top = place["bounds"]["left"], place["bounds"]["top"]
        return left + float(place["left"]) + (x + 0.5) * scale, top + float(place["top"]) + (y + 0.5) * scale

    def click(self, x: float, y: float, **options: Any) -> None:
        modifiers = options.pop("modifiers", ())
        for key in modifiers:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.at(x, y), **options)
        for key in modifiers:
            self.page.keyboard.up(key)

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """From one pixel's centre to another's."""
        start, end = self.at(x0, y0), self.at(x1, y1)
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.page.mouse.move(*end)
        self.page.mouse.up()

    def rgb(self, x: float, y: float) -> npt.NDArray[np.int64]:
        """The colour in which a pixel of the image is seen on the screen."""
        column, row = (round(value) for value in self.at(x, y))
        shot = PilImage.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        ratio = shot.width / self.page.viewport_size["width"]
        return np.asarray(shot, np.int64)[int(row * ratio), int(column * ratio)]

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def object_ids(self) -> list[str]:
        return [
            str(id)
            for id in self.page.eval_on_selector_all("#objects li", "rows => rows.map(r => r.dataset.id)")
        ]
