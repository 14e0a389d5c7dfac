# SPDX-License-Identifier: Apache-2.0
"""PromptHMR's own output: output.pt of its image demo.

rotmat [P, 22, 3, 3], betas [P, 10], transl [P, 3] in camera axes, body_joints, and cam_int of the
letterboxed square of 896 pixels that the network saw. Source: yufu-wang/PromptHMR, demo_phmr.py.
"""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.rotations import matrix_to_axis_angle
from crowdgaussian_shared.skeleton import BODY_JOINTS, NUM_JOINTS

from .tensors import tensor
from .types import FoundPeople, check_found

SQUARE = 896  # pixels of the network's image
_BODY = len(BODY_JOINTS)


def is_prompthmr(record: object) -> bool:
    """Whether what a file holds is PromptHMR's."""
    return isinstance(record, dict) and {"rotmat", "transl", "cam_int"} <= set(record)


def read_prompthmr(record: dict, file: Path, photo: tuple[int, int]) -> FoundPeople:
    """Its people.

    Args:
        record: what the file holds.
        file: for messages.
        photo: height and width of the photo that was given to PromptHMR.

    Raises:
        CrowdGaussianError: names the file and what is wrong.
    """
    rotations = tensor(record, "rotmat", (None, _BODY, 3, 3), file)
    people = len(rotations)
    pose = np.zeros((people, NUM_JOINTS, 3))
    pose[:, :_BODY] = matrix_to_axis_angle(rotations)
    joints = tensor(record, "body_joints", (people, None, 3), file)
    camera = np.asarray(record["cam_int"].double()).reshape(-1, 3, 3)[0]
    return check_found(FoundPeople(
        f"PromptHMR's {file}", K=camera_of_photo(camera, photo), pose=pose,
        betas=tensor(record, "betas", (people, None), file),
        transl=tensor(record, "transl", (people, 3), file),
        joints=joints[:, :_BODY] if joints.shape[1] >= _BODY else None))


def camera_of_photo(square: np.ndarray, photo: tuple[int, int]) -> np.ndarray:
    """K of the letterboxed square as K of the photo.  # [3, 3]"""
    height, width = photo
    scale = SQUARE / max(height, width)
    border = (SQUARE - scale * np.array([width, height])) / 2
    K = square.copy()
    K[:2, 2] -= border
    K[:2] /= scale
    return K
