# SPDX-License-Identifier: Apache-2.0
"""The refinement stage: cluster by cluster, and never at the price of what was there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from crowdgaussian_shared.avatar import Avatar
from crowdgaussian_shared.errors import CrowdGaussianError

from ..people.types import Crowd
from ..progress import Progress, Report
from ..segment.crop import Crop, box_of
from ..segment.types import PersonMask
from ..splat.cameras import Cameras
from .clusters import find_clusters
from .distil import Anchor, distil
from .stage_config import RefineConfig
from .types import Refiner

_MARGIN = 0.06  # of the cluster's box in the photo
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

    def refine(self, photo: np.ndarray, crowd: Crowd, masks: list[PersonMask],
               avatars: dict[int, Avatar], report: Report) -> Iterator[RefinedCluster]:
        """Yields clusters as they finish; one that fails does not stop the others.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            crowd: everybody, with the photo's camera.
            masks: one per person of the crowd.
            avatars: of those who are to be refined, by index in the crowd.
            report: called between steps; raises to stop.
        """
        indices = sorted(avatars)
        roots = np.array([_root(avatars[index]) for index in indices])
        clusters = find_clusters(roots, self.config.reach, self.config.most_people)
        for number, members in enumerate(clusters):
            people = tuple(indices[member] for member in members)

            def tell(done: float, number: int = number, people: tuple = people) -> None:
                words = f"group {number + 1} of {len(clusters)}, {len(people)} people"
                report(Progress("refine", (number + done) / len(clusters), None, None, words))

            yield self._cluster(photo, crowd, masks, {i: avatars[i] for i in people}, tell)

    def _cluster(self, photo: np.ndarray, crowd: Crowd, masks: list[PersonMask],
                 avatars: dict[int, Avatar], tell) -> RefinedCluster:
        people = tuple(avatars)
        try:
            _in_front(crowd, avatars)
            anchor = photo_anchor(photo, crowd, masks, people, self.config.photo_px)
            found = distil(_of_one_degree(list(avatars.values())), self.refiner, anchor,
                           self.config.distil, tell)
        except CrowdGaussianError as error:
            return RefinedCluster(people, (), str(error))
        except (torch.OutOfMemoryError, MemoryError):
            return RefinedCluster(people, (), "There is not enough memory to refine these people; "
                                  "lower refine.most_people or refine.distil.size.")
        return RefinedCluster(people, tuple(found))


def photo_anchor(photo: np.ndarray, crowd: Crowd, masks: list[PersonMask],
                 people: tuple[int, ...], max_side: int) -> Anchor | None:
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


def _in_front(crowd: Crowd, avatars: dict[int, Avatar]) -> None:
    for index, avatar in avatars.items():
        depth = crowd.camera.viewmat[2, :3] @ _root(avatar) + crowd.camera.viewmat[2, 3]
        if not depth > 0:
            raise CrowdGaussianError(
                f"Person {index} stands behind the photo's camera; correct that person's place.")


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
