"""Make .venv at the repository root hold ROS 2 and sam_ros, then run its Python with the given arguments.

Each step leaves a stamp in .venv with the digest of what it was made from, and only after it has finished: a
step is skipped while its stamp fits, and made again when its sources changed or it was interrupted. Nothing
but the standard library is used, and no syntax that an older Python cannot read to the point of saying so.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "standalone"
LOG = STAMPS / "setup.log"

PYTHON_VERSIONS = ("3.12", "3.13", "3.11", "3.10")  # what the ROS wheels are built for, Jazzy's own first
SHARED = ("package.xml", "config", "launch")  # what an installed sam_ros has in its share folder
FREE_GIB_NEEDED = 12  # torch's CUDA libraries are most of it: downloaded, then unpacked
REDRAW_SEC = 0.1  # of the status line in a terminal
REPORT_SEC = 15.0  # between status lines where the output is no terminal

# A sourced ROS installation, or another environment made of the same wheels, would be mixed into ours.
FOREIGN_VARIABLES = (
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "RMW_IMPLEMENTATION",
    "ROS_DISTRO",
    "VIRTUAL_ENV",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Step:
    """One thing to make in .venv.

    Attributes:
        name: file name of the stamp.
        doing: what a person reads while it is made.
        sources: files and folders whose content decides whether it has to be made again.
        make: makes it, over whatever an interrupted attempt left.
    """

    name: str
    doing: str
    sources: tuple[Path, ...]
    make: Callable[[], None]


def say(text: str) -> None:
    """Print one line, at once."""
    print("standalone: " + text, flush=True)


def environment() -> dict[str, str]:
    """Return this process's environment without foreign ROS parts, .venv's programs first."""
    env = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    if "AMENT_PREFIX_PATH" in os.environ:
        env.pop("LD_LIBRARY_PATH", None)  # points into the sourced ROS installation
    env["PATH"] = str(VENV / "bin") + os.pathsep + env.get("PATH", os.defpath)
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return env


def base_python() -> str:
    """Return the Python to build on: .venv's where there is one, else this one, else one found on PATH."""
    existing = [os.path.realpath(PYTHON)] if PYTHON.exists() else []
    this = os.path.realpath(getattr(sys, "_base_executable", sys.executable))  # not an activated .venv's
    others = [shutil.which("python" + version) for version in PYTHON_VERSIONS]
    for python in [*existing, this, *(os.path.realpath(other) for other in others if other)]:
        if python_says(python, f"'{{}}.{{}}'.format(*sys.version_info[:2]) in {PYTHON_VERSIONS}"):
            return python
    raise SetupError(
        f"ROS 2 Jazzy's wheels need Python 3.10 to 3.13; this is {platform.python_version()}, PATH has none"
    )


def python_says(python: str, expression: str) -> bool:
    """Return whether an expression over sys, os and sysconfig is true in another Python."""
    code = f"import os, sys, sysconfig; sys.exit(not ({expression}))"
    answer = subprocess.run([python, "-c", code], check=False, stderr=subprocess.DEVNULL, env=environment())
    return answer.returncode == 0


def check_machine(python: str) -> None:
    """Raise SetupError that names everything this machine lacks."""
    missing = []
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        missing.append("Linux on x86-64 (the ROS wheels exist for nothing else)")
    if not python_says(python, "__import__('venv') and __import__('ensurepip')"):
        missing.append("Python's venv module (Debian, Ubuntu: apt install python3-venv)")
    if not python_says(python, "os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h'))"):
        missing.append("Python's C headers (Debian, Ubuntu: apt install python3-dev)")
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))):
        missing.append("a C compiler (Debian, Ubuntu: apt install build-essential)")
    if not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        missing.append("a C++ compiler (Debian, Ubuntu: apt install build-essential)")
    if missing:
        raise SetupError(f"{python}\n  on this machine lacks\n  - " + "\n  - ".join(missing))


def check_disk() -> None:
    """Raise SetupError where a first set-up would run out of space."""
    free_gib = shutil.disk_usage(ROOT).free / 2**30
    if free_gib < FREE_GIB_NEEDED:
        raise SetupError(f"{FREE_GIB_NEEDED} GiB of free disk are needed at {ROOT}, {free_gib:.1f} are there")


def files_in(paths: Iterable[Path]) -> list[Path]:
    """Return the files at or below the paths, sorted, without what Python compiled."""
    found = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sorted(file for file in found if file.is_file() and "__pycache__" not in file.parts)


def digest(python: str, sources: Iterable[Path]) -> str:
    """Return a digest of an interpreter, of this repository's place and of what the source files hold."""
    version = subprocess.run([python, "-VV"], check=True, stdout=subprocess.PIPE, env=environment()).stdout
    total = hashlib.sha256(version + python.encode() + str(ROOT).encode())
    for file in files_in(sources):
        total.update(str(file).encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def show_status(line: str, last_shown: float) -> float:
    """Show a running command's latest line where it is time to; return when a line was last shown."""
    now = time.monotonic()
    terminal = sys.stdout.isatty()
    if now - last_shown < (REDRAW_SEC if terminal else REPORT_SEC):
        return last_shown
    line = line.strip()[: shutil.get_terminal_size().columns - 3]
    if terminal:
        print(f"\r\033[K  {line}", end="", flush=True)
    else:
        print(f"  {line}", flush=True)
    return now


def started(command: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start a command whose output and errors can be read from one pipe."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment(),
    )


def run(*command: str) -> None:
    """Run a command, its output into the log and in short to the person; raise SetupError if it fails."""
    output = []
    last_shown = time.monotonic()
    with LOG.open("a") as log, started(command) as process:
        log.write("$ " + " ".join(command) + "\n")
        for line in process.stdout or ():
            log.write(line)
            output.append(line)
            last_shown = show_status(line, last_shown)
    if sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)
    if process.returncode != 0:
        end = "".join(output[-30:])
        raise SetupError(f"{command[0]} failed ({process.returncode}):\n{end}\nall of it is in {LOG}")


def make_venv(python: str) -> None:
    """Create .venv anew."""
    if VENV.exists() and not STAMPS.exists():
        raise SetupError(f"{VENV} is there but was not made by this script: move it away")
    shutil.rmtree(VENV, ignore_errors=True)
    STAMPS.mkdir(parents=True)
    run(python, "-m", "venv", str(VENV))


def site_packages() -> Path:
    """Return the folder of .venv that packages are installed into."""
    return next((VENV / "lib").glob("python3.*")) / "site-packages"


def drop_half_installed(packages: Path) -> None:
    """Make pip forget packages whose installation into a folder was interrupted: it writes RECORD last."""
    for info in packages.glob("*.dist-info"):
        if not (info / "RECORD").exists():
            shutil.rmtree(info)


def install_locked(requirements: Path) -> None:
    """Install a locked list of packages."""
    drop_half_installed(site_packages())
    run(str(PYTHON), "-m", "pip", "install", "--require-hashes", "--requirement", str(requirements))


def install_environment() -> None:
    """Let every Python of .venv find cv_bridge and this ROS installation, child processes included."""
    shutil.copy(HERE / "standalone_environment.py", site_packages())
    lines = [str(HERE / "cv_bridge"), "import standalone_environment"]
    (site_packages() / "standalone_environment.pth").write_text("\n".join(lines) + "\n")


def build_vision_msgs() -> None:
    """Generate, compile and install the vision_msgs interfaces."""
    build = VENV / "build_vision_msgs"
    shutil.rmtree(build, ignore_errors=True)
    cmake = str(VENV / "bin" / "cmake")
    settings = {
        "BUILD_TESTING": "OFF",
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": VENV,
        "CMAKE_PREFIX_PATH": VENV,
        "Python3_EXECUTABLE": PYTHON,
    }
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    run(cmake, "-S", str(HERE / "vision_msgs"), "-B", str(build), "-G", "Ninja", *defines)
    run(cmake, "--build", str(build))
    run(cmake, "--install", str(build))
    shutil.rmtree(build)


def install_sam_ros() -> None:
    """Install this repository's package so that its sources are used in place."""
    drop_half_installed(site_packages())
    run(str(PYTHON), "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    # An editable installation leaves out data_files, by which ament finds a package and its launch files.
    index = VENV / "share" / "ament_index" / "resource_index" / "packages"
    (index / "sam_ros").write_bytes((ROOT / "resource" / "sam_ros").read_bytes())
    share = VENV / "share" / "sam_ros"
    shutil.rmtree(share, ignore_errors=True)
    for file in files_in(ROOT / name for name in SHARED):
        link = share / file.relative_to(ROOT)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)


def steps(python: str) -> list[Step]:
    """Return all steps in the order they are made in."""
    ros = HERE / "requirements-ros.txt"
    others = HERE / "requirements.txt"
    hook = HERE / "standalone_environment.py"
    this_file = Path(__file__).resolve()
    package = tuple(ROOT / name for name in ("setup.py", "setup.cfg", "resource", *SHARED))
    return [
        Step("venv", f"creating .venv from {python}", (), lambda: make_venv(python)),
        Step("ros", "installing the ROS 2 Jazzy core", (ros,), lambda: install_locked(ros)),
        Step("packages", "installing torch and more, 6 GB", (others,), lambda: install_locked(others)),
        Step("environment", "installing cv_bridge", (hook, this_file), install_environment),
        Step("vision_msgs", "building vision_msgs", (HERE / "vision_msgs", ros), build_vision_msgs),
        Step("sam_ros", "installing sam_ros", (*package, this_file), install_sam_ros),
    ]


def read_stamp(stamp: Path) -> str | None:
    """Return what a finished step was made from, None where it is not finished."""
    return stamp.read_text() if stamp.exists() else None


def outdated(all_steps: list[Step], python: str, stamps: Path) -> list[tuple[Step, str]]:
    """Return the steps to make and the digests of their sources: all of them if the first has to be made."""
    keyed = [(step, digest(python, step.sources)) for step in all_steps]
    todo = [(step, key) for step, key in keyed if read_stamp(stamps / step.name) != key]
    return keyed if keyed[0] in todo else todo


def make(todo: list[tuple[Step, str]], stamps: Path) -> None:
    """Make steps, each stamped only once it is finished."""
    for number, (step, key) in enumerate(todo, 1):
        start = time.monotonic()
        say(f"[{number}/{len(todo)}] {step.doing}")
        stamp = stamps / step.name
        stamp.unlink(missing_ok=True)
        step.make()
        stamp.write_text(key)
        say(f"[{number}/{len(todo)}] done in {time.monotonic() - start:.0f} s")


def set_up() -> None:
    """Bring .venv up to date, doing only what is not done yet."""
    python = base_python()
    all_steps = steps(python)
    todo = outdated(all_steps, python, STAMPS)
    if todo:
        check_machine(python)
    if len(todo) == len(all_steps):
        check_disk()
    make(todo, STAMPS)


def main() -> NoReturn:
    """Set up with only one process at a time at it, then become .venv's Python."""
    try:
        folder = os.open(HERE, os.O_RDONLY)  # the lock is on the folder: no file of its own is needed
        fcntl.flock(folder, fcntl.LOCK_EX)
        set_up()
        os.close(folder)
    except SetupError as error:
        sys.exit(f"standalone: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstandalone: interrupted; the next run goes on from here")
    os.execve(PYTHON, [str(PYTHON), *sys.argv[1:]], environment())


if __name__ == "__main__":
    main()
