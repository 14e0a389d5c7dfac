# SPDX-License-Identifier: Apache-2.0
"""Where a person's head is in the photo: from the fitted body model, no detector needed.

The published code runs the VGGHead detector on the whole photo and takes the largest face in it. In
a crowd that is somebody else's. The people stage already knows every head in 3D.
"""

from typing import Protocol

import numpy as np
import torch
from crowdgaussian_shared.camera import Camera
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.skeleton import JOINT_INDEX
from torch import Tensor

from ..body import BodyModel
from ..people.types import Person

_HEAD = [JOINT_INDEX[n] for n in ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")]
_NEAR = 0.05  # metres


class HeadDetector(Protocol):
    """A plug-in that finds heads by itself, such as VGGHead; none is used unless one is given."""

    def head(self, photo: np.ndarray, expected: np.ndarray) -> np.ndarray | None:
        """Corners [2, 2] in photo pixels of the head nearest to the expected points, or None.

        Args:
            photo: [H, W, 3] uint8.
            expected: [N, 2] points of the body model's head in photo pixels.
        """
        ...


class FaceEnlarger(Protocol):
    """A plug-in that makes larger head images, such as GFPGAN; none is used unless one is given.

    Without one the head image of 112 pixels is enlarged by bicubic interpolation in the head
    encoder. Teacher and student must agree on it.
    """

    def enlarge(self, heads: np.ndarray) -> np.ndarray:
        """[B, h, h, 3] float32 sRGB 0..1 -> [B, s, s, 3]."""
        ...


def check_person(person: Person, index: int) -> None:
    """Raise one sentence where a fitted person holds values that are not numbers."""
    for name in ("pose", "betas", "transl", "scale"):
        if not np.isfinite(getattr(person, name)).all():
            raise CrowdGaussianError(
                f"The {name} of person {index} holds values that are not finite numbers; fit the "
                "person again or leave the person out.")


def posed_vertices(body: BodyModel, person: Person) -> np.ndarray:
    """The skin of a fitted person in the scene frame, metres.  # [V, 3] float64"""
    values = (torch.as_tensor(np.asarray(v, np.float32))[None]
              for v in (person.betas, person.pose, person.transl, person.scale))
    with torch.no_grad():
        return body(*values).vertices[0].double().numpy()


def head_points(vertices: np.ndarray, parts: Tensor | np.ndarray, camera: Camera) -> np.ndarray:
    """The skin of the head in photo pixels.

    Args:
        vertices: of the posed body in the scene frame.  # [V, 3]
        parts: the joint with the largest weight.  # [V]
        camera: the photo's.

    Returns:
        # [N, 2]; one point far outside every photo where the head is behind the camera.
    """
    scene = vertices[np.isin(np.asarray(parts), _HEAD)]
    local = scene @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    local = local[local[:, 2] > _NEAR]
    if not len(local):
        return np.full((1, 2), -1e6)
    return (local / local[:, 2:]) @ camera.K[:2].T
