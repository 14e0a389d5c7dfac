# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the scene: people found by what they carry, never by their names.

A person is an armature with the rest offset that rig.build_rigs gives it. Their meshes are those
that it deforms. So renamed, moved and duplicated people are found, and files of older versions too.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, BodyParams
from crowdgaussian_shared.geometry.axes import convert_points
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from .attributes import mesh_data, read_positions
from .rig.armature import REST_OFFSET, rest_offset
from .rig.read_pose import PHOTO_POSE, read_rest_joints, read_shape
from .rig.read_pose import photo_pose as photo_pose
from .rig.read_pose import read_pose as read_pose
from .rig.read_pose import read_transforms as read_transforms
from .rig.read_pose import world_scale as world_scale
from .splats.read import read_splat_weights

PERSON = "crowdgaussian_person"  # property of a person's collection: index in scene.json
REFINED = "crowdgaussian_refined"  # property of a person's collection: their avatar is refined
NAMES = "crowdgaussian_names"  # of a person's collection: its name and the rig's, a line each
ROLE = "crowdgaussian_role"  # property of a person's objects
NATIVE = "native"  # role of Blender's own splats that follow a rig
CORNER = "splat_corner"  # the attribute that tells splats from bodies in files without roles

Role = Literal["rig", "splats", "body"]

NOBODY = "There are no people in this scene; reconstruct a photo first."


@dataclass(frozen=True)
class Person:
    """One person in Blender. Look them up again after an undo: it replaces the objects."""

    collection: bpy.types.Collection  # their own, or whichever the rig was moved to
    rig: bpy.types.Object
    splats: bpy.types.Object | None  # None when it was deleted
    body: bpy.types.Object | None
    index: int  # in scene.json; -1 when the rig left its person's collection

    @property
    def name(self) -> str:
        """What to call them: as their collection or their rig, whichever was renamed."""
        if self.index < 0:
            return self.rig.name
        noted = self.collection.get(NAMES)
        before = str(noted).split("\n") if noted else [self.collection.name, self.rig.name]
        renamed = self.collection.name == before[0] and self.rig.name != before[-1]
        return self.rig.name if renamed else self.collection.name

    @property
    def objects(self) -> list[bpy.types.Object]:
        """The rig and the meshes that are there."""
        return [obj for obj in (self.rig, self.splats, self.body) if obj is not None]


def is_rig(obj: bpy.types.Object | None) -> bool:
    """Whether an object is somebody's armature."""
    return obj is not None and obj.type == "ARMATURE" and obj.get(REST_OFFSET) is not None


def has_people(scene: bpy.types.Scene) -> bool:
    """Whether anybody is in the scene; cheap enough for poll()."""
    return any(is_rig(obj) for obj in scene.objects)


def all_people(scene: bpy.types.Scene) -> list[Person]:
    """Everybody who has a rig, in the order of scene.json."""
    meshes = _meshes_by_rig(scene.objects)
    owners = _owners(scene, meshes)
    people = [
        _person(obj, meshes.get(obj, ()), owners.get(obj)) for obj in scene.objects if is_rig(obj)
    ]
    return sorted(people, key=lambda person: (person.index < 0, person.index))


def rig_of(obj: bpy.types.Object | None) -> bpy.types.Object | None:
    """The armature that an object is, or is deformed by, if it is a person's."""
    if obj is None or is_rig(obj):
        return obj
    if obj.type != "MESH":
        return None
    rigs = (m.object for m in obj.modifiers if isinstance(m, bpy.types.ArmatureModifier))
    return next((rig for rig in rigs if is_rig(rig)), None)


def selected_people(context: bpy.types.Context) -> list[Person]:
    """People of whom any object is selected; nobody when nothing of them is."""
    rigs = {rig_of(obj) for obj in _selected(context)} - {None}
    return [p for p in all_people(context.scene) if p.rig in rigs] if rigs else []


def chosen_people(context: bpy.types.Context) -> list[Person]:
    """The selected people, or everybody when none is selected."""
    return selected_people(context) or all_people(context.scene)


def require_people(context: bpy.types.Context) -> list[Person]:
    """chosen_people for operators.

    Raises:
        InputError: there is nobody, or a selected person has lost their rig.
    """
    lost = people_without_rig(context.scene)
    selected = set(_selected(context))
    touched = [c for c in lost if selected & set(c.all_objects)]
    people = chosen_people(context)
    if touched or (lost and not people):
        name = (touched or lost)[0].name
        raise InputError(f"{name}'s rig was deleted; undo that or import the crowd again.")
    if not people:
        raise InputError(NOBODY)
    return people


def with_splats(people: list[Person]) -> list[Person]:
    """Those whose splats were not deleted."""
    return [person for person in people if person.splats is not None]


def people_without_rig(scene: bpy.types.Scene) -> list[bpy.types.Collection]:
    """Collections of people whose armature is gone while some of their objects are left."""
    homes = (c for c in _person_collections(scene) if len(c.all_objects))
    return [c for c in homes if not any(rig_of(obj) is not None for obj in c.all_objects)]


def set_role(obj: bpy.types.Object, role: Role) -> None:
    """Mark what an object is to its person."""
    obj[ROLE] = role


def note_names(collection: bpy.types.Collection, rig: bpy.types.Object) -> None:
    """Names as they are now; whichever is changed by hand renames the person."""
    collection[NAMES] = f"{collection.name}\n{rig.name}"


def read_avatar(person: Person) -> Avatar:
    """The canonical avatar, read back from the meshes: weights as painted, geometry as edited.

    Pose and transl are those of the photo where the rig holds them, else those of now.

    Raises:
        InputError: splats or body were deleted, or have lost what makes them such.
    """
    from .splats.build import read_gaussians
    from .splats.recolour import read_materials

    for obj, what in ((person.splats, "splats"), (person.body, "body mesh")):
        if obj is None:
            raise InputError(
                f"{person.name} has no {what} any more; undo that or import the crowd again."
            )
    skin_joints, skin_weights = read_weights(person.splats, vertices_per_row=4)
    pose, transl = (
        photo_pose(person.rig) if person.rig.get(PHOTO_POSE) is not None else read_pose(person.rig)
    )
    scale, betas = read_shape(person.rig)
    return Avatar(
        gaussians=read_gaussians(person.splats),
        skin_joints=skin_joints,
        skin_weights=skin_weights,
        rest_joints=read_rest_joints(person.rig).astype(np.float32),
        body=read_body(person),
        params=BodyParams(betas, pose.astype(np.float32), transl.astype(np.float32), scale),
        materials=read_materials(mesh_data(person.splats)),
    )


def read_body(person: Person) -> BodyMesh:
    """The body mesh in the canonical frame, with the weights that are painted on it now."""
    mesh = mesh_data(person.body)
    mesh.calc_loop_triangles()
    faces = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", faces)
    vertices = read_positions(mesh).astype(np.float64) - rest_offset(person.rig)
    return BodyMesh(
        convert_points(vertices, "blender", "scene").astype(np.float32),
        faces.reshape(-1, 3),
        *read_weights(person.body),
    )


def read_weights(obj: bpy.types.Object, vertices_per_row: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights on the 55 joints, made to sum to 1.

    Args:
        obj: splats or body.
        vertices_per_row: only the first of so many vertices is read.

    Returns:
        [N, 4] uint8 joints and [N, 4] float32 weights; a vertex without weights hangs on the
        pelvis.
    """
    stored = read_splat_weights(mesh_data(obj))
    joints, weights = stored if stored is not None else _grouped_weights(obj, vertices_per_row)
    totals = weights.sum(axis=1, keepdims=True)
    weights[totals[:, 0] <= 0, 0] = 1.0
    return joints, weights / np.where(totals > 0, totals, 1.0)


def _grouped_weights(obj: bpy.types.Object, vertices_per_row: int) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights in vertex groups, [N, 4] each; zeros where there are fewer."""
    joint_of = {g.index: JOINT_INDEX[g.name] for g in obj.vertex_groups if g.name in JOINT_INDEX}
    rows = range(0, len(mesh_data(obj).vertices), vertices_per_row)
    joints, weights = np.zeros((len(rows), 4), np.uint8), np.zeros((len(rows), 4), np.float32)
    vertices = mesh_data(obj).vertices
    for row, vertex in enumerate(rows):
        pairs = [(e.weight, e.group) for e in vertices[vertex].groups if e.group in joint_of]
        if len(pairs) > 4:
            pairs = sorted(pairs, reverse=True)[:4]
        for k, (weight, group) in enumerate(pairs):
            joints[row, k], weights[row, k] = joint_of[group], weight
    return joints, weights


def _selected(context: bpy.types.Context) -> Iterable[bpy.types.Object]:
    return getattr(context, "selected_objects", None) or ()


def _person_collections(scene: bpy.types.Scene) -> Iterator[bpy.types.Collection]:
    return (c for c in scene.collection.children_recursive if c.get(PERSON) is not None)


def _owners(
    scene: bpy.types.Scene, meshes: dict[bpy.types.Object, list[bpy.types.Object]]
) -> dict[bpy.types.Object, bpy.types.Collection]:
    """The person's collection of each rig that has one; of several rigs in one, the first's.

    The others were duplicated by hand. The first has the name that was noted, or has splats.
    """
    owners = {}
    for collection in _person_collections(scene):
        rigs = [obj for obj in collection.all_objects if is_rig(obj)]
        noted = str(collection.get(NAMES, "")).split("\n")[-1]
        if rigs:
            owners[min(rigs, key=lambda rig: (rig.name != noted, rig not in meshes))] = collection
    return owners


def _meshes_by_rig(
    objects: Iterable[bpy.types.Object],
) -> dict[bpy.types.Object, list[bpy.types.Object]]:
    found: dict[bpy.types.Object, list[bpy.types.Object]] = {}
    for obj in objects:
        rig = rig_of(obj) if obj.type == "MESH" else None
        if rig is not None:
            found.setdefault(rig, []).append(obj)
    return found


def _person(
    rig: bpy.types.Object,
    meshes: Iterable[bpy.types.Object],
    owner: bpy.types.Collection | None,
) -> Person:
    roles: dict[str, bpy.types.Object] = {}
    for mesh in meshes:
        roles.setdefault(_role(mesh), mesh)
    collection = owner or rig.users_collection[0]
    index = int(owner[PERSON]) if owner is not None else -1
    return Person(collection, rig, roles.get("splats"), roles.get("body"), index)


def _role(mesh: bpy.types.Object) -> str:
    return mesh.get(ROLE) or ("splats" if CORNER in mesh_data(mesh).attributes else "body")
