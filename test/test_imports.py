"""The arrows of the architecture: what each module may reach through its imports, directly or not."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import sam_ros

PACKAGE_DIR = Path(sam_ros.__file__).parent
PATHS = sorted(PACKAGE_DIR.rglob("*.py"))
MODULES = [".".join(path.relative_to(PACKAGE_DIR).with_suffix("").parts) for path in PATHS]
EXECUTABLES = {
    "node.sam_node",
    "tools.bag.main",
    "tools.camera",
    "tools.click",
    "tools.objects_3d",
    "tools.web.node",
    "weights",
}

TORCH = {"torch", "torchvision", "segment_anything", "safetensors", "transformers"}
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
BAGS = {"backports", "compression", "rosbags"}

VALUES = {"numpy"}
CORE = VALUES | TORCH | DOWNLOAD | {"PIL", "cv2"}
EDGE = {"PIL", "cv2", "numpy"} | MESSAGES
ALLOWED = {
    "__init__": set[str](),
    "errors": set[str](),
    "signals": set[str](),
    "start": set[str](),
    "prompt": VALUES,
    "masks": VALUES,
    "predictor": CORE,
    "weights": DOWNLOAD,
    "core.__init__": set[str](),
    "core.architecture": set[str](),
    "core.catalogue": set[str](),
    "core.grid": VALUES,
    "core.conv_norm": TORCH,
    "core.tiny_vit": TORCH,
    "core.efficientnet": TORCH,
    "core.rep_vit": TORCH,
    "core.sam2": CORE,
    "core.sam2_names": TORCH,
    "core.prompt_tokens": VALUES,
    "core.everything": VALUES,
    "core.protocol": VALUES,
    "core.model": CORE,
    "core.checkpoint": CORE,
    "core.objects": VALUES,
    "core.edits": VALUES,
    "core.frames": VALUES,
    "core.appearance": VALUES | {"cv2"},
    "core.ownership": VALUES | {"cv2"},
    "core.search": VALUES | {"cv2"},
    "core.motion": VALUES | {"cv2"},
    "core.follower": VALUES | {"cv2"},
    "core.segmenter": VALUES | {"cv2"},
    "core.bank": VALUES,
    "core.remembering": VALUES,
    "core.history": VALUES,
    "core.overlay": {"cv2", "numpy"},
    "core.pinhole": VALUES,
    "core.box3d": VALUES | {"cv2"},
    "core.lifting": VALUES | {"cv2"},
    "core.tabletop": VALUES,
    "core.wireframe": VALUES | {"cv2"},
    "fast.__init__": set[str](),
    "fast.transfer": VALUES | TORCH,
    "fast.cuda_graph": TORCH,
    "fast.preprocess": CORE,
    "fast.layers": TORCH,
    "fast.vit": TORCH,
    "fast.tiny_vit": TORCH,
    "fast.efficientnet": TORCH,
    "fast.image_encoder": TORCH,
    "fast.pyramid": TORCH,
    "fast.hiera": TORCH,
    "fast.rep_vit": TORCH,
    "fast.conventions": CORE,
    "fast.memory": CORE,
    "fast.decoder": TORCH,
    "fast.details": TORCH,
    "fast.folding": TORCH,
    "fast.folded": TORCH,
    "fast.tokens": TORCH,
    "fast.upscaling": TORCH,
    "fast.postprocess": CORE,
    "fast.full_size": CORE,
    "fast.small_regions": CORE,
    "fast.suppression": VALUES,
    "fast.everything": CORE,
    "node.__init__": set[str](),
    "node.statistics": set[str](),
    "node.settings": VALUES | {"cv2"},
    "node.schedule": VALUES | {"cv2"},
    "node.listener": VALUES | {"cv2"},
    "node.guards": ROS,
    "node.watching": ROS,
    "node.startup": ROS,
    "node.waiting": VALUES | {"cv2"},
    "node.everything": VALUES | {"cv2"},
    "node.surveying": VALUES | {"cv2"},
    "node.tally": VALUES | {"cv2"},
    "node.state": VALUES | {"cv2"},
    "node.encoding": VALUES | {"cv2"},
    "node.answering": VALUES | {"cv2"},
    "node.engine": VALUES | {"cv2"},
    "node.headers": {"std_msgs"},
    "node.brightness": VALUES,
    "node.layouts": {"cv2", "numpy"} | MESSAGES,
    "node.images": EDGE,
    "node.serialized": {"rclpy", "std_msgs"},
    "node.sizes": EDGE | {"rclpy"},
    "node.conversions": EDGE,
    "node.inputs": CORE | EDGE | ROS,
    "node.outputs": CORE | EDGE | ROS,
    "node.qos": ROS,
    "node.parameters": ROS | {"numpy"},
    "node.diagnostics": MESSAGES,
    "node.reporting": ROS,
    "node.loading": CORE | ROS,
    "node.engine_settings": VALUES | {"cv2"} | ROS,
    "node.sam_node": CORE | EDGE | ROS,
    "tools.__init__": set[str](),
    "tools.camera": {"cv2", "numpy", "yaml"} | ROS,
    "tools.sources": {"cv2", "numpy"},
    "tools.capture": {"cv2", "numpy"},
    "tools.calibration": {"cv2", "numpy", "yaml"} | MESSAGES,
    "tools.declaring": ROS,
    "tools.domain": set[str](),
    "tools.middleware": set[str](),
    "tools.launch_arguments": {"numpy", "yaml"} | ROS,
    "tools.launch_ending": ROS,
    "tools.click": EDGE | ROS,
    "tools.matching": set[str](),
    "tools.conversions_3d": {"cv2", "numpy"} | MESSAGES,
    "tools.markers": {"cv2", "numpy", "visualization_msgs"} | MESSAGES,
    "tools.transforms": {"cv2", "numpy", "rclpy"} | MESSAGES,
    "tools.objects_3d": EDGE | ROS,
    "tools.bag.__init__": set[str](),
    "tools.bag.ahead": set[str](),
    "tools.bag.metadata": {"yaml"},
    "tools.bag.definitions": {"ament_index_python"},
    "tools.bag.prompts": VALUES | {"yaml"},
    "tools.bag.records": VALUES | {"cv2"},
    "tools.bag.source": BAGS,
    "tools.bag.output": BAGS | {"ament_index_python", "yaml"},
    "tools.bag.progress": BAGS | {"cv2", "numpy", "yaml"},
    "tools.bag.requests": BAGS | EDGE | ROS | {"yaml"},
    "tools.bag.plan": BAGS | EDGE | ROS | {"yaml"},
    "tools.bag.arguments": ROS | {"numpy", "yaml"},
    "tools.bag.arrivals": BAGS | EDGE | ROS,
    "tools.bag.laps": BAGS | EDGE | ROS,
    "tools.bag.preparing": BAGS | EDGE | ROS,
    "tools.bag.following": BAGS | EDGE | ROS | {"yaml"},
    "tools.bag.answers": BAGS | EDGE | ROS | {"yaml"},
    "tools.bag.video": BAGS | EDGE | ROS | {"yaml"},
    "tools.bag.job": BAGS | CORE | EDGE | ROS | {"tqdm", "yaml"},
    "tools.bag.main": BAGS | CORE | EDGE | ROS | {"tqdm", "yaml"},
    "tools.web.__init__": set[str](),
    "tools.web.gestures": set[str](),
    "tools.web.pairing": set[str](),
    "tools.web.server": {"aiohttp"},
    "tools.web.pictures": {"cv2", "numpy"},
    "tools.web.colours": {"cv2", "numpy"},
    "tools.web.messages": {"cv2", "numpy"} | MESSAGES,
    "tools.web.prompter": {"cv2", "numpy", "rclpy"} | MESSAGES,
    "tools.web.settings": ROS,
    "tools.web.node": {"aiohttp"} | EDGE | ROS,
}
# Which folders the modules of a folder may import from; "" is what users import.
ARROWS = {
    "": {"", "core"},
    "core": {"", "core"},
    "fast": {"", "core", "fast"},
    "node": {"", "core", "node"},
    "tools": {"", "core", "node", "tools"},
}


@cache
def imported_names(module: str) -> frozenset[str]:
    """Dotted names that the module's source imports, anywhere in it."""
    tree = ast.parse(PACKAGE_DIR.joinpath(*module.split(".")).with_suffix(".py").read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}.py imports relatively: write the full name"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def folder(module: str) -> str:
    """The folder of the package in which a module lies, however deep; '' beside the folders."""
    return module.partition(".")[0] if "." in module else ""


def siblings(module: str) -> set[str]:
    """The modules of this package that it imports itself."""
    inside = [name.removeprefix("sam_ros.") for name in imported_names(module) if name.startswith("sam_ros.")]
    return {name for other in inside for name in (other, other.rpartition(".")[0]) if name in MODULES}


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


def test_only_the_predictor_enters_fast_and_arrows_between_folders_point_one_way() -> None:
    for module in MODULES:
        allowed = ARROWS[folder(module)] | ({"fast"} if module == "predictor" else set())
        assert {folder(name) for name in siblings(module)} <= allowed, module


def test_no_module_reaches_itself() -> None:
    for module in MODULES:
        assert module not in set().union(*map(reached_modules, siblings(module)))


def test_nothing_imports_the_executables() -> None:
    for module in MODULES:
        assert not siblings(module) & EXECUTABLES - {"weights"}  # that one is a library too


@pytest.mark.parametrize(
    ("modules", "blocked"),
    [
        (
            [
                "errors",
                "prompt",
                "masks",
                "core.model",
                "core.checkpoint",
                "predictor",
                "core.follower",
                "node.engine",
                "weights",
            ],
            ROS,
        ),
        (
            [
                "errors",
                "prompt",
                "masks",
                "weights",
                "core.catalogue",
                "node.conversions",
                "node.images",
                "node.parameters",
            ],
            TORCH,
        ),
    ],
    ids=["core without ROS", "edges without torch"],
)
def test_modules_import_without(modules: list[str], blocked: set[str]) -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n" + "".join(
        f"import sam_ros.{module}\n" for module in modules
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
