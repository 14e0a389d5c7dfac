# SPDX-License-Identifier: GPL-3.0-or-later
"""The pose library: poses as assets that fit every person, applied in part or in full.

A pose asset is an action with one key for each bone, as Blender's own pose library has it, and the
pose itself in SMPL-X angles: bones of two people differ a little in their axes, joints do not.
"""

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, NUM_JOINTS
from crowdgaussian_shared.motion.fit import fit_motion
from crowdgaussian_shared.motion.kinematics import about_y, heading
from crowdgaussian_shared.motion.motion import Motion
from crowdgaussian_shared.motion.time import blend_poses
from mathutils import Matrix

from ..motion.apply import standing_photo
from ..motion.keys import (
    bone_poses,
    bone_values,
    build_action,
    read_bones,
    require_free_bones,
    to_floor,
    wearer_of,
    write_bones,
)
from ..people import Person
from ..rig.armature import set_pose, unit_of
from ..rig.bones import ROOT
from ..rig.controls import rest_extras
from ..rig.ik import ik_is_on, limbs_with_controls, switch_controls
from ..rig.read_pose import PHOTO_POSE, photo_place, photo_pose
from .shapes import POSES, pose_angles

POSE = "crowdgaussian_pose"  # action property: 55 x 3 axis-angles, faced forward
PHOTO = "Photo pose"


def pose_names() -> list[str]:
    """Poses that come with the add-on."""
    return [*POSES, PHOTO]


def pose_assets() -> list[bpy.types.Action]:
    """Pose assets of this file that hold angles."""
    return [a for a in bpy.data.actions if a.asset_data is not None and a.get(POSE) is not None]


def find_pose(name: str, person: Person) -> Motion:
    """A pose on a person's floor: from the library of this file, or one of those we bring.

    Args:
        name: of an asset or of the list.
        person: who shall take it.

    Raises:
        InputError: there is no such pose, or the person holds no photo pose.
    """
    asset = next((a for a in pose_assets() if a.name == name), None)
    if asset is not None:
        return on_floor(np.array(asset[POSE], np.float64).reshape(NUM_JOINTS, 3), person, name)
    if name == PHOTO:
        return standing_photo(person)
    if name not in POSES:
        raise InputError(f"There is no pose {name!r} in this file; choose another one.")
    return on_floor(pose_angles(name), person, name)


def on_floor(pose: np.ndarray, person: Person, name: str) -> Motion:
    """A pose with its lowest sole on the person's floor.  # [55, 3] -> one frame"""
    wearer = wearer_of(person.rig)
    still = Motion(name, 1.0, pose[None], np.zeros((1, 3)))
    return to_floor(fit_motion(still, wearer, feet=False), wearer.rest_joints)


def take_pose(person: Person, target: Motion, factor: float, frame: int | None) -> None:
    """Move somebody towards a pose where they are, facing as they do.

    Args:
        person: whose bones are set.
        target: one frame, from find_pose.
        factor: 0 leaves them, 1 is the whole pose.
        frame: key all bones there; None sets no keys.

    Raises:
        InputError: the rig lacks bones or follows IK controls.
    """
    rig = person.rig
    require_free_bones(rig, person.name)
    poses, transl = bone_poses(rig, read_bones(rig))
    turn = float(heading(axis_angle_to_matrix(poses[0, 0])))
    wanted = target.poses.copy()
    wanted[0, 0] = matrix_to_axis_angle(about_y(turn) @ axis_angle_to_matrix(wanted[0, 0]))
    place = transl * (1, 0, 1) + target.transl * (0, 1, 0)
    mixed = blend_poses(poses, wanted, np.full((1, 1), factor))
    values = bone_values(rig, mixed, transl + factor * (place - transl))
    write_bones(rig, values, frame)


def current_pose(person: Person) -> np.ndarray:
    """What the bones hold now, faced forward.  # [55, 3]"""
    poses, transl = bone_poses(person.rig, read_bones(person.rig))
    still = Motion("now", 1.0, poses, transl)
    return to_floor(still, wearer_of(person.rig).rest_joints).poses[0]


def add_pose_asset(name: str, pose: np.ndarray, person: Person, catalogue: str) -> bpy.types.Action:
    """A pose asset, its bones' values as they are on one person.

    Args:
        name: of the asset; Blender adds a number to a name that is taken.
        pose: [55, 3] axis-angle, faced forward.
        person: gives the bones.
        catalogue: id.
    """
    still = on_floor(pose, person, name)
    values = bone_values(person.rig, still.poses, still.transl)
    action = build_action(name, person.rig, values, 1)
    action[POSE] = np.ravel(pose).astype(float).tolist()
    action.asset_mark()
    action.asset_data.catalog_id = catalogue
    action.asset_data.author = "CrowdGaussian"
    action.asset_data.description = f"{name}: 55 joints of SMPL-X"
    return action


def library_poses(person: Person) -> dict[str, np.ndarray]:
    """The poses of the library, with the photo pose of a person if they hold one."""
    poses = {name: pose_angles(name) for name in POSES}
    if person.rig.get(PHOTO_POSE) is not None:
        poses[f"{PHOTO} {person.name}"] = standing_photo(person).poses[0]
    return poses


# Rest pose and photo pose, whatever was animated since


def to_rest_pose(rig: bpy.types.Object) -> None:
    """The T-pose, standing where the armature object stands."""

    def straighten() -> None:
        for name in JOINT_NAMES:
            rig.pose.bones[name].matrix_basis = Matrix.Identity(4)

    _hold(rig, straighten)


def to_photo_pose(rig: bpy.types.Object, back: bool) -> None:
    """The photo's pose, where the person is now or where they were.

    Args:
        rig: a person's armature.
        back: put the armature object back to its place of the photo as well.

    Raises:
        InputError: the rig does not hold its photo pose.
    """
    pose, transl = photo_pose(rig)
    place = photo_place(rig)
    if back and place is not None:
        there = place.copy()
        there[:3] /= unit_of(rig)
        rig.matrix_basis = Matrix(there.tolist())
        if ROOT in rig.pose.bones:
            rig.pose.bones[ROOT].matrix_basis = Matrix.Identity(4)
    _hold(rig, lambda: set_pose(rig, pose, transl, place=place))


def _hold(rig: bpy.types.Object, put) -> None:
    """Take motion off, without losing it, and let IK controls follow the new pose."""
    data = rig.animation_data
    if data is not None:
        if data.action is not None:
            data.action.use_fake_user = True
            data.action = None
        for track in data.nla_tracks:
            track.mute = True
    rest_extras(rig)
    on = [name for name in limbs_with_controls(rig) if ik_is_on(rig, name)]
    for name in on:
        switch_controls(rig, name, False)
    for bone in rig.pose.bones:
        if bone.name in JOINT_NAMES:
            bone.location, bone.scale = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
            bone.rotation_mode = "QUATERNION"
    put()
    bpy.context.view_layer.update()
    for name in on:
        switch_controls(rig, name, True)
