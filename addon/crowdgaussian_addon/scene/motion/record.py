# SPDX-License-Identifier: GPL-3.0-or-later
"""The motion of another armature, as it moves now: keys, constraints, drivers and all."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.rotations import polar_rotation
from crowdgaussian_shared.geometry.skeleton import find_joints
from crowdgaussian_shared.motion.motion import Motion, check_frames
from crowdgaussian_shared.motion.retarget import Source

from ..attributes import armature_data
from ..context import shown
from ..people import Person, read_pose, rig_of
from ..rig.read_pose import read_rest_joints, read_shape
from ..splats.build import is_splats

IMPORTED = (".fbx", ".glb", ".gltf")  # endings of files that Blender's own importers read


def record_rig(
    rig: bpy.types.Object,
    fps: float,
    frames: range | None = None,
    called: Mapping[str, str] | None = None,
) -> Generator[float | Source, None, None]:
    """Walk through an armature's action and take down where its bones go.

    The armature is looked at in a scene of its own, so that nothing else is evaluated and the
    artist's scene stays where it is.

    Args:
        rig: any armature with an action.
        fps: of the scene.
        frames: None takes the action's.
        called: what some of the 55 joints are called there, see find_joints.

    Yields:
        The fraction done, and at the end the Source.

    Raises:
        InputError: no action, or no frames.
    """
    data = rig.animation_data
    if frames is None:
        if data is None or data.action is None:
            raise InputError(f"{rig.name} has no action; choose a rig that moves.")
        first, last = data.action.frame_range[:]
        frames = range(int(np.floor(first)), int(np.ceil(last)) + 1)
    check_frames(len(frames), rig.name)
    bones = ordered_bones(rig)
    names = [bone.name for bone in bones]
    parents = [names.index(bone.parent.name) if bone.parent else -1 for bone in bones]
    matrices = np.empty((len(frames), len(bones), 4, 4))
    stage = bpy.data.scenes.new("Motion of another rig")
    try:
        stage.collection.objects.link(rig)
        for row, frame in enumerate(frames):
            stage.frame_set(frame)
            posed = rig.evaluated_get(stage.view_layers[0].depsgraph)
            world = np.array(posed.matrix_world)
            matrices[row] = world @ np.array([posed.pose.bones[name].matrix for name in names])
            yield (row + 1) / len(frames)
    finally:
        bpy.data.scenes.remove(stage)
    yield _source(rig, bones, names, parents, matrices, fps, called or {})


def record_file(
    path: Path, called: Mapping[str, str] | None = None
) -> Generator[float | Source, None, None]:
    """The motion in an FBX or glTF, by Blender's own importer; nothing of it stays in the file.

    Args:
        path: its ending is one of IMPORTED.
        called: as for record_rig.

    Yields:
        As record_rig.

    Raises:
        InputError: it cannot be read, or holds no armature that moves.
    """
    before = set(bpy.data.user_map())
    try:
        fps = _import(path)
        rigs = [obj for obj in set(bpy.data.objects) - before if _gives_action(obj)]
        if not rigs:
            raise InputError(f"{path.name} holds no armature that moves; choose another file.")
        largest = max(rigs, key=lambda rig: len(rig.pose.bones))
        for news in record_rig(largest, fps, called=called):
            yield replace(news, name=path.stem) if isinstance(news, Source) else news
    finally:
        bpy.data.batch_remove(set(bpy.data.user_map()) - before)


def _import(path: Path) -> float:
    """Bring a file's objects in, unseen -> the frames a second that its keys are in."""
    name = "fbx" if path.suffix.lower() == ".fbx" else "gltf"
    if name not in dir(bpy.ops.import_scene):
        raise InputError(f"Enable the add-on for {name} in Preferences > Add-ons, then try again.")
    scene = bpy.data.scenes.new("CrowdGaussian Aside")
    with shown(scene):
        try:
            if name == "fbx":
                bpy.ops.import_scene.fbx(filepath=str(path))
            else:  # bone shapes want a window's context
                bpy.ops.import_scene.gltf(filepath=str(path), disable_bone_shape=True)
        except (RuntimeError, OSError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
            raise InputError(f"{path} cannot be read: {reason}") from error
        return scene.render.fps / scene.render.fps_base


def _gives_action(obj: bpy.types.Object) -> bool:
    """Whether an object is an armature that moves; its first strip becomes its action."""
    data = obj.animation_data
    if obj.type != "ARMATURE" or data is None:
        return False
    strips = [strip for track in data.nla_tracks for strip in track.strips if strip.action]
    if data.action is None and strips:
        data.action = strips[0].action
        if data.action_slot is None:
            data.action_slot = strips[0].action_slot
    return data.action is not None


def ordered_bones(rig: bpy.types.Object) -> list[bpy.types.Bone]:
    """Parents before children."""
    ordered = [bone for bone in armature_data(rig).bones if bone.parent is None]
    for bone in ordered:  # grows while it is walked through
        ordered.extend(bone.children)
    return ordered


def _source(rig, bones, names, parents, matrices, fps, called) -> Source:
    rest = np.array([bone.matrix_local for bone in bones])
    turns = polar_rotation(matrices[..., :3, :3]) @ rest[:, :3, :3].swapaxes(1, 2)
    size = float(np.cbrt(abs(np.linalg.det(np.array(rig.matrix_world)[:3, :3]))))
    pelvis = find_joints(names, parents, called).get(0, 0)
    tips = {k: size * np.array(bone.tail_local) for k, bone in enumerate(bones)
            if not bone.children}  # fmt: skip
    return Source(rig.name, names, parents, size * rest[:, :3, 3], turns,
                  matrices[:, pelvis, :3, 3], fps, tips, None, "z", called)  # fmt: skip


# What people do, frame by frame, as a motion of the 55 joints for the writers of shared/


@dataclass
class Recording:
    """One person's poses, recorded while the frames pass."""

    person: Person
    poses: list[np.ndarray] = field(default_factory=list)  # of [55, 3]
    places: list[np.ndarray] = field(default_factory=list)  # of [3]

    def record(self) -> None:
        """Adds the current frame.

        Raises:
            InputError: the rig lacks one of the 55 bones.
        """
        pose, transl = read_pose(self.person.rig)
        self.poses.append(pose)
        self.places.append(transl)

    @property
    def rest_joints(self) -> np.ndarray:
        """[55, 3] metres: whose skeleton moved."""
        return read_rest_joints(self.person.rig)

    def motion(self, fps: float) -> Motion:
        """What was recorded, in the scene frame."""
        _, betas = read_shape(self.person.rig)
        return Motion(
            self.person.name, fps, np.stack(self.poses), np.stack(self.places),
            betas=betas if len(betas) else None,
        )  # fmt: skip


# Walking through frames and coming back to where the user was

_SAME = 1e-6


def each_frame(scene: bpy.types.Scene, frames: Sequence[int]) -> Generator[int, None, None]:
    """Go to each frame in turn; afterwards, also when stopped early, the scene is where it was.

    A single frame that is the current one is not entered again, so that a pose without keys stays.
    Splats are hidden on the way: what is recorded is read from the rigs, and splats would take nine
    tenths of the time (benchmarks/blender_frames.py).
    """
    current, subframe = scene.frame_current, scene.frame_subframe
    if list(frames) == [current]:
        yield current
        return
    with poses_kept(scene), splats_hidden(scene):
        try:
            for frame in frames:
                scene.frame_set(frame)
                yield frame
        finally:
            scene.frame_set(current, subframe=subframe)


@contextmanager
def splats_hidden(scene: bpy.types.Scene) -> Iterator[None]:
    """No splats on rigs in viewports, so that nobody evaluates them; their place is the rig's."""
    shown = [
        obj
        for obj in scene.objects
        if is_splats(obj) and rig_of(obj) is not None and not obj.hide_viewport
    ]
    for obj in shown:
        obj.hide_viewport = True
    try:
        yield
    finally:
        for obj in shown:
            obj.hide_viewport = False


@contextmanager
def poses_kept(scene: bpy.types.Scene) -> Iterator[None]:
    """What the user moved without setting keys would jump back to its keys; here it does not."""
    owners = [
        owner
        for obj in scene.objects
        for owner in (obj, *(obj.pose.bones if obj.type == "ARMATURE" else ()))
    ]
    before = [owner.matrix_basis.copy() for owner in owners]
    try:
        yield
    finally:
        bpy.context.view_layer.update()
        for owner, matrix in zip(owners, before):
            if np.abs(np.array(owner.matrix_basis) - np.array(matrix)).max() > _SAME:
                owner.matrix_basis = matrix
        bpy.context.view_layer.update()
