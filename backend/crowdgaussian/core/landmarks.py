# SPDX-License-Identifier: Apache-2.0
"""The 33 body landmarks of BlazePose by name, and the groups in which they are used.

Source: MediaPipe's pose landmark model (BlazePose GHUM 3D). Left and right are the subject's own.
The joints of the body model are others: shared skeleton.py names them.
"""

from enum import IntEnum

import numpy as np


class Landmark(IntEnum):
    """Index of a landmark in arrays of 33."""

    NOSE = 0
    LEFT_EYE_INNER = 1
    LEFT_EYE = 2
    LEFT_EYE_OUTER = 3
    RIGHT_EYE_INNER = 4
    RIGHT_EYE = 5
    RIGHT_EYE_OUTER = 6
    LEFT_EAR = 7
    RIGHT_EAR = 8
    MOUTH_LEFT = 9
    MOUTH_RIGHT = 10
    LEFT_SHOULDER = 11
    RIGHT_SHOULDER = 12
    LEFT_ELBOW = 13
    RIGHT_ELBOW = 14
    LEFT_WRIST = 15
    RIGHT_WRIST = 16
    LEFT_PINKY = 17
    RIGHT_PINKY = 18
    LEFT_INDEX = 19
    RIGHT_INDEX = 20
    LEFT_THUMB = 21
    RIGHT_THUMB = 22
    LEFT_HIP = 23
    RIGHT_HIP = 24
    LEFT_KNEE = 25
    RIGHT_KNEE = 26
    LEFT_ANKLE = 27
    RIGHT_ANKLE = 28
    LEFT_HEEL = 29
    RIGHT_HEEL = 30
    LEFT_FOOT_INDEX = 31
    RIGHT_FOOT_INDEX = 32

    @property
    def joint(self) -> str:
        """Name of the body model's joint that limbs and trunk mark, such as "left_knee"."""
        return self.name.lower()


L = Landmark
NUM_LANDMARKS = len(Landmark)  # 33


def _ids(*landmarks: int) -> np.ndarray:
    """Landmarks as an index into arrays of 33; it cannot be written to.  # [N] int64"""
    ids = np.array(landmarks, np.int64)
    ids.flags.writeable = False
    return ids


HEAD = _ids(*range(L.NOSE, L.MOUTH_RIGHT + 1))
EARS = _ids(L.LEFT_EAR, L.RIGHT_EAR)
SHOULDERS = _ids(L.LEFT_SHOULDER, L.RIGHT_SHOULDER)
HIPS = _ids(L.LEFT_HIP, L.RIGHT_HIP)
WRISTS = _ids(L.LEFT_WRIST, L.RIGHT_WRIST)
# Elbow, wrist and hand of the left and of the right arm.
ARM_SIDES = (
    _ids(L.LEFT_ELBOW, L.LEFT_WRIST, L.LEFT_PINKY, L.LEFT_INDEX, L.LEFT_THUMB),
    _ids(L.RIGHT_ELBOW, L.RIGHT_WRIST, L.RIGHT_PINKY, L.RIGHT_INDEX, L.RIGHT_THUMB),
)
KNEES = _ids(L.LEFT_KNEE, L.RIGHT_KNEE)
ANKLES = _ids(L.LEFT_ANKLE, L.RIGHT_ANKLE)
TORSO = _ids(*SHOULDERS, *HIPS)  # points that lie well inside a body
ARMS = _ids(*range(L.LEFT_SHOULDER, L.RIGHT_WRIST + 1))
LEGS = _ids(*range(L.LEFT_HIP, L.RIGHT_ANKLE + 1))
FEET = _ids(*range(L.LEFT_HEEL, L.RIGHT_FOOT_INDEX + 1))
# Ankle, heel and tip of the left and of the right foot.
FOOT_SIDES = (
    (L.LEFT_ANKLE, L.LEFT_HEEL, L.LEFT_FOOT_INDEX),
    (L.RIGHT_ANKLE, L.RIGHT_HEEL, L.RIGHT_FOOT_INDEX),
)
# Start, middle and end of both arms and both legs.
LIMBS = (
    (L.LEFT_SHOULDER, L.LEFT_ELBOW, L.LEFT_WRIST),
    (L.RIGHT_SHOULDER, L.RIGHT_ELBOW, L.RIGHT_WRIST),
    (L.LEFT_HIP, L.LEFT_KNEE, L.LEFT_ANKLE),
    (L.RIGHT_HIP, L.RIGHT_KNEE, L.RIGHT_ANKLE),
)
# The same landmark on the other side of the body.
MIRROR = _ids(
    L.NOSE,
    L.RIGHT_EYE_INNER,
    L.RIGHT_EYE,
    L.RIGHT_EYE_OUTER,
    L.LEFT_EYE_INNER,
    L.LEFT_EYE,
    L.LEFT_EYE_OUTER,
    L.RIGHT_EAR,
    L.LEFT_EAR,
    L.MOUTH_RIGHT,
    L.MOUTH_LEFT,
    *(i + 1 if i % 2 else i - 1 for i in range(L.LEFT_SHOULDER, L.RIGHT_FOOT_INDEX + 1)),
)
