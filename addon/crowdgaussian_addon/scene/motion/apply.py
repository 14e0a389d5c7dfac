# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions on people: fitted to each, from where they stand and as they face, as actions."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

import bpy
import numpy as np
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.motion.fit import fit_motion
from crowdgaussian_shared.motion.kinematics import heading
from crowdgaussian_shared.motion.motion import Motion
from crowdgaussian_shared.motion.time import blend_poses, ease, in_place, move, repeat, resample

from ..people import Person
from ..render.settings import GROUND
from ..rig.read_pose import PHOTO_POSE, photo_place, photo_pose
from .keys import (
    MOTION,
    BoneValues,
    add_strip,
    assign_action,
    bone_poses,
    bone_values,
    build_action,
    has_motion,
    near_to,
    place_of,
    read_bones,
    require_free_bones,
    to_floor,
    wearer_of,
)
from .record import each_frame


@dataclass(frozen=True)
class MotionOptions:
    """How a motion is put on people."""

    root: Literal["PELVIS", "IN_PLACE"] = "PELVIS"
    start: Literal["PERSON", "FILE"] = "PERSON"  # where the person stands, or as in the file
    feet: bool = True
    floor: bool = True
    hands: bool = True  # off the trunk
    repeats: int = 1
    overlap: float = 0.25  # seconds over which the end of a repeat turns into the next
    first_frame: int = 1
    offset: int = 0  # frames from one person to the next
    spread: int = 0  # frames, at most, of a random delay
    seed: int = 0
    blend_in: int = 0  # frames from the photo's pose
    blend_out: int = 0  # frames back to it
    frame_range: bool = True  # set the scene's
    layer: bool = False  # over a motion that is there, as a strip; else instead of it
    strip_in: int = 12  # frames over which a strip comes in
    strip_out: int = 0  # and goes out; 0 holds its end


def scene_fps(scene: bpy.types.Scene) -> float:
    """Frames a second."""
    return scene.render.fps / scene.render.fps_base


def play_motion(
    scene: bpy.types.Scene, people: list[Person], motion: Motion, options: MotionOptions
) -> Generator[tuple[float, str], None, None]:
    """Put a motion on people, in steps; nothing is changed before the last one.

    Yields:
        The fraction done, and of whom the next step is.

    Raises:
        InputError: a rig lacks bones or follows IK controls.
    """
    for person in people:
        require_free_bones(person.rig, person.name)
    yield 0.0, "Preparing"
    bpy.context.view_layer.update()  # where rigs stand
    motion = resample(motion, scene_fps(scene))
    overlap = round(options.overlap * motion.fps)
    motion = repeat(motion, options.repeats, overlap)
    starts = _starts(len(people), options)
    layered = {p.rig for p in people if options.layer and has_motion(p.rig)}
    begun = _begun(scene, people, starts, layered)
    actions: list[bpy.types.Action] = []
    done = False
    try:
        for number, (person, first) in enumerate(zip(people, starts)):
            yield number / len(people), person.name
            action = _action_for(person, motion, options, first, begun.get(person.rig))
            action[MOTION] = motion.name
            actions.append(action)
        yield 1.0, "Finishing"
        done = True
    finally:
        if not done:
            for action in actions:
                bpy.data.actions.remove(action)
    for person, action, first in zip(people, actions, starts):
        if person.rig in layered:
            add_strip(person.rig, action, first, (options.strip_in, options.strip_out))
        else:
            assign_action(person.rig, action)
    if options.frame_range:
        ends = [first + motion.frames - 1 for first in starts]
        if layered:  # what lies below is still wanted
            starts, ends = [*starts, scene.frame_start], [*ends, scene.frame_end]
        scene.frame_start, scene.frame_end = min(starts), max(ends)
    scene.frame_set(scene.frame_current)


def _begun(
    scene: bpy.types.Scene,
    people: list[Person],
    starts: list[int],
    layered: set[bpy.types.Object],
) -> dict[bpy.types.Object, BoneValues]:
    """What the rigs under strips hold where these begin."""
    firsts = {p.rig: first for p, first in zip(people, starts) if p.rig in layered}
    held = {}
    for frame in each_frame(scene, sorted(set(firsts.values()))):
        for rig in (rig for rig, first in firsts.items() if first == frame):
            held[rig] = read_bones(rig)
    return held


def _starts(count: int, options: MotionOptions) -> list[int]:
    """The first frame of each person."""
    delays = np.random.default_rng(options.seed).integers(0, options.spread + 1, count)
    return [options.first_frame + k * options.offset + int(d) for k, d in enumerate(delays)]


def _action_for(
    person: Person,
    motion: Motion,
    options: MotionOptions,
    first: int,
    begun: BoneValues | None,
) -> bpy.types.Action:
    """The motion as this person's; it goes on from where what plays below is at its beginning."""
    rig = person.rig
    wearer = wearer_of(rig)
    fitted = fit_motion(motion, wearer, options.feet, options.floor, options.hands)
    place = place_of(rig) if options.start == "FILE" else None
    if place is None:
        fitted = to_floor(fitted, wearer.rest_joints)
    if options.root == "IN_PLACE":
        fitted = in_place(fitted)
    fitted = _with_photo_pose(person, fitted, options)
    if begun is not None and place is None:
        fitted = _from_there(rig, fitted, begun)
    values = bone_values(rig, fitted.poses, fitted.transl, place)
    if begun is not None:
        values = near_to(values, begun)
    return build_action(f"{person.name} {motion.name}", rig, values, first)


def _with_photo_pose(person: Person, motion: Motion, options: MotionOptions) -> Motion:
    """Begins in the photo's pose and ends in it, where that is wanted and known."""
    if person.rig.get(PHOTO_POSE) is None or not (options.blend_in or options.blend_out):
        return motion
    photo = standing_photo(person)
    poses, transl = motion.poses.copy(), motion.transl.copy()
    for count, end, order in ((options.blend_in, 0, 1), (options.blend_out, -1, -1)):
        count = min(count, motion.frames - 1)
        if count < 1:
            continue
        there = _moved_to(photo, motion.poses[end, 0], motion.transl[end])
        rows = np.arange(count) if order > 0 else motion.frames - 1 - np.arange(count)
        weight = ease(np.arange(count) / count)
        poses[rows] = blend_poses(there.poses, poses[rows], weight[:, None])
        transl[rows] += (1 - weight[:, None]) * (there.transl - transl[rows])
    return replace(motion, poses=poses, transl=transl)


def standing_photo(person: Person) -> Motion:
    """The photo's pose in the frame of the armature's floor, as one frame."""
    pose, transl = photo_pose(person.rig)
    floor = photo_floor(person)
    photo = Motion("photo", 1.0, pose[None], transl[None] - (0.0, floor, 0.0))
    return to_floor(photo, wearer_of(person.rig).rest_joints)


def photo_floor(person: Person) -> float:
    """The height of the floor in the photo's scene, in metres."""
    place = photo_place(person.rig)
    if place is not None:
        return float(place[2, 3])
    grounds = (obj for obj in bpy.context.scene.objects if obj.get(GROUND))
    ground = next(grounds, None)
    return float(ground.matrix_world.translation.z) if ground is not None else 0.0


def _from_there(rig: bpy.types.Object, motion: Motion, begun: BoneValues) -> Motion:
    """The motion from the spot and in the direction that the bones hold."""
    poses, transl = bone_poses(rig, begun)
    turns = axis_angle_to_matrix(np.stack([motion.poses[0, 0], poses[0, 0]]))
    own, wanted = heading(turns)
    turned = move(motion, float(wanted - own), np.zeros(3))
    return move(turned, 0.0, (transl[0] - turned.transl[0]) * (1, 0, 1))


def _moved_to(photo: Motion, root: np.ndarray, transl: np.ndarray) -> Motion:
    """Over a place on the floor, facing as somebody there does."""
    turns = axis_angle_to_matrix(np.stack([photo.poses[0, 0], root]))
    own, wanted = heading(turns)
    turned = move(photo, float(wanted - own), np.zeros(3))
    return move(turned, 0.0, (transl - turned.transl[0]) * (1, 0, 1))
