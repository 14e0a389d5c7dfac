# SPDX-License-Identifier: Apache-2.0
"""The seam of all refiners, what becomes of a cluster, and the settings."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from crowdgaussian_shared.geometry.avatar import Avatar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RefinedCluster:
    """What became of one cluster."""

    people: tuple[int, ...]  # indices in the crowd
    avatars: tuple[Avatar, ...]  # refined; empty when it failed
    error: str = ""  # why it stays as it was


class Refiner(Protocol):
    """Coarse views and the normals of the bodies in them -> clean views, in one step."""

    def refine(self, images: "Tensor", normals: "Tensor") -> "Tensor":
        """Clean views.

        Args:
            images: [B, 3, H, W] sRGB 0..1, coarse.
            normals: [B, 4, H, W] unit normals in camera axes (0 beside bodies), then the mask 0/1.

        Returns:
            [B, 3, H, W] sRGB 0..1.
        """
        ...


# The options of the refinement stages; nothing here imports torch


@dataclass(frozen=True)
class DistilConfig:
    """How a cluster is refined."""

    views: int = 12  # around the cluster
    size: int = 256  # pixels a side
    rounds: int = 2  # of render, refine, fit
    steps: int = 45  # of fitting, per round
    photo_share: float = 0.4  # of the steps look at the photo
    photo_weight: float = 1.5
    pseudo_weight: float = 0.5
    ssim_share: float = 0.2


@dataclass(frozen=True)
class RefineConfig:
    """Options of the refinement stages."""

    weights: str = ""  # a file or folder of the user; empty: what ships, or was fetched
    reach: float = 1.5  # metres between neighbours of a cluster
    most_people: int = 4  # of one cluster, so that each has pixels enough
    photo_px: int = 640  # longest side of the photo's crop
    distil: DistilConfig = field(default_factory=DistilConfig)
