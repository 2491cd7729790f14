"""The publisher of 500 Hz, alone and beside the real node."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark import jitter
from benchmark.contest import Options, find_weights
from benchmark.jitter import Metronome, delay_figures
from benchmark.timing import Effort

OPTIONS = Options(torch.device("cpu"), ("float32",), False, Effort(0.0, 1, 1), quick=True)


def test_delays_are_percentiles_in_milliseconds() -> None:
    assert delay_figures([0.001 * n for n in range(1001)]) == pytest.approx(
        {"median (ms)": 500, "99 % within (ms)": 990, "99.9 % within (ms)": 999, "worst (ms)": 1000}
    )


def test_the_publisher_tells_of_every_message_how_late_it_was() -> None:
    with Metronome(0.2) as metronome:
        delays = metronome.delays_sec()
    assert metronome.has_ended()
    assert len(delays) == 100 and min(delays) > 0


def test_the_machine_alone_and_beside_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jitter, "THREADS", (1,))
    monkeypatch.setitem(jitter.SECONDS, True, 1.0)
    alone, beside = jitter.measure(find_weights("sam_tiny", tmp_path), OPTIONS)
    assert (alone.case["node"], beside.case["threads"]) == ("none", "1")
    assert set(alone.figures) == set(jitter.PERCENTILES)
    assert set(beside.figures) == {*jitter.PERCENTILES, "encoded/s"} and beside.figures["encoded/s"] > 0
