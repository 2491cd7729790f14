"""The scenes that training chooses from: each is generated once and kept on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from training.scenes import Scene, generate_scene

HELD_OUT_SEED = 1_000_000_000  # scenes from here on are never trained on
COMPOSED_SHARE = 0.3  # of the larger wholes
CLUTTERED_SHARE = 0.3  # of the scenes
SCENE_SIZE = 512  # pixels on each side; square, so that crops of any aspect ratio fit


class ScenePool:
    """``size`` scenes, the i-th generated from seed i.

    Args:
        size: how many.
        folder: where they are kept once generated; None generates them every time.
    """

    def __init__(self, size: int, folder: Path | None) -> None:
        if size > HELD_OUT_SEED:
            raise ValueError(
                f"a pool has at most {HELD_OUT_SEED} scenes, the others are held out; got {size}"
            )
        self.size, self.folder = size, folder

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Scene:
        if self.folder is None:
            return _generated(index)
        path = self.folder / f"{index:07d}.npz"
        if not path.exists():
            _save(_generated(index), path)
        return _load(path)


def _generated(seed: int) -> Scene:
    return generate_scene(
        seed, SCENE_SIZE, square=True, composed_share=COMPOSED_SHARE, cluttered_share=CLUTTERED_SHARE
    )


def _save(scene: Scene, path: Path) -> None:
    """Write a scene in one go: other processes read and write the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.partial")
    with temporary.open("wb") as file:
        np.savez(
            file,
            image=scene.image,
            labels=scene.labels.astype(np.uint16),
            parents=np.array(scene.parents, np.uint16),
        )
    temporary.replace(path)


def _load(path: Path) -> Scene:
    with np.load(path) as stored:
        labels = stored["labels"].astype(np.int32)
        return Scene(stored["image"], labels, tuple(stored["parents"].tolist()))
