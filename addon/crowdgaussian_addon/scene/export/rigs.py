# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs with their bodies as FBX and glTF, by Blender's own exporters, from a scene of their own.

The user's objects are never touched: copies stand in a scene that is gone afterwards. Copies have
no constraints, drivers or controls: what the evaluated bones do is baked into plain keys, so that
IK and other helpers arrive as what they show.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError, ResourceError, disk_error
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, PARENTS, joint_names
from mathutils import Matrix

from ..attributes import armature_data
from ..context import shown
from ..motion.record import poses_kept
from ..people import Person
from ..rig.armature import edit_aside

FORMATS = {"FBX": ".fbx", "GLB": ".glb"}


@dataclass
class Take:
    """What one rig does: the world of the object and the basis of each bone, frame by frame."""

    person: Person
    worlds: list[Matrix] = field(default_factory=list)
    bases: list[np.ndarray] = field(default_factory=list)  # of [55, 4, 4]

    def record(self) -> None:
        """Adds the current frame.

        Raises:
            InputError: the rig lacks one of the 55 bones.
        """
        rig = self.person.rig
        posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        missing = [name for name in JOINT_NAMES if name not in posed.pose.bones]
        if missing:
            raise InputError(
                f"The bone {missing[0]} of {self.person.name} was deleted or renamed; undo that or "
                "import the crowd again."
            )
        self.worlds.append(posed.matrix_world.copy())
        now = np.array([posed.pose.bones[name].matrix for name in JOINT_NAMES])
        rest = np.array([armature_data(rig).bones[name].matrix_local for name in JOINT_NAMES])
        self.bases.append(_bases(now, rest))


def _bases(now: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Pose matrices in armature space -> what a bone adds to its rest below its parent."""
    bases = np.empty_like(now)
    for joint, parent in enumerate(PARENTS):
        still = rest[joint]
        if parent >= 0:
            still = now[parent] @ np.linalg.inv(rest[parent]) @ rest[joint]
        bases[joint] = np.linalg.inv(still) @ now[joint]
    return bases


def write_rigs(
    path: Path, kind: str, takes: list[Take], frames: list[int], convention: str = "smplx"
) -> None:
    """Write rigs and bodies, whole or not at all.

    Args:
        path: the file.
        kind: of FORMATS.
        takes: what each person does at `frames`; one frame makes a pose without animation.
        frames: increasing.
        convention: of skeleton.CONVENTIONS, what bones are called in the file.

    Raises:
        CrowdGaussianError: Blender's exporter is switched off or failed, or the file cannot be
            written.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()  # the exporters' own complaints about folders are long
        with poses_kept(bpy.context.scene), _stage(takes, frames, joint_names(convention)):
            _call_exporter(part, kind, animated=len(frames) > 1)
        os.replace(part, path)
    except OSError as error:
        raise disk_error(
            error,
            f"{path} cannot be written ({error.strerror or error}); free some space or choose "
            "another folder.",
        ) from error
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason"])[-1].rstrip(".")
        raise ResourceError(f"{path} was not written: {reason}; try another folder.") from error
    finally:
        part.unlink(missing_ok=True)


def _call_exporter(path: Path, kind: str, animated: bool) -> None:
    name = "fbx" if kind == "FBX" else "gltf"
    if name not in dir(bpy.ops.export_scene):
        raise RuntimeError(f"enable the add-on for {kind} in Preferences > Add-ons")
    if kind == "FBX":
        bpy.ops.export_scene.fbx(
            filepath=str(path), check_existing=False, object_types={"ARMATURE", "MESH"},
            use_armature_deform_only=True, add_leaf_bones=False, bake_anim=animated,
            bake_anim_use_nla_strips=False, bake_anim_use_all_actions=False,
            bake_anim_simplify_factor=0.0, mesh_smooth_type="FACE",
        )  # fmt: skip
        return
    bpy.ops.export_scene.gltf(
        filepath=str(path), check_existing=False, export_format="GLB", export_animations=animated,
        export_animation_mode="ACTIVE_ACTIONS", export_def_bones=True, export_force_sampling=True,
        export_optimize_animation_size=False, export_current_frame=False, export_skins=True,
        export_rest_position_armature=False, use_active_scene=True, export_lights=False,
        export_cameras=False, export_yup=True,
    )  # fmt: skip


@contextmanager
def _stage(takes: list[Take], frames: list[int], called: tuple[str, ...]) -> Iterator[None]:
    """A scene with copies of rigs and bodies, shown in the window while the block runs."""
    theirs = bpy.context.scene
    scene = bpy.data.scenes.new("Export")
    made: list[bpy.types.ID] = []
    names: list[tuple[bpy.types.ID, str]] = []
    try:
        scene.render.fps, scene.render.fps_base = theirs.render.fps, theirs.render.fps_base
        scene.frame_start, scene.frame_end = frames[0], frames[-1]
        scene.frame_set(frames[0])
        for take in takes:
            rig = _place_copies(scene, take, made, names)
            _name_bones(rig, called)
            _play(rig, take, frames, called, made)
        with shown(scene):
            yield
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.batch_remove(made)
        for obj, name in names:
            obj.name = name


def _place_copies(
    scene: bpy.types.Scene,
    take: Take,
    made: list[bpy.types.ID],
    names: list[tuple[bpy.types.ID, str]],
) -> bpy.types.Object:
    """Copies under the names of the originals, which step aside until the export is through."""
    person, copies = take.person, {}
    for obj in (person.rig, person.body):
        if obj is None:
            continue
        copy = obj.copy()
        copy.data = obj.data.copy()
        for theirs, mine in ((obj, copy), (obj.data, copy.data)):
            made.append(mine)
            names.append((theirs, theirs.name))
            mine.name, theirs.name = theirs.name, f"{theirs.name} original"
            mine.name = names[-1][1]
        copy.animation_data_clear()
        copy.hide_viewport = copy.hide_render = False
        scene.collection.objects.link(copy)
        copies[obj] = copy
    rig = copies[person.rig]
    if person.body is not None:
        body = copies[person.body]
        body.parent = rig
        for modifier in body.modifiers:
            if isinstance(modifier, bpy.types.ArmatureModifier):
                modifier.object = rig
    _free(rig)
    return rig


def _free(rig: bpy.types.Object) -> None:
    """Nothing but its own keys moves the copy."""
    rig.parent = None
    for owner in (rig, *rig.pose.bones):
        for constraint in list(owner.constraints):
            owner.constraints.remove(constraint)
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
    rig.rotation_mode = "QUATERNION"
    for name in ("delta_location", "delta_rotation_euler"):
        setattr(rig, name, (0.0, 0.0, 0.0))
    rig.delta_rotation_quaternion = (1.0, 0.0, 0.0, 0.0)
    rig.delta_scale = (1.0, 1.0, 1.0)


def _name_bones(rig: bpy.types.Object, called: tuple[str, ...]) -> None:
    """The 55 bones by other names, in the body's groups too; controls are not handed on."""

    def rename(bones: bpy.types.ArmatureEditBones) -> None:
        for bone in [bone for bone in bones if bone.name not in JOINT_NAMES]:
            bones.remove(bone)
        for joint, name in zip(JOINT_NAMES, called):
            bones[joint].name = name

    if called != JOINT_NAMES or len(rig.pose.bones) > len(JOINT_NAMES):
        edit_aside([rig], [rename])  # renames the groups of bound meshes


def _play(
    rig: bpy.types.Object,
    take: Take,
    frames: list[int],
    called: tuple[str, ...],
    made: list[bpy.types.ID],
) -> None:
    """The take as a pose, or as keys in an action of its own."""
    owners: list[bpy.types.Object | bpy.types.PoseBone] = [rig]
    owners += [rig.pose.bones[name] for name in called]
    last: list = [None] * len(owners)
    for number, frame in enumerate(frames):
        matrices = [take.worlds[number], *(Matrix(b.tolist()) for b in take.bases[number])]
        for k, (owner, matrix) in enumerate(zip(owners, matrices)):
            location, rotation, scale = matrix.decompose()
            if last[k] is not None:
                rotation.make_compatible(last[k])  # the short way between two keys
            last[k] = rotation
            owner.location, owner.rotation_quaternion, owner.scale = location, rotation, scale
            if len(frames) > 1:
                for channel in ("location", "rotation_quaternion", "scale"):
                    owner.keyframe_insert(channel, frame=frame)
    if len(frames) > 1:
        action = rig.animation_data.action
        action.name = f"{take.person.name} motion"
        made.append(action)
