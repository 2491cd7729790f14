"""A ROS domain is claimed by one process at a time."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from sam_ros.tools import domain
from sam_ros.tools.domain import claimed_domain_id


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three domains, which nobody else claims."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(domain, "DOMAIN_IDS", range(1, 4))


def test_what_is_claimed_is_claimed_by_nobody_else() -> None:
    with ExitStack() as stack:
        claimed = {stack.enter_context(claimed_domain_id()) for _ in range(3)}
        assert claimed == {1, 2, 3}
        with pytest.raises(RuntimeError, match=r"all ROS domain ids .* are taken"), claimed_domain_id():
            pass


def test_what_was_claimed_is_free_again() -> None:
    for _ in range(10):
        with claimed_domain_id() as domain_id:
            assert domain_id in (1, 2, 3)
    with pytest.raises(KeyError), claimed_domain_id():
        raise KeyError
    with ExitStack() as stack:
        assert len({stack.enter_context(claimed_domain_id()) for _ in range(3)}) == 3
