# SPDX-License-Identifier: Apache-2.0
"""Skeletons whose zero pose is no person: the trunk and limbs go where they went, in any order."""

import numpy as np
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, JOINT_NAMES, PARENTS
from crowdgaussian_shared.motion.kinematics import adult_joints, global_turns, joint_paths
from crowdgaussian_shared.motion.retarget import Source, retarget
from hypothesis import given
from hypothesis import strategies as st

BODY = 22
BONES = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # from y up


def moves(rng, frames=12):
    """Somebody who stands, turns and waves.  # [T, 55, 3]"""
    poses = np.zeros((frames, 55, 3))
    poses[:, :BODY] = rng.normal(0, 0.12, (frames, BODY, 3))
    poses[:, 0] = np.linspace(0, 1.5, frames)[:, None] * (0, 1, 0)
    poses[:, JOINT_INDEX["left_shoulder"], 2] = -1.2
    poses[:, JOINT_INDEX["right_shoulder"], 2] = np.linspace(1.2, -0.8, frames)
    poses[frames // 2, 1:BODY] *= 0.1  # one frame of a plain stand is in most motions
    return poses


def baked(poses, rng, world):
    """The same motion on joints whose zero pose is any tangle, in another order."""
    rest, turns = adult_joints()[:BODY] @ world.T, world @ global_turns(poses)[:, :BODY] @ world.T
    orients = axis_angle_to_matrix(rng.normal(0, 1.5, (BODY, 3)))
    order, waiting = [], [0]
    while waiting:
        order.append(waiting.pop(rng.integers(len(waiting))))
        waiting += [joint for joint in range(BODY) if PARENTS[joint] == order[-1]]
    tangle = np.zeros((BODY, 3))
    for joint in order[1:]:
        above = PARENTS[joint]
        tangle[joint] = tangle[above] + orients[above] @ (rest[joint] - rest[above])
    place = np.tile([0.0, 0.9, 0.0], (len(poses), 1)) @ world.T
    return Source(
        "baked",
        [JOINT_NAMES[joint] for joint in order],
        [order.index(PARENTS[joint]) if PARENTS[joint] >= 0 else -1 for joint in order],
        tangle[order],
        (turns @ orients.swapaxes(1, 2))[:, order],
        place,
        30.0,
    )


def degrees(a, b):
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))).max()


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_any_rest_pose_gives_the_same_motion(seed, z_up):
    rng = np.random.default_rng(seed)
    poses = moves(rng)
    motion = retarget(baked(poses, rng, Z_UP if z_up else np.eye(3)))
    found, truth = (
        joint_paths(adult_joints(), global_turns(p), np.zeros((len(p), 3)))
        for p in (motion.poses, poses)
    )
    for side in ("left", "right"):
        for upper, lower in BONES:
            a, b = (JOINT_INDEX[f"{side}_{name}"] for name in (upper, lower))
            assert degrees(found[:, b] - found[:, a], truth[:, b] - truth[:, a]) < 0.5
    for joint in ("hip", "shoulder"):
        left, right = (JOINT_INDEX[f"{side}_{joint}"] for side in ("left", "right"))
        across = [places[:, left] - places[:, right] for places in (found, truth)]
        assert degrees(*across) < 5.0, f"the trunk is twisted at the {joint}s"


def test_a_motion_that_stands_along_z_though_its_rest_stands_along_y():
    rng = np.random.default_rng(1)
    poses = moves(rng)
    source = Source(
        "mixed",
        list(JOINT_NAMES[:BODY]),
        list(PARENTS[:BODY]),
        adult_joints()[:BODY],
        Z_UP @ global_turns(poses)[:, :BODY],
        np.zeros((len(poses), 3)),
        30.0,
    )
    motion = retarget(source)
    places = joint_paths(adult_joints(), global_turns(motion.poses), motion.transl)
    up = places[:, JOINT_INDEX["head"]] - places[:, JOINT_INDEX["left_ankle"]]
    assert (up[:, 1] > 0.9 * np.linalg.norm(up, axis=1)).all()
