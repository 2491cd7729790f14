"""standalone/demo brings up camera, node and client, and shows what was asked for."""

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

pytest.importorskip("skimage", reason="the demo's photograph is scikit-image's")

CLIENT = Path(__file__).parents[1] / "standalone" / "demo_client.py"
PICTURES = ["1_click", "2_background_click", "3_box", "4_detections", "5_followed"]


def run_demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    command = [sys.executable, str(CLIENT), "--output", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)


def test_the_demo_answers_every_prompt(tmp_path: Path) -> None:
    result = run_demo(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    table = [words for words in lines if words[-1].isdigit()]
    followed = [words for words in lines if words[-1] == "-"]
    objects = ["coffee", "coffee", "rim", "coffee", "spoon", "handle"]
    assert [words[0] for words in table] == objects
    for words in table:
        predicted_iou, area, click_to_mask_ms = map(float, words[-3:])
        assert 0 < predicted_iou <= 1
        assert area > 0
        assert click_to_mask_ms > 0
    assert [words[0] for words in followed] == ["coffee", "spoon", "handle"]
    for prompted, same in zip(table[3:], followed, strict=True):
        assert 0.5 < int(same[-2]) / int(prompted[-2]) < 2, "an object keeps its size"
    overview = cv2.imread(str(tmp_path / "demo.png"))
    for name in PICTURES:
        overlay, mask = (cv2.imread(str(tmp_path / f"{name}{kind}.png")) for kind in ("", "_mask"))
        assert overlay.shape == mask.shape == (380, 560, 3)
        assert set(mask.ravel()) == {0, 255}
        blue, _, red = overlay.reshape(-1, 3).mean(axis=0)  # of red crockery on a brown table
        assert red > 1.5 * blue
    assert overview.shape[1] == 2 * 560


def test_the_demo_fails_with_the_nodes_log(tmp_path: Path) -> None:
    result = run_demo(tmp_path, "-p", "checkpoint:=/nowhere/weights.safetensors")
    assert result.returncode == 1
    assert "sam_node has ended" in result.stderr
    assert "/nowhere/weights.safetensors" in result.stderr
