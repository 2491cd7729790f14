"""Sets of photographs on disk, in the form that training reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def write_set(
    folder: Path, photographs: Mapping[str, tuple[NDArray[np.uint8], Sequence[NDArray[Any]]]]
) -> None:
    """A new set of photographs: by name, the image (H, W, 3) BGR and its label maps (H, W)."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    lines = ["image,masks,num_objects"]
    for name, (image, layers) in photographs.items():
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
        files = [f"masks/{name}_{index}.png" for index in range(len(layers))]
        for file, labels in zip(files, layers, strict=True):
            cv2.imwrite(str(folder / file), labels)
        count = sum(len(np.unique(labels[labels > 0])) for labels in layers)
        lines.append(f"images/{name}.png,{';'.join(files)},{count}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
