"""The models: one row each. Everything else that lists them, the documentation included, is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sam_ros.core.architecture import Architecture, TinyVitArchitecture, VitArchitecture

BYTES_A_PARAMETER = 4  # the official files hold float32


@dataclass(frozen=True)
class OfficialCheckpoint:
    """One published file. ``size_bytes`` is None where it is not known for certain; the digest decides."""

    file_name: str
    url: str
    sha256: str
    size_bytes: int | None = None


@dataclass(frozen=True)
class Model:
    """One row.

    Attributes:
        model_type: its name in every interface.
        description: a few words for a person who chooses.
        licence: of the weights, an SPDX identifier.
        input_size: S, side of the encoder's square input, pixels.
        num_parameters: how many numbers it has learnt.
        architecture: what to build; None where the file of weights tells it itself.
        checkpoint: the file to download; None where the weights are part of this package.
        confidence: what it predicts of the IoU of a mask from one point, as a share of what SAM's own weights
            predict of one as good, about. They promise more than they keep; others are more modest.
        stability_offset: of the logits, for the stability score, at which its good masks are about as stable
            as those of SAM's own weights at 1: the flatter its logits, the less.
    """

    model_type: str
    description: str
    licence: str
    input_size: int
    num_parameters: int
    architecture: Architecture | None = None
    checkpoint: OfficialCheckpoint | None = None
    confidence: float = 1.0
    stability_offset: float = 1.0

    @property
    def download_size(self) -> str:
        """For a person to read: what there is to download, in MB."""
        if self.checkpoint is None:
            return "shipped"
        if self.checkpoint.size_bytes is None:
            return f"about {_megabytes(self.num_parameters * BYTES_A_PARAMETER)}"
        return _megabytes(self.checkpoint.size_bytes)


def _megabytes(size_bytes: int) -> str:
    """Whole ones, where there are several."""
    return f"{size_bytes / 1e6:.{0 if size_bytes >= 1e7 else 1}f} MB"


def _published(file_name: str, sha256: str, size_bytes: int | None = None) -> OfficialCheckpoint:
    """One of segment_anything's, as its README.md links them.

    The hex in a file's name begins its MD5, not its SHA-256.
    """
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}"
    return OfficialCheckpoint(file_name, url, sha256, size_bytes)


_ROWS = (
    Model(
        "sam_tiny",
        "this project's own, part of the package",
        "Apache-2.0",
        512,
        4_277_104,
        confidence=0.625,
        stability_offset=0.1,
    ),
    Model(
        "vit_b",
        "SAM, the smallest",
        "Apache-2.0",
        1024,
        93_735_472,
        VitArchitecture(768, 12, 12, (2, 5, 8, 11)),
        _published(
            "sam_vit_b_01ec64.pth",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_042_383,
        ),
    ),
    Model(
        "vit_l",
        "SAM, the middle one",
        "Apache-2.0",
        1024,
        312_342_832,
        VitArchitecture(1024, 24, 16, (5, 11, 17, 23)),
        _published(
            "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"
        ),
    ),
    Model(
        "vit_h",
        "SAM, the largest",
        "Apache-2.0",
        1024,
        641_090_608,
        VitArchitecture(1280, 32, 16, (7, 15, 23, 31)),
        _published(
            "sam_vit_h_4b8939.pth",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2_564_550_879,
        ),
    ),
    Model(
        "mobile_sam",
        "MobileSAM: SAM's decoder behind a small encoder",
        "Apache-2.0",
        1024,
        10_130_092,
        TinyVitArchitecture((64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)),
        OfficialCheckpoint(
            "mobile_sam.pt",
            "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt",
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            40_728_226,
        ),
    ),
)

MODELS: Mapping[str, Model] = {row.model_type: row for row in _ROWS}
"""All of them by model_type, the shipped one first."""
