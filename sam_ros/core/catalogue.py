"""The models: one row each. Everything else that lists them, the documentation included, is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sam_ros.core.architecture import (
    Architecture,
    HieraArchitecture,
    RepVitArchitecture,
    Sam2Architecture,
    TinyVitArchitecture,
    VitArchitecture,
)

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
    def has_memory(self) -> bool:
        """Whether it remembers objects from frame to frame."""
        return isinstance(self.architecture, Sam2Architecture)

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


def _published_sam2(size: str, sha256: str, size_bytes: int) -> OfficialCheckpoint:
    """One of SAM 2.1's, as sam2's README.md links them."""
    file_name = f"sam2.1_hiera_{size}.pt"
    url = f"https://dl.fbaipublicfiles.com/segment_anything_2/092824/{file_name}"
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
    Model(
        "sam2.1_tiny",
        "SAM 2.1, the smallest",
        "Apache-2.0",
        1024,
        38_962_498,
        HieraArchitecture(96, 1, (1, 2, 7, 2), (5, 7, 9)),
        _published_sam2(
            "tiny", "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 156_008_466
        ),
    ),
    Model(
        "sam2.1_small",
        "SAM 2.1, small",
        "Apache-2.0",
        1024,
        46_060_354,
        HieraArchitecture(96, 1, (1, 2, 11, 2), (7, 10, 13)),
        _published_sam2(
            "small", "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 184_416_285
        ),
    ),
    Model(
        "sam2.1_base_plus",
        "SAM 2.1, the middle one",
        "Apache-2.0",
        1024,
        80_850_178,
        HieraArchitecture(112, 2, (2, 3, 16, 3), (12, 16, 20), background_size=(14, 14)),
        _published_sam2(
            "base_plus", "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 323_606_802
        ),
    ),
    Model(
        "sam2.1_large",
        "SAM 2.1, the largest",
        "Apache-2.0",
        1024,
        224_446_642,
        HieraArchitecture(144, 2, (2, 6, 36, 4), (23, 33, 43), window_sizes=(8, 4, 16, 8)),
        _published_sam2(
            "large", "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898_083_611
        ),
    ),
    Model(
        "edgetam",
        "EdgeTAM: SAM 2 made small",
        "Apache-2.0",
        1024,
        13_895_794,
        RepVitArchitecture((48, 96, 192, 384), (2, 2, 14, 2)),
        OfficialCheckpoint(  # the digest is from one source only
            "edgetam.pt",
            "https://raw.githubusercontent.com/facebookresearch/EdgeTAM/main/checkpoints/edgetam.pt",
            "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
        ),
    ),
)

MODELS: Mapping[str, Model] = {row.model_type: row for row in _ROWS}
"""All of them by model_type, the shipped one first."""
