# SPDX-License-Identifier: Apache-2.0
"""What every reader hands on: people in front of a camera, however their program tells them."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

MAX_PEOPLE = 1000
_FAR = 1e4  # metres and pixels beyond which a number is damage


@dataclass(frozen=True)
class FoundPeople:
    """P people in OpenCV camera axes, metres and radians.

    Either `pose`, or `keypoints`; the first with the SMPL-X transl or with joints.
    """

    source: str  # for messages: the program and its file
    K: np.ndarray | None = None  # [3, 3] pixels of the photo that the program saw
    scores: np.ndarray | None = None  # [P] 0..1
    pose: np.ndarray | None = None  # [P, 55, 3] axis-angle, SMPL-X convention
    betas: np.ndarray | None = None  # [P, B] of SMPL-X
    transl: np.ndarray | None = None  # [P, 3] of SMPL-X
    joints: np.ndarray | None = None  # [P, 22, 3] the body's joints of SMPL-X
    keypoints: np.ndarray | None = None  # [P, 70, 3] the layout of mhr70

    def __len__(self) -> int:
        return len(self.pose if self.pose is not None else self.keypoints)


def check_found(found: FoundPeople) -> FoundPeople:
    """The people, when they can be: same number everywhere, finite, in front of the camera.

    Raises:
        CrowdGaussianError: names the file and what is wrong in it.
    """
    people = len(found)
    if people == 0:
        raise CrowdGaussianError(f"{found.source} holds nobody; use a photo that shows people.")
    if people > MAX_PEOPLE:
        raise CrowdGaussianError(f"{found.source} holds {people} people; at most {MAX_PEOPLE}.")
    for name in ("scores", "pose", "betas", "transl", "joints", "keypoints", "K"):
        array = getattr(found, name)
        if array is None:
            continue
        if name != "K" and len(array) != people:
            raise CrowdGaussianError(
                f"{found.source}: {name} tells of {len(array)} people, the rest of {people}.")
        if not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > _FAR * 10:
            raise CrowdGaussianError(
                f"{found.source}: {name} holds values that are not finite or absurdly large.")
    place = found.keypoints.mean(axis=1) if found.keypoints is not None else found.transl
    if place is None and found.joints is not None:
        place = found.joints[:, 0]
    if place is None:
        raise CrowdGaussianError(f"{found.source} does not say where people are (transl).")
    if (place[:, 2] <= 0.1).any():
        raise CrowdGaussianError(
            f"{found.source}: person {int((place[:, 2] <= 0.1).argmax())} is not in front of the "
            "camera; positions must be in camera axes, z forward.")
    return found
