# SPDX-License-Identifier: Apache-2.0
"""COCO's 17 and COCO-WholeBody's 133 keypoints as the 33 landmarks that bodies are fitted to.

All three name the subject's own left and right. What a layout does not have gets confidence 0.
"""

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

_BODY = {0: 0, 2: 1, 5: 2, 7: 3, 8: 4, 11: 5, 12: 6, 13: 7, 14: 8, 15: 9, 16: 10, 23: 11, 24: 12,
         25: 13, 26: 14, 27: 15, 28: 16}  # landmark: keypoint
# COCO-WholeBody: 6 points of the feet from 17, 68 of the face from 23, 21 a hand from 91 and 112.
_FEET = {29: 19, 30: 22}
_TOES = {31: (17, 18), 32: (20, 21)}  # big and small toe
_BIG_TOE = 0.8  # its share of the landmark at the tip of the foot
_FACE = {1: 42, 3: 45, 4: 39, 6: 36, 9: 54, 10: 48}  # corners of eyes and mouth among the 68
_HANDS = {17: 91 + 17, 19: 91 + 5, 21: 91 + 2, 18: 112 + 17, 20: 112 + 5, 22: 112 + 2}
_NEAR = {1: 2, 3: 2, 4: 5, 6: 5, 9: 0, 10: 0, 17: 15, 19: 15, 21: 15, 18: 16, 20: 16, 22: 16,
         29: 27, 31: 27, 30: 28, 32: 28}  # where a landmark stands that a layout does not have


def to_landmarks(xy: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints of one person as landmarks.

    Args:
        xy: [17, 2] or [133, 2] photo pixels.
        scores: [17] or [133], 0..1.

    Returns:
        [33, 2] and the confidence [33] of each, float32.

    Raises:
        CrowdGaussianError: another number of keypoints.
    """
    if len(xy) not in (17, 133):
        raise CrowdGaussianError(
            f"A keypoint network with {len(xy)} keypoints is not known; use one with COCO's 17 or "
            "COCO-WholeBody's 133.")
    places, sure = np.zeros((33, 2)), np.zeros(33)
    table = dict(_BODY)
    if len(xy) == 133:
        table |= _FEET | {k: 23 + point for k, point in _FACE.items()} | _HANDS
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
