# SPDX-License-Identifier: Apache-2.0
"""Skeletons of other programs, by the names and parents that they have."""

import pytest
from crowdgaussian_shared.geometry.skeleton import (
    CONVENTIONS,
    JOINT_INDEX,
    NEEDED,
    PARENTS,
    find_joints,
    joint_names,
)

SIDED = ("hip", "knee", "ankle", "shoulder", "elbow")
BODY = (*NEEDED, "pelvis", "neck", "head", "left_wrist", "left_foot", "left_collar", "spine3")
# Of each program: the trunk from the root up, the bone that legs hang from, then arm and leg with
# {} where a side stands.
PROGRAMS = {
    "Rigify": (
        "spine spine.001 spine.002 spine.003 spine.004 spine.005 spine.006", "spine", "spine.003",
        "shoulder.{} upper_arm.{} forearm.{} hand.{}", "thigh.{} shin.{} foot.{} toe.{}", "LR",
    ),
    "Unreal": (
        "root pelvis spine_01 spine_02 spine_03 neck_01 head", "pelvis", "spine_03",
        "clavicle_{} upperarm_{} lowerarm_{} hand_{}", "thigh_{} calf_{} foot_{} ball_{}", "lr",
    ),
    "VRM": (
        "J_Bip_C_Hips J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_UpperChest J_Bip_C_Neck J_Bip_C_Head",
        "J_Bip_C_Hips", "J_Bip_C_UpperChest",
        "J_Bip_{}_Shoulder J_Bip_{}_UpperArm J_Bip_{}_LowerArm J_Bip_{}_Hand",
        "J_Bip_{}_UpperLeg J_Bip_{}_LowerLeg J_Bip_{}_Foot J_Bip_{}_ToeBase", "LR",
    ),
    "Mixamo without colon": (
        "mixamorigHips mixamorigSpine mixamorigSpine1 mixamorigSpine2 mixamorigNeck mixamorigHead",
        "mixamorigHips", "mixamorigSpine2",
        "mixamorig{}Shoulder mixamorig{}Arm mixamorig{}ForeArm mixamorig{}Hand",
        "mixamorig{}UpLeg mixamorig{}Leg mixamorig{}Foot mixamorig{}ToeBase", ("Left", "Right"),
    ),
    "MPFB": (
        "root spine05 spine04 spine03 spine02 spine01 neck01 neck02 head", "root", "spine01",
        "clavicle.{} upperarm01.{} upperarm02.{} lowerarm01.{} lowerarm02.{} wrist.{}",
        "pelvis.{} upperleg01.{} upperleg02.{} lowerleg01.{} lowerleg02.{} foot.{} toe1-1.{}", "LR",
    ),
    "Character Creator": (
        "CC_Base_Hip CC_Base_Waist CC_Base_Spine02 CC_Base_NeckTwist01 CC_Base_Head",
        "CC_Base_Hip", "CC_Base_Spine02",
        "CC_Base_{}_Clavicle CC_Base_{}_Upperarm CC_Base_{}_Forearm CC_Base_{}_Hand",
        "CC_Base_Pelvis CC_Base_{}_Thigh CC_Base_{}_Calf CC_Base_{}_Foot CC_Base_{}_ToeBase", "LR",
    ),
    "Daz": (
        "hip abdomenLower abdomenUpper chestLower chestUpper neckLower neckUpper head", "hip",
        "chestUpper", "{}Collar {}ShldrBend {}ShldrTwist {}ForearmBend {}ForearmTwist {}Hand",
        "pelvis {}ThighBend {}ThighTwist {}Shin {}Foot {}Toe", "lr",
    ),
    "Auto-Rig Pro": (
        "root.x spine_01.x spine_02.x neck.x head.x", "root.x", "spine_02.x",
        "shoulder.{} arm_stretch.{} forearm_stretch.{} hand.{}",
        "thigh_stretch.{} leg_stretch.{} foot.{} toes_01.{}", "lr",
    ),
}  # fmt: skip


def skeleton(program):
    """Names and parents as the program has them."""
    trunk, hips, chest, arm, leg, sides = PROGRAMS[program]
    names, parents = trunk.split(), []
    parents = list(range(-1, len(names) - 1))
    for limb, start in ((leg, hips), (arm, chest)):
        for side in sides:
            above = names.index(start)
            for bone in (word.format(side) for word in limb.split()):
                if bone in names:
                    above = names.index(bone)
                    continue
                names.append(bone)
                parents.append(above)
                above = len(names) - 1
    return names, parents


def above(joint, parents):
    """All that a joint hangs from."""
    found = []
    while parents[joint] >= 0:
        joint = parents[joint]
        found.append(joint)
    return found


def lefts(program):
    """The bones of a program's left limbs."""
    *_, arm, leg, sides = PROGRAMS[program]
    return [word.format(sides[0]) for word in (arm + " " + leg).split()]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_whole_person_is_found(program):
    names, parents = skeleton(program)
    found = find_joints(names, parents)
    lost = [joint for joint in BODY if JOINT_INDEX[joint] not in found]
    if program == "MPFB":  # it has many toes, and none that all of them hang from
        lost = [joint for joint in lost if not joint.endswith("_foot")]
    assert not lost
    assert names[found[0]] == PROGRAMS[program][1]
    assert len(set(found.values())) == len(found)
    for side in ("left", "right"):
        for limb in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")):
            upper, middle, end = (found[JOINT_INDEX[f"{side}_{joint}"]] for joint in limb)
            assert upper in above(middle, parents) and middle in above(end, parents)
    assert all(names[found[JOINT_INDEX[f"left_{joint}"]]] in lefts(program) for joint in SIDED)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_names_for_other_programs_are_found_again(convention):
    names = joint_names(convention)
    assert len(set(names)) == 55
    assert find_joints(names, PARENTS) == {k: k for k in range(55)}
