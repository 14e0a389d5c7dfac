# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR's people as its model returns them, saved by torch.save: a list of dictionaries.

Read: rotvec [53, 3], shape [10], transl_pelvis, scores, j3d. The demo itself saves only meshes;
`torch.save(humans, "humans.pt")` in it saves the rest. Source: naver/multi-hmr, model.py.
"""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.skeleton import BODY_JOINTS, JOINT_INDEX, NUM_JOINTS

from .tensors import tensor
from .types import FoundPeople, check_found

_BODY = len(BODY_JOINTS)
_NETWORK_JOINTS = (*range(_BODY), *range(25, 55), JOINT_INDEX["jaw"])  # rotvec's 53 in our order


def is_multihmr(record: object) -> bool:
    """Whether what a file holds is Multi-HMR's."""
    return isinstance(record, list) and all(
        isinstance(human, dict) and "rotvec" in human for human in record)


def read_multihmr(record: list[dict], file: Path) -> FoundPeople:
    """Its people; the camera is not in the file.

    Raises:
        CrowdGaussianError: names the file and what is wrong.
    """
    if not record:
        raise CrowdGaussianError(f"{file} holds nobody; use a photo that shows people.")
    pose = np.zeros((len(record), NUM_JOINTS, 3))
    pose[:, _NETWORK_JOINTS] = [tensor(h, "rotvec", (53, 3), file) for h in record]
    joints = [tensor(h, "j3d", (None, 3), file)[:_BODY] for h in record]
    betas = [tensor(h, "shape", (None,), file) for h in record]
    places = [tensor(h, "transl_pelvis", (1, 3), file)[0] for h in record]
    scores = [float(np.clip(np.asarray(h.get("scores", 1.0)), 0, 1)) for h in record]
    return check_found(FoundPeople(
        f"Multi-HMR's {file}", scores=np.array(scores), pose=pose, betas=np.array(betas),
        transl=np.array(places), joints=np.array(joints)))
