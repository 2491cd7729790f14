"""Install the package, its executables, launch files and default parameters."""

from pathlib import Path

from setuptools import setup

PACKAGE = "sam_ros"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Segment Anything for ROS 2",
    maintainer="sam_ros maintainers",
    maintainer_email="maintainers@users.noreply.example",
    license="Apache-2.0",
    packages=[PACKAGE, *(f"{PACKAGE}.{folder}" for folder in ("core", "fast", "node", "tools", "tools.web"))],
    package_data={PACKAGE: ["py.typed", "*.safetensors"], f"{PACKAGE}.tools.web": ["page/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/config", sorted(map(str, Path("config").iterdir()))),
        (f"share/{PACKAGE}/launch", sorted(map(str, Path("launch").glob("*.launch.py")))),
    ],
    zip_safe=False,
    python_requires=">=3.10",
    entry_points={
        "console_scripts": [
            "sam_node = sam_ros.start:sam_node",
            "camera = sam_ros.start:camera",
            "web = sam_ros.start:web",
            "weights = sam_ros.weights:main",
        ],
    },
)
