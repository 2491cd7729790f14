"""``bag``: segments and follows objects through a recorded bag, and writes another one with the answers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from sam_ros.errors import SamRosError
from sam_ros.signals import event_set_by_signals
from sam_ros.tools.bag.arguments import parse_arguments
from sam_ros.tools.bag.job import draw, run

INTERRUPTED = 130  # the exit code, as a shell's after Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """The ``bag`` executable; returns the exit code."""
    stop = event_set_by_signals()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        job = parse_arguments(sys.argv[1:] if argv is None else argv)
        report = run(job, stop)
        if report is not None and job.video is not None:
            print(report, flush=True)  # it is true whatever comes of the video
            report = draw(job, job.video, stop)
    except SamRosError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if report is None:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
