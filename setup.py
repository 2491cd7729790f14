"""Install the package, its executables, launch files and default parameters."""

from pathlib import Path

from setuptools import setup

PACKAGE = "sam_ros"
FOLDERS = ("core", "fast", "node", "tools", "tools.bag", "tools.web")

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Segment Anything for ROS 2",
    maintainer="sam_ros maintainers",
    maintainer_email="maintainers@users.noreply.example",
    license="Apache-2.0",
    packages=[PACKAGE, *(f"{PACKAGE}.{folder}" for folder in FOLDERS)],
    package_data={PACKAGE: ["py.typed", "*.safetensors"], f"{PACKAGE}.tools.web": ["page/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/config", sorted(map(str, Path("config").iterdir()))),
        (f"share/{PACKAGE}/launch", sorted(map(str, Path("launch").glob("*.launch.py")))),
    ],
    zip_safe=False,
    python_requires=">=3.10",
    extras_require={"bag": ["rosbags>=0.11", "tqdm"], "sam2": ["transformers>=5.24,<6"]},
    entry_points={
        "console_scripts": [
            "sam_node = sam_ros.start:sam_node",
            "camera = sam_ros.start:camera",
            "objects_3d = sam_ros.start:objects_3d",
            "web = sam_ros.start:web",
            "click = sam_ros.start:click",
            "bag = sam_ros.start:bag",
            "weights = sam_ros.weights:main",
        ],
    },
)
