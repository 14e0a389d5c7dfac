# SPDX-License-Identifier: Apache-2.0
"""The refinement stages "small" and "turbo" from their settings."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from crowdgaussian_shared.errors import Cancelled, CrowdGaussianError
from crowdgaussian_shared.geometry.avatar import Avatar

from ..core.crop import Crop, box_of
from ..core.progress import Progress, Report
from ..people.types import Crowd
from ..segment.types import PersonMask
from ..splat.cameras import Cameras
from .distil.distil import distil
from .distil.trainable import Anchor
from .distil.views import find_clusters
from .networks.tiling import is_out_of_memory
from .types import RefineConfig, Refiner
from .weights import small_path, turbo_files, turbo_path

# The refinement stage: cluster by cluster, and never at the price of what was there

log = logging.getLogger(__name__)
_MARGIN = 0.06  # of the cluster's box in the photo
_OOM_MESSAGE = (
    "There is not enough memory to refine these people; lower refine.most_people or "
    "refine.distil.size."
)
_EDGE = 3  # pixels of the crop by which masks are shrunk: their rim is mixed with what is behind


@dataclass(frozen=True)
class RefinedCluster:
    """What became of one cluster."""

    people: tuple[int, ...]  # indices in the crowd
    avatars: tuple[Avatar, ...]  # refined; empty when it failed
    error: str = ""  # why it stays as it was


class CrowdRefinement:
    """Refines the avatars of a crowd with any Refiner."""

    def __init__(self, config: RefineConfig, refiner: Refiner) -> None:
        self.config, self.refiner = config, refiner

    def refine(
        self,
        photo: np.ndarray,
        crowd: Crowd,
        masks: list[PersonMask],
        avatars: dict[int, Avatar],
        report: Report,
        only: Iterable[int] | None = None,
    ) -> Iterator[RefinedCluster]:
        """Yields clusters as they finish; one that fails does not stop the others.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            crowd: everybody, with the photo's camera.
            masks: one per person of the crowd.
            avatars: by index in the crowd; they decide who is a cluster.
            report: called between steps; raises to stop.
            only: those who are refined; None: everybody who has an avatar.
        """
        wanted = set(avatars if only is None else only)
        wrong = {index: _trouble(index, avatars[index], crowd) for index in sorted(avatars)}
        for index in sorted(wanted):
            if wrong[index]:
                yield RefinedCluster((index,), (), wrong[index])
        indices = [index for index in wrong if not wrong[index]]
        roots = np.array([_root(avatars[index]) for index in indices])
        clusters = [
            tuple(indices[member] for member in members if indices[member] in wanted)
            for members in find_clusters(roots, self.config.reach, self.config.most_people)
        ]
        clusters = [people for people in clusters if people]
        for number, people in enumerate(clusters):

            def tell(done: float, number: int = number, people: tuple = people) -> None:
                who = "1 person" if len(people) == 1 else f"{len(people)} people"
                words = f"group {number + 1} of {len(clusters)}, {who}"
                report(Progress("refine", (number + done) / len(clusters), None, None, words))

            yield self._cluster(photo, crowd, masks, {i: avatars[i] for i in people}, tell)

    def _cluster(
        self,
        photo: np.ndarray,
        crowd: Crowd,
        masks: list[PersonMask],
        avatars: dict[int, Avatar],
        tell,
    ) -> RefinedCluster:
        people = tuple(avatars)
        try:
            anchor = photo_anchor(photo, crowd, masks, people, self.config.photo_px)
            found = distil(
                _of_one_degree(list(avatars.values())),
                self.refiner,
                anchor,
                self.config.distil,
                tell,
            )
        except CrowdGaussianError as error:
            return RefinedCluster(people, (), str(error))
        except Cancelled:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                return RefinedCluster(people, (), _OOM_MESSAGE)
            log.exception("people %s could not be refined", people)
            return RefinedCluster(
                people,
                (),
                f"An unexpected {type(error).__name__} ended the "
                "refinement of these people; the log has the details.",
            )
        return RefinedCluster(people, tuple(found))


def photo_anchor(
    photo: np.ndarray, crowd: Crowd, masks: list[PersonMask], people: tuple[int, ...], max_side: int
) -> Anchor | None:
    """The photo's crop around some people, and where it shows them; None where it does not."""
    seen = np.logical_or.reduce([masks[index].visible for index in people])
    box = box_of(seen)
    if box is None:
        return None
    margin = _MARGIN * float((box[2:] - box[:2]).max())
    crop = Crop.around(box, margin, (photo.shape[1], photo.shape[0]), max_side)
    inner = cv2.erode(crop.take(seen).astype(np.uint8), np.ones((_EDGE, _EDGE), np.uint8))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    picture = torch.from_numpy(crop.take(photo).astype(np.float32) / 255)[None]
    weight = torch.from_numpy(inner.astype(np.float32))[None]
    camera = Cameras.from_cameras(crop.camera(crowd.camera))
    return Anchor(camera.to(device), picture.to(device), weight.to(device))


def _root(avatar: Avatar) -> np.ndarray:
    """The pelvis in the scene.  # [3]"""
    return np.asarray(avatar.rest_joints[0] + avatar.transl, np.float64)


def _trouble(index: int, avatar: Avatar, crowd: Crowd) -> str:
    """Why somebody cannot be refined; empty when nothing is known against it."""
    root = _root(avatar)
    arrays = {**vars(avatar.gaussians), "place": root, "pose": avatar.pose}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            return f"Person {index} has {name} that are not finite; reconstruct that person again."
    if not crowd.camera.viewmat[2, :3] @ root + crowd.camera.viewmat[2, 3] > 0:
        return f"Person {index} stands behind the photo's camera; correct that person's place."
    return ""


def _of_one_degree(avatars: list[Avatar]) -> list[Avatar]:
    """The same avatars with as many colour coefficients each, zeros added."""
    most = max(avatar.gaussians.sh.shape[1] for avatar in avatars)
    grown = []
    for avatar in avatars:
        sh = avatar.gaussians.sh
        missing = np.zeros((len(sh), most - sh.shape[1], 3), np.float32)
        more = replace(avatar.gaussians, sh=np.concatenate([sh, missing], axis=1))
        grown.append(replace(avatar, gaussians=more))
    return grown


if TYPE_CHECKING:
    from torch import Tensor

    # import merged
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

        # import merged
        from .networks.small_unet import load_small
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

        # import merged
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
            from .networks.sd_checkpoint import load_turbo

            self._refiner = load_turbo(self._path).to(images.device)
        return self._refiner.refine(images, normals)


def _lacking(error: ImportError) -> CrowdGaussianError:
    return CrowdGaussianError(
        f"The refinement stage needs the package {error.name}; run `pip install "
        "'crowdgaussian[networks]'`, or set stages.refiner to none."
    )
