# SPDX-License-Identifier: Apache-2.0
"""The 33 body landmarks of BlazePose by name, and the groups in which they are used.

Source: MediaPipe's pose landmark model (BlazePose GHUM 3D). Left and right are the subject's own.
The joints of the body model are others: shared skeleton.py names them.
"""

from enum import IntEnum

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError


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


# COCO's 17 and COCO-WholeBody's 133 keypoints as the 33 landmarks that bodies are fitted to

# Landmarks in the order of COCO's keypoints.
_COCO = (
    L.NOSE,
    L.LEFT_EYE,
    L.RIGHT_EYE,
    L.LEFT_EAR,
    L.RIGHT_EAR,
    L.LEFT_SHOULDER,
    L.RIGHT_SHOULDER,
    L.LEFT_ELBOW,
    L.RIGHT_ELBOW,
    L.LEFT_WRIST,
    L.RIGHT_WRIST,
    L.LEFT_HIP,
    L.RIGHT_HIP,
    L.LEFT_KNEE,
    L.RIGHT_KNEE,
    L.LEFT_ANKLE,
    L.RIGHT_ANKLE,
)
_BODY = {landmark: keypoint for keypoint, landmark in enumerate(_COCO)}
# COCO-WholeBody: 6 points of the feet from 17, 68 of the face from 23, 21 a hand from 91 and 112.
_FACE_START, _LEFT_HAND, _RIGHT_HAND = 23, 91, 112
_FEET = {L.LEFT_HEEL: 19, L.RIGHT_HEEL: 22}
_TOES = {L.LEFT_FOOT_INDEX: (17, 18), L.RIGHT_FOOT_INDEX: (20, 21)}  # big and small toe
_BIG_TOE = 0.8  # its share of the landmark at the tip of the foot
_FACE = {  # corners of eyes and mouth among the 68
    L.LEFT_EYE_INNER: 42,
    L.LEFT_EYE_OUTER: 45,
    L.RIGHT_EYE_INNER: 39,
    L.RIGHT_EYE_OUTER: 36,
    L.MOUTH_LEFT: 54,
    L.MOUTH_RIGHT: 48,
}
_HANDS = {
    L.LEFT_PINKY: _LEFT_HAND + 17,
    L.LEFT_INDEX: _LEFT_HAND + 5,
    L.LEFT_THUMB: _LEFT_HAND + 2,
    L.RIGHT_PINKY: _RIGHT_HAND + 17,
    L.RIGHT_INDEX: _RIGHT_HAND + 5,
    L.RIGHT_THUMB: _RIGHT_HAND + 2,
}
_NEAR = {  # where a landmark stands that a layout does not have
    L.LEFT_EYE_INNER: L.LEFT_EYE,
    L.LEFT_EYE_OUTER: L.LEFT_EYE,
    L.RIGHT_EYE_INNER: L.RIGHT_EYE,
    L.RIGHT_EYE_OUTER: L.RIGHT_EYE,
    L.MOUTH_LEFT: L.NOSE,
    L.MOUTH_RIGHT: L.NOSE,
    L.LEFT_PINKY: L.LEFT_WRIST,
    L.LEFT_INDEX: L.LEFT_WRIST,
    L.LEFT_THUMB: L.LEFT_WRIST,
    L.RIGHT_PINKY: L.RIGHT_WRIST,
    L.RIGHT_INDEX: L.RIGHT_WRIST,
    L.RIGHT_THUMB: L.RIGHT_WRIST,
    L.LEFT_HEEL: L.LEFT_ANKLE,
    L.LEFT_FOOT_INDEX: L.LEFT_ANKLE,
    L.RIGHT_HEEL: L.RIGHT_ANKLE,
    L.RIGHT_FOOT_INDEX: L.RIGHT_ANKLE,
}
# The landmark of COCO's 17 that is nearest to each.
NEAREST = _ids(*(_NEAR.get(landmark, landmark) for landmark in Landmark))


def to_landmarks(xy: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of one person as landmarks.

    Args:
        xy: [17, 2] or [133, 2] photo pixels.
        scores: [17] or [133], 0..1.

    Returns:
        [33, 2] and the confidence [33] of each, float32.

    Raises:
        DamagedFileError: another number of keypoints.
    """
    if len(xy) not in (17, 133):
        raise DamagedFileError(
            f"A keypoint network with {len(xy)} keypoints is not known; use one with COCO's 17 or "
            "COCO-WholeBody's 133."
        )
    places, sure = np.zeros((NUM_LANDMARKS, 2)), np.zeros(NUM_LANDMARKS)
    table = dict(_BODY)
    if len(xy) == 133:
        table |= _FEET | {k: _FACE_START + point for k, point in _FACE.items()} | _HANDS
    for landmark, keypoint in table.items():
        places[landmark], sure[landmark] = xy[keypoint], scores[keypoint]
    if len(xy) == 133:
        for landmark, (big, small) in _TOES.items():
            places[landmark] = _BIG_TOE * xy[big] + (1 - _BIG_TOE) * xy[small]
            sure[landmark] = min(scores[big], scores[small])
    for landmark, neighbour in _NEAR.items():
        if landmark not in table and (len(xy) == 17 or landmark not in _TOES):
            places[landmark] = places[neighbour]
    return places.astype(np.float32), np.clip(sure, 0, 1).astype(np.float32)
