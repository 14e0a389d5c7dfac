# SPDX-License-Identifier: GPL-3.0-or-later
"""People as clouds of Gaussians where they stand now: what the splat formats are written from.

The canonical Gaussians and the weights are read from the meshes once; each frame then poses them
by the reference skinning with the transforms of the evaluated bones, so the world transform of the
rig object, turned and stretched as it may be, reaches centres, covariances and colours exactly.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.formats.splat_ply import write_splat_ply
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.axes import BLENDER_FROM_SCENE, convert_gaussians, convert_points
from crowdgaussian_shared.geometry.skinning import (
    join_gaussians,
    skin_gaussians,
    transform_gaussians,
)

from ..attributes import mesh_data
from ..people import ROLE, Person, read_transforms, read_weights
from ..rig.armature import in_metres, rest_offset, unit_of
from ..splats.build import read_gaussians
from ..splats.recolour import read_materials

AxesChoice = Literal["opencv", "scene", "blender"]
_AXES_WORDS = {
    "opencv": "x right, y down, z forward (OpenCV, as 3DGS)",
    "scene": "x right, y up, z to the viewer",
    "blender": "x right, y away, z up (Blender)",
}


@dataclass(frozen=True)
class Cast:
    """What is exported: a person, a scattered copy of one, or splats without a rig."""

    name: str
    splats: bpy.types.Object
    rig: bpy.types.Object | None
    gaussians: Gaussians  # N canonical Gaussians, or those of the object without a rig
    skin_joints: np.ndarray | None  # [N, 4]
    skin_weights: np.ndarray | None  # [N, 4]
    labels: np.ndarray | None = None  # [N] uint8, what they show; None: nobody has told
    place: bpy.types.Object | None = None  # the scattered copy that instances rig and splats

    def posed(self) -> Gaussians:
        """N Gaussians in the scene frame, as the current frame shows them."""
        if self.rig is None:
            world = in_metres(self.splats, _world(self.splats))
            return transform_gaussians(self.gaussians, _in_scene_frame(world))
        transforms = self._placed() @ read_transforms(self.rig) @ self._own_move()
        return skin_gaussians(self.gaussians, self.skin_joints, self.skin_weights, transforms)

    def _placed(self) -> np.ndarray:
        """What the copy does to the actor it instances, in the scene frame.  # [4, 4]"""
        if self.place is None:
            return np.eye(4)
        start = np.eye(4)
        start[:3, 3] = -np.array(self.place.instance_collection.instance_offset)
        moved, unit = _world(self.place) @ start, unit_of(self.rig)
        moved[:3, 3] *= unit  # from metres to metres: what it does to lengths has no unit
        return _in_scene_frame(moved)

    def _own_move(self) -> np.ndarray:
        """Where the splat object was moved against its rig, in the canonical frame.  # [4, 4]"""
        splats = self.splats
        if splats.parent == self.rig:  # hidden splats have no evaluated place of their own
            local = np.array(splats.matrix_parent_inverse @ splats.matrix_basis, np.float64)
        else:
            local = np.linalg.inv(_world(self.rig)) @ _world(splats)
        offset = np.eye(4)
        offset[:3, 3] = rest_offset(self.rig)
        return _in_scene_frame(np.linalg.inv(offset) @ local @ offset)


def cast_person(person: Person) -> Cast:
    """Read a person's Gaussians and weights; posing them is quick then.

    Raises:
        InputError: the splats were deleted, or are no splats any more.
    """
    if person.splats is None:
        raise InputError(
            f"{person.name} has no splats any more; undo that or import the crowd again."
        )
    weights = read_weights(person.splats, vertices_per_row=4)
    materials = read_materials(mesh_data(person.splats))
    labels = materials.label if materials is not None else None
    gaussians = read_gaussians(person.splats)
    return Cast(person.name, person.splats, person.rig, gaussians, *weights, labels)


def centres_in_world(person: Person) -> np.ndarray:
    """Where a person's Gaussians are now, in the scene's units.  # [N, 3]

    Raises:
        InputError: the splats were deleted.
    """
    centres = convert_points(cast_person(person).posed().means, "scene", "blender")
    return centres / unit_of(person.rig)


def cast_copy(copy: bpy.types.Object, actors: dict[bpy.types.Collection, Cast]) -> Cast:
    """Read a scattered copy; each actor is read once.

    Args:
        copy: for which scatter.is_copy holds.
        actors: what was read already; the copy's actor is added.

    Raises:
        InputError: the actor has no splats any more.
    """
    actor = copy.instance_collection
    if actor not in actors:
        parts = {obj.get(ROLE): obj for obj in actor.objects}
        if "rig" not in parts or "splats" not in parts:
            raise InputError(f"{copy.name} has no splats any more; scatter copies again.")
        person = Person(actor, parts["rig"], parts["splats"], parts.get("body"), -1)
        actors[actor] = cast_person(person)
    return replace(actors[actor], name=copy.name, place=copy)


def cast_static(obj: bpy.types.Object) -> Cast:
    """Read splats without a rig.

    Raises:
        InputError: they are no splats any more.
    """
    return Cast(obj.name, obj, None, read_gaussians(obj), None, None)


def posed_together(casts: list[Cast]) -> Gaussians:
    """Everybody as one cloud, in the scene frame."""
    return join_gaussians([cast.posed() for cast in casts])


def labels_together(casts: list[Cast]) -> np.ndarray | None:
    """What everybody's Gaussians show, other where nobody has told; None if nobody has of any."""
    if all(cast.labels is None for cast in casts):
        return None
    unknown = (np.zeros(len(cast.gaussians), np.uint8) for cast in casts)
    return np.concatenate([c.labels if c.labels is not None else u for c, u in zip(casts, unknown)])


def write_ply(path: Path, casts: list[Cast], axes: AxesChoice) -> None:
    """Write everybody as they are posed now as one 3DGS PLY, in other axes.

    Raises:
        CrowdGaussianError: the file cannot be written; an older one is untouched.
    """
    comments = (f"CrowdGaussian, metres, {_AXES_WORDS[axes]}",)
    posed = convert_gaussians(posed_together(casts), "scene", axes)
    write_splat_ply(path, posed, comments, labels_together(casts))


def _world(obj: bpy.types.Object) -> np.ndarray:
    posed = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array(posed.matrix_world, np.float64)


def _in_scene_frame(matrix: np.ndarray) -> np.ndarray:
    """An affine map of Blender's axes as a map of the scene's.  # [4, 4] -> [4, 4]"""
    change = np.eye(4)
    change[:3, :3] = BLENDER_FROM_SCENE
    return change.T @ matrix @ change
