"""What the node tells people: diagnostics every time, the log each kind once in a while."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from processes import RosSession, ros_session

from sam_ros.node.reporting import Reporter, Throttle
from sam_ros.node.statistics import Refusal, Statistics


class Clock:
    """Seconds that go on only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ros(tmp_path: Path) -> Iterator[RosSession]:
    with ros_session(tmp_path) as session:
        yield session


@pytest.fixture
def published(ros: RosSession) -> list[DiagnosticStatus]:
    """Every status that has come on /diagnostics."""
    result: list[DiagnosticStatus] = []
    ros.node.create_subscription(DiagnosticArray, "/diagnostics", lambda msg: result.extend(msg.status), 10)
    return result


@pytest.fixture
def reporter(ros: RosSession, published: list[DiagnosticStatus], clock: Clock) -> Reporter:
    """In the name of the session's own node, which hears itself."""
    reporter = Reporter(ros.node, Throttle(5.0, clock))
    statistics = Statistics()

    def heard() -> bool:
        reporter.status("active", statistics.snapshot(), {})
        return bool(published)

    ros.wait_until(heard, "the node to hear its own diagnostics")
    published.clear()
    return reporter


def refusal(kind: str = "stale", id: str = "") -> Refusal:
    return Refusal("/sam/point", 12_000_000_034, (id,) if id else (), kind, f"it is {kind}")


def test_what_was_said_is_said_again_after_the_period(clock: Clock) -> None:
    throttle = Throttle(5.0, clock)
    assert throttle.lets_pass("stale")
    clock.now += 4.9
    assert not throttle.lets_pass("stale")
    clock.now += 0.1
    assert throttle.lets_pass("stale")
    assert not throttle.lets_pass("stale")


def test_kinds_are_throttled_each_for_itself(clock: Clock) -> None:
    throttle = Throttle(5.0, clock)
    assert [throttle.lets_pass(kind) for kind in ("stale", "no image", "stale")] == [True, True, False]


def test_every_refusal_is_published_but_a_kind_is_logged_once(
    ros: RosSession,
    published: list[DiagnosticStatus],
    reporter: Reporter,
    clock: Clock,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for _ in range(3):
        reporter.refusal(refusal())
    reporter.refusal(refusal("second box", "cup"))
    clock.now += 5.0
    reporter.refusal(refusal())
    ros.wait_until(lambda: sum(s.name == "tester: prompt refused" for s in published) == 5, "all refusals")
    log = capfd.readouterr().err
    assert log.count("refused a prompt on /sam/point: it is stale") == 2
    assert log.count("refused a prompt on /sam/point, object 'cup': it is second box") == 1


def test_a_dropped_image_is_logged_only(
    reporter: Reporter, published: list[DiagnosticStatus], capfd: pytest.CaptureFixture[str]
) -> None:
    reporter.drop("short data", "it has only 3 bytes")
    reporter.drop("short data", "it has only 4 bytes")
    log = capfd.readouterr().err
    assert "dropped an image: it has only 3 bytes" in log and "4 bytes" not in log
    assert not any(status.name == "tester: failure" for status in published)


def test_a_failure_is_published_and_logged_with_its_traceback(
    ros: RosSession,
    published: list[DiagnosticStatus],
    reporter: Reporter,
    capfd: pytest.CaptureFixture[str],
) -> None:
    try:
        raise RuntimeError("no such luck")
    except RuntimeError as error:
        reporter.failure("decoding", error)
        reporter.failure("decoding", error)

    def failures() -> list[DiagnosticStatus]:
        return [status for status in published if status.name == "tester: failure"]

    ros.wait_until(lambda: len(failures()) == 2, "both failures")
    assert failures()[0].level == DiagnosticStatus.ERROR
    assert failures()[0].message == "decoding failed: RuntimeError: no such luck"
    log = capfd.readouterr().err
    assert log.count("Traceback") == 1 and "test_a_failure_is_published" in log
