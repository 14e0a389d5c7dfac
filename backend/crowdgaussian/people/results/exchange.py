# SPDX-License-Identifier: Apache-2.0
"""people.npz: the file that any estimator can write for us.

K [3, 3], and pose [P, 55, 3] with transl [P, 3] (SMPL-X convention, axis-angle, OpenCV camera axes,
metres) or keypoints [P, 70, 3] (the layout of mhr70, camera axes); optional betas [P, B], joints
[P, 22, 3] and scores [P]. docs/people.md describes it.
"""

from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.skeleton import BODY_JOINTS, NUM_JOINTS

from ..mhr70 import NUM_KEYPOINTS
from .arrays import array_names, read_arrays
from .types import FoundPeople, check_found

FILE = "people.npz"
_POSED = {"pose": (None, NUM_JOINTS, 3), "transl": (None, 3)}
_POINTS = {"keypoints": (None, NUM_KEYPOINTS, 3)}
_MORE = {"betas": (None, None), "joints": (None, len(BODY_JOINTS), 3), "scores": (None,)}


def read_exchange(file: Path) -> FoundPeople:
    """The people of a people.npz.

    Raises:
        CrowdGaussianError: names the file and the array.
    """
    names = array_names(file)
    if names and not names & {"pose", "keypoints"}:
        raise CrowdGaussianError(f"{file} has neither pose nor keypoints; see docs/people.md.")
    needed = {"K": (3, 3), **(_POINTS if "keypoints" in names else _POSED)}
    return check_found(FoundPeople(f"{file}", **read_arrays(file, needed, _MORE)))
