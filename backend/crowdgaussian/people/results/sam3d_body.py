# SPDX-License-Identifier: Apache-2.0
"""SAM 3D Body's own output: one dictionary a person, saved as .npz.

Read: pred_keypoints_3d and pred_keypoints_2d (the 70 of mhr70), pred_cam_t, focal_length where it
is there. Source: facebookresearch/sam-3d-body, sam_3d_body_estimator.py.
"""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

from ..mhr70 import NUM_KEYPOINTS
from .arrays import read_arrays
from .types import FoundPeople, check_found

KEYPOINTS_3D, KEYPOINTS_2D, PLACE = "pred_keypoints_3d", "pred_keypoints_2d", "pred_cam_t"
_EXACT = 3.0  # pixels: a camera that misses its own keypoints by more is another one


def is_sam3d_body(names: set[str]) -> bool:
    """Whether a file with these arrays is one of SAM 3D Body's people."""
    return {KEYPOINTS_3D, KEYPOINTS_2D, PLACE} <= names


def read_sam3d_body(files: list[Path]) -> FoundPeople:
    """The people of one photo, a file each.

    Raises:
        CrowdGaussianError: names the file and what is wrong.
    """
    bodies, pixels = [], []
    for file in files:
        arrays = read_arrays(file, {KEYPOINTS_3D: (NUM_KEYPOINTS, 3),
                                    KEYPOINTS_2D: (NUM_KEYPOINTS, 2), PLACE: (3,)})
        bodies.append(arrays[KEYPOINTS_3D] + arrays[PLACE])
        pixels.append(arrays[KEYPOINTS_2D])
    source = f"SAM 3D Body's {files[0].parent}"
    keypoints, pixels = np.array(bodies, np.float64), np.array(pixels, np.float64)
    checked = check_found(FoundPeople(source, keypoints=keypoints))
    return FoundPeople(source, K=solve_camera(checked.keypoints, pixels, source),
                       keypoints=keypoints)


def solve_camera(points: np.ndarray, pixels: np.ndarray, source: str) -> np.ndarray:
    """K of the camera that sees points at pixels; SAM 3D Body's output always projects exactly.

    Args:
        points: [P, N, 3] camera axes, metres.
        pixels: [P, N, 2].
        source: for the message.

    Raises:
        CrowdGaussianError: no pinhole camera with square pixels does.
    """
    flat = (points[..., :2] / points[..., 2:]).reshape(-1, 2)
    seen = pixels.reshape(-1, 2)
    zero, one = np.zeros(len(flat)), np.ones(len(flat))
    rows = np.concatenate([np.column_stack([flat[:, 0], one, zero]),
                           np.column_stack([flat[:, 1], zero, one])])
    values = seen.T.ravel()
    (focal, cx, cy), *_ = np.linalg.lstsq(rows, values, rcond=None)
    missed = np.abs(rows @ [focal, cx, cy] - values)
    if focal <= 0 or np.median(missed) > _EXACT:
        raise CrowdGaussianError(
            f"{source}: 3D and 2D keypoints do not belong to one camera; save the dictionaries "
            "of one photo as they are.")
    return np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])
