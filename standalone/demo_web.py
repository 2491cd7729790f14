"""The demo in a browser: camera, node and page as processes of their own, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from demo_client import (
    ISOLATION,
    PAN_PX,
    PHOTOGRAPH,
    START_SEC,
    DemoError,
    check_running,
    exit_code,
    log_path,
    program,
)

LOOK_SEC = 0.2
IMAGES_KEPT = 300  # by node and page, half a minute: a paused page is looked at, and a large model is slow
DEFAULT_SOURCE = f"photograph:{PHOTOGRAPH}"  # sways, so that there is something to follow
NODE = (f"images_kept:={IMAGES_KEPT}", "click_mode:=add")
CTRL_C = 128 + signal.SIGINT  # its exit code; here it is how the demo ends
ADDRESS = re.compile(r"open (http://\S+) in a browser")


def address_in(log: Path) -> str:
    """Return the page's address once it is in the log, '' before."""
    found = ADDRESS.search(log.read_text(errors="replace"))
    return found.group(1) if found else ""


def run(folder: Path, source: str, page: Sequence[str], parameters: Sequence[str]) -> None:
    """Start all three, say where the page is, and keep them until one ends or Ctrl-C comes."""
    with ExitStack() as stack:
        print("demo: starting the camera, the node and the page; Ctrl-C ends them", flush=True)
        camera = [f"source:={source}", *([f"pan:={PAN_PX}"] if source == DEFAULT_SOURCE else [])]
        programs = {
            "camera": program("camera", folder, *camera),
            "sam_node": program("sam_node", folder, *NODE, *parameters),
            "web": program("web", folder, *page),
        }
        processes = {name: stack.enter_context(each) for name, each in programs.items()}
        deadline = time.monotonic() + START_SEC
        while not (address := address_in(log_path(folder, "web"))):
            check_running(processes)
            if time.monotonic() > deadline:
                raise DemoError(f"waited {START_SEC:.0f} s in vain for the page")
            time.sleep(LOOK_SEC)
        print(
            f"demo: open {address} in a browser and click on something\n"
            f"demo: other programs join with {' '.join(f'{name}={os.environ[name]}' for name in ISOLATION)}",
            flush=True,
        )
        while True:
            check_running(processes)
            time.sleep(LOOK_SEC)


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="standalone/demo --web", description=__doc__)
    parser.add_argument(
        "--source",
        default=DEFAULT_SOURCE,
        help="picture, folder, video, /dev/videoN, rtsp://... or photograph:NAME; default: %(default)s",
    )
    parser.add_argument("--host", default="127.0.0.1", help="of the page; 0.0.0.0 lets the whole network in")
    parser.add_argument("--port", type=int, default=8080, help="of the page; 0 takes any free one")
    parser.add_argument(
        "-p",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="parameter of the node; may be repeated",
    )
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job starts with it ignored
    page = [f"host:={arguments.host}", f"port:={arguments.port}", f"images_kept:={IMAGES_KEPT}"]
    with tempfile.TemporaryDirectory(prefix="sam_ros_demo_") as name:
        folder = Path(name)
        code = exit_code(lambda: run(folder, arguments.source, page, arguments.p), folder)
    if code != CTRL_C:
        return code
    print("\ndemo: ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
