"""Programs as a user who may read everything and write nothing."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

NOBODY = "65534"


def without_write_access() -> list[str]:
    """What to put before a command so that it runs so; nothing for a user who is not root.

    Root writes whatever permissions say. Who may only read keeps the right to read what is root's, as the
    interpreter may be. Skips the test where root cannot be left.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root can be left only with setpriv, which is missing")
    reads = "+dac_read_search"
    command = [setpriv, "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps", reads]
    command += ["--ambient-caps", reads]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"root cannot be left here: {tried.stderr.strip()}")
    return command
