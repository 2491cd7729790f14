"""In how many arenas the C library of an executable keeps freed memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = 12
PROGRAM = "import sys; from sam_ros.start import run; sys.exit(run('counting'))"
COUNTING = f"""
import ctypes, threading, rclpy  # which has threads of its own

def main():
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
    libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
    together = threading.Barrier({THREADS})
    allocate = lambda: (together.wait(), libc.malloc(5000))
    threads = [threading.Thread(target=allocate) for _ in range({THREADS})]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = libc.fopen(b"info.xml", b"w")
    libc.malloc_info(0, file)
    libc.fclose(file)
    return 0
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has arenas")
@pytest.mark.parametrize(
    ("given", "arenas"),
    [({}, 2), ({"MALLOC_ARENA_MAX": "3"}, 3), ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}, 4)],
)
def test_freed_memory_is_kept_in_two_arenas_unless_the_environment_says_otherwise(
    tmp_path: Path, given: dict[str, str], arenas: int
) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    unset = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | given
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(tmp_path), *filter(None, [environment.get("PYTHONPATH")])]
    )
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "info.xml").read_text().count("<heap nr=") == arenas
