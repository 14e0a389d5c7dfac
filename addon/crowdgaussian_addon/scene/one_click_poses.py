# SPDX-License-Identifier: GPL-3.0-or-later
"""Rest pose and photo pose, whatever was animated since."""

import bpy
import numpy as np
from crowdgaussian_shared.skeleton import JOINT_NAMES
from mathutils import Matrix

from .controls import ik_is_on, limbs_with_controls, switch_controls
from .posing import photo_place, photo_pose
from .rig import set_pose


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
        CrowdGaussianError: the rig does not hold its photo pose.
    """
    pose, transl = photo_pose(rig)
    place = photo_place(rig)
    if back and place is not None:
        rig.matrix_basis = Matrix(place.tolist())
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
    on = [name for name in limbs_with_controls(rig) if ik_is_on(rig, name)]
    for name in on:
        switch_controls(rig, name, False)
    for bone in rig.pose.bones:
        if bone.name in JOINT_NAMES:
            bone.location, bone.scale = np.zeros(3), np.ones(3)
            bone.rotation_mode = "QUATERNION"
    put()
    bpy.context.view_layer.update()
    for name in on:
        switch_controls(rig, name, True)
