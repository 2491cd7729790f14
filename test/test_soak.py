"""The soak: what it makes of a recording, and a short one of the real node."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.soak.__main__ import bounds_of, main, parse
from benchmark.soak.process import look_at
from benchmark.soak.record import Answer, Recording, Sample, load, save
from benchmark.soak.verdict import BLOCKS, Bounds, judge, latencies_ms, settled, slope

ROOT = Path(__file__).parents[1]
BOUNDS = Bounds(settle_sets=480)
SECONDS = range(600)


def recording(growth_mb_per_minute: float = 0.0, noise_mb: float = 3.0) -> Recording:
    """Ten minutes of a node that does all well, but grows."""
    noise = np.random.default_rng(0).normal(0, noise_mb, len(SECONDS))
    resident = [500 + growth_mb_per_minute * second / 60 + float(noise[second]) for second in SECONDS]
    samples = [
        Sample(float(second), mb, mb - 200, 50, 30, 40, 8 * second)
        for second, mb in zip(SECONDS, resident, strict=True)
    ]
    answers = [Answer(float(second), round(0.2 + 0.001 * (second % 100), 3)) for second in range(0, 600, 2)]
    return Recording({"CPU": "some"}, samples, answers, exit_code=0)


def beyond(found: Recording, bounds: Bounds = BOUNDS) -> list[str]:
    return [finding.what for finding in judge(found, bounds) if not finding.is_kept]


def test_a_slope_and_its_interval() -> None:
    exact = slope([float(second) for second in SECONDS], [7 + 2 * second / 60 for second in SECONDS])
    assert exact.per_minute == pytest.approx(2.0) and exact.half_width == pytest.approx(0.0, abs=1e-6)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        noisy = slope(list(map(float, SECONDS)), list(rng.normal(0, 5, len(SECONDS))))
        hits += abs(noisy.per_minute) <= noisy.half_width
    assert 180 <= hits <= 199, "the true slope, 0, lies in about 95 of 100 intervals"
    with pytest.raises(ValueError, match=f"at least {BLOCKS} values, got 3"):
        slope([0, 1, 2], [0, 1, 2])


def test_what_keeps_its_bounds_is_found_well() -> None:
    assert beyond(recording()) == []


def test_memory_that_grows_is_told_from_memory_that_scatters() -> None:
    assert beyond(recording(noise_mb=40.0)) == []
    assert beyond(recording(growth_mb_per_minute=2.8)) == [
        "resident memory (MB/min)",
        "of it allocated (MB/min)",
    ]


def test_what_happens_before_it_has_settled_does_not_count() -> None:
    found = recording()
    found.samples[:50] = [replace(one, resident_mb=100.0, threads=3) for one in found.samples[:50]]
    assert beyond(found) == []
    assert settled(found, BOUNDS)[0].time_sec == 60.0, "480 sets at 8 a second"
    assert settled(found, Bounds(settle_sets=10_000))[0].time_sec == 300.0, "half of the time"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"threads": 35}, ["threads more"]),
        ({"descriptors": 49}, ["descriptors more"]),
        ({"sets": 300}, ["sets a second"]),
    ],
)
def test_what_the_process_has_at_the_end_is_bounded(change: dict[str, int], what: list[str]) -> None:
    found = recording()
    found.samples[-1] = replace(found.samples[-1], **change)
    assert beyond(found) == what


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"answers": [Answer(1.0, 4.0)]}, ["click to the set that shows it, 50, 90, 99, 100 % (ms)"]),
        ({"unanswered": 7}, ["clicks without an answer"]),
        ({"disordered": 1}, ["sets out of order"]),
        ({"failures": ["decoding failed"]}, ["failures reported"]),
        ({"exit_code": -6}, ["exit code"]),
        (
            {"answers": []},
            ["click to the set that shows it, 50, 90, 99, 100 % (ms)", "clicks without an answer"],
        ),
        ({"samples": []}, ["samples after it settled"]),
    ],
)
def test_every_other_bound(change: dict[str, object], what: list[str]) -> None:
    assert beyond(replace(recording(), **change)) == what  # type: ignore[arg-type]


def test_latencies_are_percentiles() -> None:
    found = latencies_ms(Recording(answers=[Answer(0.0, n / 100) for n in range(101)]))
    assert found == pytest.approx({50: 500, 90: 900, 99: 990, 100: 1000})


def test_a_process_is_seen_from_outside() -> None:
    found = look_at(os.getpid(), 1.5, 7)
    assert found is not None and (found.time_sec, found.sets) == (1.5, 7)
    assert found.resident_mb > found.anonymous_mb > 10 and found.threads >= 1 and found.descriptors >= 3
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert look_at(ended.pid, 0.0, 0) is None


def test_a_recording_comes_back_from_its_file(tmp_path: Path) -> None:
    found = replace(recording(), drops={"out of order": 3}, prompts={"point": 2}, visits=4)
    found.samples[:] = [Sample(0.5, 1.25, 1.0, 0.25, 3, 4, 5)]
    save(found, tmp_path / "soak.json")
    assert load(tmp_path / "soak.json") == found


def test_a_kept_recording_is_judged_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(recording(growth_mb_per_minute=1.0), tmp_path / "long.json")
    assert main(["--from", str(tmp_path / "long.json")]) == 1
    assert "| resident memory (MB/min) | +1.0" in capsys.readouterr().out
    assert main(["--from", str(tmp_path / "long.json"), "--growth", "2"]) == 0
    assert (tmp_path / "long.png").stat().st_size > 10_000
    assert "![Memory" in (tmp_path / "long.md").read_text()


def test_bounds_come_from_the_command_line() -> None:
    arguments = parse(["--growth", "3", "--latency", "9", "--sets", "0.5"])
    assert arguments.minutes == 30.0
    assert bounds_of(arguments) == Bounds(
        growth_mb_per_minute=3.0, latency_sec=9.0, sets_per_sec=0.5, unanswered=Bounds.unanswered
    )


def test_a_soak_of_a_minute(tmp_path: Path) -> None:
    """The bounds are wide: a busy machine, and a minute in which buffers fill up, by gigabytes a minute."""
    command = [sys.executable, "-m", "benchmark.soak", "--minutes", "1", "--output", str(tmp_path)]
    wide = ["--growth", "5000", "--latency", "25", "--sets", "0.1", "--unanswered", "0.5", "--threads", "1"]
    done = subprocess.run(
        [*command, *wide], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = load(tmp_path / "soak.json")
    assert len(found.samples) > 40 and found.samples[-1].sets > 5
    assert found.answers and found.visits >= 2
    assert found.prompts["prompts"] >= 2, "crowds at the beginning"
    assert found.refusals, "wrong prompts are refused"
    assert (tmp_path / "soak.png").exists() and "sets a second" in done.stdout
