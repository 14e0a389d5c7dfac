# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a rig back: its rest joints, the pose it is in now, the pose of its photo.

Poses are read from the evaluated bones, so keys, constraints, IK and the object's own place count.
Scale of the rig object acts about the pelvis: read_pose gives the unscaled skeleton whose pelvis
lies where the scaled one's does, and world_scale gives the factor.
"""

from collections.abc import Iterator

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.axes import BLENDER_FROM_SCENE, convert_points, convert_rotations
from crowdgaussian_shared.geometry.rotations import matrix_to_axis_angle, polar_rotation
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, PARENTS

from ..attributes import armature_data
from .armature import in_metres, rest_offset

PHOTO_POSE = "crowdgaussian_photo_pose"  # rig property: 55 x 3 axis-angles, then transl
PHOTO_PLACE = "crowdgaussian_photo_place"  # rig property: its matrix in metres, row by row
SHAPE = "crowdgaussian_shape"  # rig property: scale, then betas
PHOTO_FRAME = 1  # the photo's pose is keyed here


def read_transforms(
    rig: bpy.types.Object, depsgraph: bpy.types.Depsgraph | None = None
) -> np.ndarray:
    """What carries canonical points to the scene now, scale and all: joint_transforms as posed.

    Args:
        rig: a person's armature.
        depsgraph: the evaluated scene; None evaluates the current one.

    Returns:
        [55, 4, 4] float64, canonical frame -> scene frame.

    Raises:
        InputError: the rig lacks one of the 55 bones.
    """
    world = _world_transforms(rig, depsgraph)
    change = np.eye(4)
    change[:3, :3] = BLENDER_FROM_SCENE
    offset = np.eye(4)
    offset[:3, 3] = rest_offset(rig)
    return change.T @ world @ offset @ change


def read_pose(
    rig: bpy.types.Object, depsgraph: bpy.types.Depsgraph | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The pose as seen now: the inverse of rig.set_pose.

    Args:
        rig: a person's armature.
        depsgraph: the evaluated scene; None evaluates the current one.

    Returns:
        pose [55, 3] float64 axis-angle, radians, pose[0] in the scene frame; transl [3] metres,
        scene frame.

    Raises:
        InputError: the rig lacks one of the 55 bones.
    """
    world = _world_transforms(rig, depsgraph)
    turns = polar_rotation(world[:, :3, :3])
    local = turns.copy()
    for joint, parent in enumerate(PARENTS):
        if parent >= 0:
            local[joint] = turns[parent].T @ turns[joint]
    pose = matrix_to_axis_angle(convert_rotations(local, "blender", "scene"))
    rest = np.array(armature_data(rig).bones[JOINT_NAMES[0]].head_local)
    pelvis = world[0] @ np.append(rest, 1.0)
    transl = pelvis[:3] - (rest - rest_offset(rig))
    return pose, convert_points(transl, "blender", "scene")


def world_scale(rig: bpy.types.Object, depsgraph: bpy.types.Depsgraph | None = None) -> float:
    """How much larger than its avatar a person is shown: the mean scale of the rig object."""
    world = in_metres(rig, _evaluated(rig, depsgraph).matrix_world)[:3, :3]
    return float(np.cbrt(abs(np.linalg.det(world))))


def heading_of(rig: bpy.types.Object) -> float:
    """Where the pelvis faces now: radians about the vertical, 0 along -y."""
    turned = polar_rotation(_world_transforms(rig, None)[0, :3, :3])
    return float(np.arctan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1]))


def read_rest_joints(rig: bpy.types.Object) -> np.ndarray:
    """The T-pose's joints in the canonical frame.  # [55, 3] float64, metres"""
    heads = np.array([bone.head_local for bone in _bones(rig, armature_data(rig).bones)])
    return convert_points(heads - rest_offset(rig), "blender", "scene")


def store_photo_pose(rig: bpy.types.Object, avatar: Avatar) -> None:
    """Keep pose, place and shape of the photo with the rig, whatever is animated later.

    The armature object must stand where place_rig puts it.
    """
    pose = np.concatenate([np.ravel(avatar.pose), np.ravel(avatar.transl)])
    rig[PHOTO_POSE] = pose.astype(float).tolist()
    rig[PHOTO_PLACE] = in_metres(rig, rig.matrix_basis).ravel().tolist()
    rig[SHAPE] = [float(avatar.scale), *np.ravel(avatar.betas).astype(float).tolist()]


def photo_pose(rig: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    """Pose [55, 3] and transl [3] of the photo, as in read_pose.

    Raises:
        InputError: the rig carries none, as those of older files do.
    """
    if rig.get(PHOTO_POSE) is None:
        raise InputError(
            f"{rig.name} comes from an older file that does not hold its photo pose; "
            "import the crowd again."
        )
    values = np.array(rig[PHOTO_POSE], np.float64)
    return values[:-3].reshape(-1, 3), values[-3:]


def photo_place(rig: bpy.types.Object) -> np.ndarray | None:
    """Where the armature object stood at the import, in metres; None in older files.  # [4, 4]"""
    values = rig.get(PHOTO_PLACE)
    return None if values is None else np.array(values, np.float64).reshape(4, 4)


def read_shape(rig: bpy.types.Object) -> tuple[float, np.ndarray]:
    """Scale and betas of the avatar; 1 and no betas in older files."""
    scale, *betas = rig.get(SHAPE, (1.0,))
    return float(scale), np.array(betas, np.float32)


def _world_transforms(rig: bpy.types.Object, depsgraph: bpy.types.Depsgraph | None) -> np.ndarray:
    """Rest coordinates of the armature -> world in metres, one for each joint.  # [55, 4, 4]"""
    posed = _evaluated(rig, depsgraph)
    rest = np.array([bone.matrix_local for bone in _bones(rig, armature_data(rig).bones)])
    now = np.array([bone.matrix for bone in _bones(rig, posed.pose.bones)])
    return in_metres(rig, posed.matrix_world) @ now @ np.linalg.inv(rest)


def _evaluated(rig: bpy.types.Object, depsgraph: bpy.types.Depsgraph | None) -> bpy.types.Object:
    return rig.evaluated_get(depsgraph or bpy.context.evaluated_depsgraph_get())


def _bones(rig: bpy.types.Object, bones: bpy.types.bpy_prop_collection) -> list:
    """The 55 bones in SMPL-X order."""
    missing = [name for name in JOINT_NAMES if name not in bones]
    if missing:
        raise InputError(
            f"{rig.name} lacks the bone {missing[0]}; undo its renaming or removal, or import the "
            "crowd again."
        )
    return [bones[name] for name in JOINT_NAMES]


# All bones of rigs, controls too, over the frames in which they move

Matrices = dict[str, np.ndarray]  # evaluated pose matrices in the armature's space, [4, 4]
Recording = dict[int, dict[str, Matrices]]  # frame -> rig's name -> pose


def pose_matrices(rig: bpy.types.Object) -> Matrices:
    """All bones as evaluated now."""
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return {bone.name: np.array(bone.matrix) for bone in posed.pose.bones}


def motion_range(rig: bpy.types.Object) -> tuple[int, int] | None:
    """First and last frame that a rig's keys say anything about; None without keys."""
    data = rig.animation_data
    if data is None:
        return None
    ranges: list[tuple[float, float]] = []
    if data.action is not None:
        first, last = data.action.frame_range[:]
        ranges.append((first, last))
    tracks = (track for track in data.nla_tracks if not track.mute)
    ranges += [(s.frame_start, s.frame_end) for track in tracks for s in track.strips]
    if not ranges:
        return None
    return round(min(low for low, _ in ranges)), round(max(high for _, high in ranges))


def moving_frames(rigs: list[bpy.types.Object]) -> list[int]:
    """Every frame in which any of the rigs moves by keys."""
    ranges = [r for r in map(motion_range, rigs) if r is not None and r[1] > r[0]]
    if not ranges:
        return []
    return list(range(min(low for low, _ in ranges), max(high for _, high in ranges) + 1))


def record(
    scene: bpy.types.Scene, rigs: list[bpy.types.Object], frames: list[int]
) -> Iterator[tuple[int, Recording]]:
    """Play frames and note everybody's pose; yields after each frame, ends where it began."""
    start, noted = scene.frame_current, {}
    try:
        for frame in frames:
            scene.frame_set(frame)
            noted[frame] = {rig.name: pose_matrices(rig) for rig in rigs}
            yield frame, noted
    finally:
        if frames:
            scene.frame_set(start)
