# SPDX-License-Identifier: Apache-2.0
"""The 55 joints: a tree in order, with a left and a right."""

from crowdgaussian_shared.geometry.skeleton import (
    JOINT_INDEX,
    JOINT_NAMES,
    NUM_JOINTS,
    PARENTS,
    mirror_index,
)


def test_parents_come_before_their_children():
    assert len(JOINT_NAMES) == len(set(JOINT_NAMES)) == len(PARENTS) == NUM_JOINTS == 55
    assert PARENTS[0] == -1
    assert all(0 <= parent < joint for joint, parent in enumerate(PARENTS) if joint)


def test_known_places_of_the_smplx_order():
    assert JOINT_NAMES[15] == "head" and JOINT_NAMES[22] == "jaw"
    assert JOINT_NAMES[25] == "left_index1" and JOINT_NAMES[54] == "right_thumb3"
    parent = {name: JOINT_NAMES[PARENTS[i]] for name, i in JOINT_INDEX.items() if i}
    assert parent["left_index1"] == "left_wrist" and parent["right_thumb3"] == "right_thumb2"
    assert parent["neck"] == parent["left_collar"] == "spine3" and parent["jaw"] == "head"


def test_mirror_is_an_involution_that_keeps_the_tree():
    mirror = mirror_index()
    assert (mirror[mirror] == range(55)).all()
    assert mirror[JOINT_INDEX["left_eye_smplhf"]] == JOINT_INDEX["right_eye_smplhf"]
    assert mirror[JOINT_INDEX["pelvis"]] == 0
    for joint in range(1, 55):
        assert mirror[PARENTS[joint]] == PARENTS[mirror[joint]]
