"""The arrows of the architecture: what each module may reach through its imports, directly or not."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sam_ros

PACKAGE_DIR = Path(sam_ros.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE_DIR.glob("*.py"))

TORCH = {"torch", "torchvision", "segment_anything", "safetensors"}
MESSAGES = {
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_msgs",
    "geometry_msgs",
    "rcl_interfaces",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "vision_msgs",
}
ROS = MESSAGES | {"ament_index_python", "launch", "launch_ros", "lifecycle_msgs", "rclpy"}
DOWNLOAD = {"pooch", "requests"}

VALUES = {"numpy"}
CORE = VALUES | TORCH | DOWNLOAD | {"PIL", "cv2"}
EDGE = {"PIL", "cv2", "numpy"} | MESSAGES
ALLOWED = {
    "__init__": set[str](),
    "errors": set[str](),
    "prompt": VALUES,
    "masks": VALUES,
    "objects": VALUES,
    "statistics": set[str](),
    "signals": set[str](),
    "model": CORE,
    "transfer": VALUES | TORCH,
    "cuda_graph": TORCH,
    "preprocess": CORE,
    "encoder": TORCH,
    "decoder": TORCH,
    "folded": TORCH,
    "postprocess": CORE,
    "checkpoint": CORE,
    "predictor": CORE,
    "frames": CORE,
    "follower": VALUES | {"cv2"},
    "engine": CORE,
    "weights": DOWNLOAD,
    "conversions": EDGE,
    "parameters": ROS | {"numpy"},
    "diagnostics": MESSAGES,
    "overlay": {"cv2", "numpy"},
    "camera": {"cv2", "numpy"} | ROS,
    "sam_node": CORE | EDGE | ROS,
}


@cache
def imported_names(module: str) -> frozenset[str]:
    """Dotted names that the module's source imports, anywhere in it."""
    tree = ast.parse((PACKAGE_DIR / f"{module}.py").read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}.py imports relatively: write the full name"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def siblings(module: str) -> set[str]:
    """The modules of this package that it imports itself."""
    inside = (name.split(".") for name in imported_names(module) if name.startswith("sam_ros."))
    return {parts[1] for parts in inside if parts[1] in MODULES}


def reached_modules(module: str) -> set[str]:
    """The module and every module of this package that it imports, directly or not."""
    reached, waiting = set(), {module}
    while waiting:
        current = waiting.pop()
        reached.add(current)
        waiting |= siblings(current) - reached
    return reached


def reached_packages(module: str) -> set[str]:
    """The top-level packages outside the standard library and this package that it reaches."""
    names = {name.split(".")[0] for reached in reached_modules(module) for name in imported_names(reached)}
    return names - sys.stdlib_module_names - {"sam_ros"}


@pytest.mark.parametrize("module", MODULES)
def test_module_reaches_only_what_its_layer_may(module: str) -> None:
    assert module in ALLOWED, f"say in ALLOWED what sam_ros/{module}.py may import"
    assert reached_packages(module) <= ALLOWED[module]


def test_nothing_imports_the_executables() -> None:
    executables = {"sam_node", "camera"}
    for module in MODULES:
        assert not siblings(module) & executables


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        (
            [
                "errors",
                "prompt",
                "masks",
                "model",
                "checkpoint",
                "predictor",
                "follower",
                "engine",
                "weights",
            ],
            ROS,
        ),
        (["errors", "prompt", "masks", "weights", "conversions"], TORCH),
    ],
    ids=["core without ROS", "edges without torch"],
)
def test_modules_import_without(modules: list[str], blocked: set[str]) -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n" + "".join(
        f"import sam_ros.{module}\n" for module in modules
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
