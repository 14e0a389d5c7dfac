# SPDX-License-Identifier: Apache-2.0
"""The 70 keypoints of SAM 3D Body (the "MHR70" layout) in terms of our joints and landmarks.

Source of the layout: facebookresearch/sam-3d-body, metadata/mhr70.py. Left and right are the
subject's own. Fingers are told from the tip (4) to the knuckle ("third joint").
"""

from crowdgaussian_shared.skeleton import JOINT_INDEX

NUM_KEYPOINTS = 70
NECK = 69
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_FIRST_FINGER = {"right": 21, "left": 42}
WRISTS = {"right": 41, "left": 62}

# keypoint -> MediaPipe landmark, where both mean a point of the skin
LANDMARKS = {0: 0, 1: 2, 2: 5, 3: 7, 4: 8, 15: 31, 17: 29, 18: 32, 20: 30}

_LIMBS = {
    5: "left_shoulder", 6: "right_shoulder", 7: "left_elbow", 8: "right_elbow",
    9: "left_hip", 10: "right_hip", 11: "left_knee", 12: "right_knee",
    13: "left_ankle", 14: "right_ankle", WRISTS["left"]: "left_wrist",
    WRISTS["right"]: "right_wrist", NECK: "neck",
}  # fmt: skip


def finger_keypoints(side: str) -> dict[int, str]:
    """Keypoint -> joint for the three joints of each finger of a hand."""
    joints = {}
    for number, finger in enumerate(_FINGERS):
        first = _FIRST_FINGER[side] + 4 * number  # the tip
        joints |= {first + 4 - k: f"{side}_{finger}{k}" for k in (1, 2, 3)}
    return joints


JOINTS = {keypoint: JOINT_INDEX[name] for keypoint, name in (
    _LIMBS | finger_keypoints("left") | finger_keypoints("right")).items()}

# MediaPipe landmark -> the keypoint that is the same point of a person
MEDIAPIPE = {
    **{landmark: keypoint for keypoint, landmark in LANDMARKS.items()},
    11: 5, 12: 6, 13: 7, 14: 8, 15: WRISTS["left"], 16: WRISTS["right"],
    17: 61, 18: 40, 19: 49, 20: 28, 21: 43, 22: 22,
    23: 9, 24: 10, 25: 11, 26: 12, 27: 13, 28: 14,
}  # fmt: skip
