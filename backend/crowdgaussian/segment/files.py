# SPDX-License-Identifier: Apache-2.0
"""Which network files the masks stages read."""

from pathlib import Path

from ..weights.used import Need, UsedFile, locate, used_file
from .config import SegmentConfig

_SAM = Need("segment", "sam", "segment.sam", (
    "sam2.1-large", "sam3", "sam-vit-h", "sam2.1-base-plus", "sam-vit-l", "sam2.1-small",
    "sam2.1-tiny", "sam-vit-b"), "silhouettes")


def sam_path(config: SegmentConfig) -> Path:
    """The .pth file or the folder of SAM.

    Raises:
        CrowdGaussianError: none is on this machine.
    """
    return locate(config.sam, _SAM)


def sam_files(config: SegmentConfig) -> list[UsedFile]:
    """Every file that the stage "sam" reads."""
    return [used_file(config.sam, _SAM)]
