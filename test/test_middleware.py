"""Fast DDS is given room unless a person has set it up; the file that is installed is one that it reads."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from sam_ros.tools.middleware import profile_environment

ROOT = Path(__file__).parents[1]
PROFILE = ROOT / "config" / "fastdds.xml"
BOTH = {"FASTRTPS_DEFAULT_PROFILES_FILE": "/p.xml", "FASTDDS_DEFAULT_PROFILES_FILE": "/p.xml"}


@pytest.mark.parametrize(
    ("profile", "environment", "expected"),
    [
        ("/p.xml", {}, BOTH),
        ("/p.xml", {"FASTRTPS_DEFAULT_PROFILES_FILE": ""}, BOTH),
        ("", {}, {}),
        ("/p.xml", {"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"}, {}),
        ("/p.xml", {"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"}, {}),
        ("/p.xml", {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, {}),
    ],
)
def test_what_a_person_has_set_is_left_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
    environment: dict[str, str],
    expected: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert profile_environment(profile, environment) == expected


def test_a_default_profile_in_the_working_directory_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").touch()
    assert profile_environment("/p.xml", {}) == {}


def test_the_profile_has_room_for_images() -> None:
    name = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}segment_size"
    (size,) = ET.parse(PROFILE).getroot().iter(name)
    assert int(size.text or "") >= 2 * 1280 * 720 * 3
