# SPDX-License-Identifier: Apache-2.0
"""The refinement stages "small" and "turbo" from their settings."""

from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import CrowdGaussianError

from .stage_config import RefineConfig
from .used_files import small_path, turbo_files, turbo_path

if TYPE_CHECKING:
    from torch import Tensor

    from .crowd import CrowdRefinement
    from .types import Refiner


def small_refinement(config: RefineConfig) -> "CrowdRefinement":
    """Refinement with the small network.

    Raises:
        CrowdGaussianError: its file is missing, damaged or of another architecture, or a package
            is missing.
    """
    path = small_path(config)
    try:
        import torch

        from .crowd import CrowdRefinement
        from .small_files import load_small
    except ImportError as error:
        raise _lacking(error) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return CrowdRefinement(config, load_small(path).to(device))


def turbo_refinement(config: RefineConfig) -> "CrowdRefinement":
    """Refinement with the diffusion network, which is read when the first cluster needs it.

    Raises:
        CrowdGaussianError: one of its files is missing, or a package is.
    """
    path = turbo_path(config)
    turbo_files(config)  # all there
    try:
        import diffusers  # noqa: F401  takes seconds, and gigabytes follow: said before the work

        from .crowd import CrowdRefinement
    except ImportError as error:
        raise _lacking(error) from error
    return CrowdRefinement(config, _OnDemand(path))


class _OnDemand:
    """A diffusion refiner that is not in memory before it is asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._refiner: Refiner | None = None

    def refine(self, images: "Tensor", normals: "Tensor") -> "Tensor":
        """As Refiner.

        Raises:
            CrowdGaussianError: the folder cannot be read.
        """
        if self._refiner is None:
            from .turbo_files import load_turbo

            self._refiner = load_turbo(self._path).to(images.device)
        return self._refiner.refine(images, normals)


def _lacking(error: ImportError) -> CrowdGaussianError:
    return CrowdGaussianError(
        f"The refinement stage needs the package {error.name}; run `pip install "
        "'crowdgaussian[networks]'`, or set stages.refiner to none.")
