# SPDX-License-Identifier: Apache-2.0
"""How near the reconstruction of the bundled sample comes to the truth it was rendered from."""

import numpy as np
import pytest
from crowdgaussian.synthetic.sample import load_ground_truth
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS
from crowdgaussian_shared.geometry.skinning import joint_transforms
from crowdgaussian_shared.scene.folder import SceneFolder
from scipy.optimize import linear_sum_assignment

pytestmark = pytest.mark.slow
BODY = len(BODY_JOINTS)  # 22, without fingers and face


def in_camera(points, viewmat):
    """Scene frame -> camera frame.  # [..., 3]"""
    return points @ viewmat[:3, :3].T + viewmat[:3, 3]


def posed_joints(avatar):
    """Joints in the photo's pose, scene frame.  # [55, 3]"""
    transforms = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
    rest = np.c_[avatar.rest_joints, np.ones(len(avatar.rest_joints))]
    return np.einsum("jab,jb->ja", transforms, rest)[:, :3]


# Hands of which the photo shows half: as many of their finger joints lie at the surface that the
# true bodies have there. "left" is the person's own.
VISIBLE_HANDS = [
    (name, side)
    for name in ("dancer", "grandfather", "child", "student")
    for side in ("left", "right")
]


@pytest.fixture(scope="module")
def truth():
    return load_ground_truth()


@pytest.fixture(scope="module")
def found(sample_run):
    """Joints in the camera's frame, and masks, of everybody found."""
    folder = SceneFolder.open(sample_run.out)
    count = len(folder.info.people)
    joints = np.stack([posed_joints(folder.read_avatar(i)) for i in range(count)])
    masks = np.stack([folder.read_mask(i) for i in range(count)])
    return in_camera(joints, folder.info.camera.viewmat), masks


@pytest.fixture(scope="module")
def pairs(truth, found):
    """(found, true) index pairs: whoever shares the most pixels."""
    shared = np.array([[iou(mask, visible) for visible in truth.visible] for mask in found[1]])
    return list(zip(*linear_sum_assignment(-shared), strict=True))


def iou(a, b):
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)


def test_everybody_is_found_once(truth, found, pairs):
    assert len(found[1]) == len(truth.people) == len(pairs)


def test_mean_joint_error(truth, found, pairs):
    errors = []
    for mine, true in pairs:
        target = in_camera(truth.people[true].joints[:BODY], truth.camera.viewmat)
        joints = found[0][mine, :BODY]
        apart = (joints - joints[0]) - (target - target[0])
        errors.append(np.linalg.norm(apart, axis=1).mean())
    print("mean joint error by person, mm:", np.round(np.array(errors) * 1000))
    assert np.mean(errors) < 0.080, errors


def test_fingers_of_visible_hands(truth, found, pairs, sample_run):
    """Around their wrist; at rest they are 7.6 pixels and 3.4 cm off."""
    camera = SceneFolder.open(sample_run.out).info.camera
    pixels, metres = [], []
    for mine, true in pairs:
        person, joints = truth.people[true], found[0][mine]
        seen = joints @ camera.K.T
        seen = seen[:, :2] / seen[:, 2:]
        wanted = in_camera(person.joints, truth.camera.viewmat)
        for k, side in enumerate(("left", "right")):
            if (person.name, side) in VISIBLE_HANDS:
                wrist, fingers = 20 + k, slice(25 + 15 * k, 40 + 15 * k)
                off = seen - seen[wrist] - (person.joints_px - person.joints_px[wrist])
                pixels.append(np.linalg.norm(off[fingers], axis=1).mean())
                off = joints - joints[wrist] - (wanted - wanted[wrist])
                metres.append(np.linalg.norm(off[fingers], axis=1).mean())
    print(
        "fingers around the wrist, px:",
        np.round(pixels, 1),
        "mm:",
        np.round(np.array(metres) * 1000),
    )
    assert len(pixels) == len(VISIBLE_HANDS)
    assert np.mean(pixels) < 4, pixels
    assert np.mean(metres) < 0.030, metres


def test_depth_order(truth, found, pairs):
    depths = [(found[0][mine][0, 2], truth.people[true].depth) for mine, true in pairs]
    wrong = [
        (a, b)
        for i, a in enumerate(depths)
        for b in depths[:i]
        if (a[0] - b[0]) * (a[1] - b[1]) <= 0
    ]
    assert wrong == []


def test_masks(truth, found, pairs):
    overlaps = [iou(found[1][mine], truth.visible[true]) for mine, true in pairs]
    print("mask IoU by person:", np.round(overlaps, 3))
    assert min(overlaps) >= 0.85, overlaps
