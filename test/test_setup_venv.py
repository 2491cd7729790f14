"""standalone/setup_venv.py does nothing twice, and again what was changed or interrupted."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "standalone"))
setup_venv = importlib.import_module("setup_venv")


class Sources:
    """Two steps made from files in a folder, and what was made of them in which order."""

    def __init__(self, folder: Path) -> None:
        self.made: list[str] = []
        self.interrupted = ""
        self.stamps = folder / "stamps"
        self.first, self.second = folder / "first.txt", folder / "second"
        self.stamps.mkdir()
        self.second.mkdir()
        self.first.write_text("one")
        (self.second / "a.txt").write_text("two")

    def steps(self) -> list[Any]:
        def step(name: str, source: Path) -> Any:
            return setup_venv.Step(name, f"making {name}", (source,), lambda: self._make(name))

        return [step("first", self.first), step("second", self.second)]

    def set_up(self) -> list[str]:
        """Make what is outdated; return the names."""
        self.made = []
        setup_venv.make(setup_venv.outdated(self.steps(), sys.executable, self.stamps), self.stamps)
        return self.made

    def _make(self, name: str) -> None:
        if name == self.interrupted:
            raise KeyboardInterrupt
        self.made.append(name)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


def test_nothing_is_made_twice(sources: Sources) -> None:
    assert sources.set_up() == ["first", "second"]
    assert sources.set_up() == []


def test_a_changed_source_is_made_again(sources: Sources) -> None:
    sources.set_up()
    (sources.second / "a.txt").write_text("changed")
    assert sources.set_up() == ["second"]
    (sources.second / "b.txt").write_text("added")
    assert sources.set_up() == ["second"]


def test_what_python_compiled_is_no_source(sources: Sources) -> None:
    sources.set_up()
    (sources.second / "__pycache__").mkdir()
    (sources.second / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    assert sources.set_up() == []


def test_everything_is_made_again_when_the_first_step_is(sources: Sources) -> None:
    sources.set_up()
    sources.first.write_text("changed")
    assert sources.set_up() == ["first", "second"]


def test_an_interrupted_step_is_made_again(sources: Sources) -> None:
    sources.interrupted = "second"
    with pytest.raises(KeyboardInterrupt):
        sources.set_up()
    sources.interrupted = ""
    assert sources.set_up() == ["second"]


def test_a_step_interrupted_while_it_was_made_again_is_not_taken_for_the_old_one(sources: Sources) -> None:
    sources.set_up()
    original = (sources.second / "a.txt").read_text()
    (sources.second / "a.txt").write_text("changed")
    sources.interrupted = "second"
    with pytest.raises(KeyboardInterrupt):
        sources.set_up()
    (sources.second / "a.txt").write_text(original)
    sources.interrupted = ""
    assert sources.set_up() == ["second"]


def test_a_package_without_record_is_forgotten(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole-1.0.dist-info", tmp_path / "half-1.0.dist-info"
    for info in (whole, half):
        info.mkdir()
        (info / "METADATA").touch()
    (whole / "RECORD").touch()
    setup_venv.drop_half_installed(tmp_path)
    assert whole.exists()
    assert not half.exists()


def test_what_a_machine_lacks_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(setup_venv.SetupError, match=r"(?s)a C compiler .*a C\+\+ compiler"):
        setup_venv.check_machine(sys.executable)


def test_a_sourced_ros_installation_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/other")
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/other/lib/python")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/ros/other/lib")
    monkeypatch.setenv("KEPT", "yes")
    environment = setup_venv.environment()
    assert not {"AMENT_PREFIX_PATH", "PYTHONPATH", "LD_LIBRARY_PATH"}.intersection(environment)
    assert environment["KEPT"] == "yes"
