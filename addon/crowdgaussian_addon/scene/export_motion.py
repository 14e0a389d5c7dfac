# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do, frame by frame, as a motion of the 55 joints for the writers of shared/."""

from dataclasses import dataclass, field

import numpy as np
from crowdgaussian_shared.motion import Motion

from .people import Person, read_pose
from .posing import read_rest_joints, read_shape


@dataclass
class Recording:
    """One person's poses, recorded while the frames pass."""

    person: Person
    poses: list[np.ndarray] = field(default_factory=list)  # of [55, 3]
    places: list[np.ndarray] = field(default_factory=list)  # of [3]

    def record(self) -> None:
        """Adds the current frame.

        Raises:
            CrowdGaussianError: the rig lacks one of the 55 bones.
        """
        pose, transl = read_pose(self.person.rig)
        self.poses.append(pose)
        self.places.append(transl)

    @property
    def rest_joints(self) -> np.ndarray:
        """[55, 3] metres: whose skeleton moved."""
        return read_rest_joints(self.person.rig)

    def motion(self, fps: float) -> Motion:
        """What was recorded, in the scene frame."""
        _, betas = read_shape(self.person.rig)
        return Motion(
            self.person.name, fps, np.stack(self.poses), np.stack(self.places),
            betas=betas if len(betas) else None,
        )  # fmt: skip
