"""Room in Fast DDS's shared memory for whole images, unless a person has set up Fast DDS otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

# Fast DDS 2 of Jazzy reads the first, Fast DDS 3 of Lyrical the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
# By these, and by these files in the working directory, a person sets up Fast DDS.
OWN_VARIABLES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")
OWN_FILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


def profile_environment(profile: Path | str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to add to a process's environment; none where the person has set up Fast DDS.

    Args:
        profile: path of ``fastdds.xml``; '' adds nothing.
        environment: what is set already.
    """
    is_set = any(environment.get(name) for name in OWN_VARIABLES)
    if not str(profile) or is_set or any(Path(name).exists() for name in OWN_FILES):
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(profile))
