# SPDX-License-Identifier: Apache-2.0
"""People told by LHM's motion JSON: one file a person, one photo.

root_pose, body_pose, lhand_pose, ... as axis-angles, trans, betas, focal and princpt, in OpenCV
camera axes. Source: aigc3d/LHM, the files of its motion folders.
"""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.fields import parse_json
from crowdgaussian_shared.files import read_bytes
from crowdgaussian_shared.motion_json import read_frame
from crowdgaussian_shared.skeleton import NUM_JOINTS

from .types import FoundPeople, check_found

_MAX_BYTES = 1 << 20


def read_lhm_json(files: list[Path]) -> FoundPeople:
    """The people of one photo, a file each; the camera is that of the first.

    Raises:
        CrowdGaussianError: names the file and the field.
    """
    pose, transl = np.zeros((len(files), NUM_JOINTS, 3)), np.zeros((len(files), 3))
    betas, K = [], None
    for k, file in enumerate(files):
        frame = parse_json(read_bytes(file, _MAX_BYTES), str(file))
        read_frame(frame, pose[k], transl[k])
        betas.append([item.number() for item in frame.child("betas").items(1000)]
                     if frame.has("betas") else [])
        if K is None and frame.has("focal") and frame.has("princpt"):
            focal, centre = frame.child("focal").vector(2), frame.child("princpt").vector(2)
            K = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1.0]])
    alike = len({len(row) for row in betas}) == 1 and betas[0]
    return check_found(FoundPeople(f"{files[0].parent}", K=K, pose=pose, transl=transl,
                                   betas=np.array(betas) if alike else None))
