"""standalone/demo --depth finds the sides of the things on the rendered table."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

pytest.importorskip("skimage", reason="the demo's other photograph is scikit-image's")

from test_demo import run_demo

from sam_ros.core.tabletop import THINGS

TOLERANCE_CM = 2.0


def test_the_demo_finds_the_sides_of_box_and_can(tmp_path: Path) -> None:
    result = run_demo(tmp_path, "--depth")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if " x " in line}
    assert list(rows) == [thing.name for thing in THINGS]
    for thing in THINGS:
        words = rows[thing.name]
        found, distance_m = [float(words[1]), float(words[3]), float(words[5])], float(words[-1])
        assert 0.6 < distance_m < 1.1
        if thing.name != "ball":  # of which only the front is seen
            assert found == pytest.approx(
                sorted((100 * side for side in thing.size), reverse=True), abs=TOLERANCE_CM
            )
    picture = cv2.imread(str(tmp_path / "depth.png"))
    assert picture.shape == (480, 640, 3)
    orange_bgr = (0, 159, 230)  # of the first box's lines
    assert (abs(picture.astype(int) - orange_bgr).max(axis=2) < 10).sum() > 300
