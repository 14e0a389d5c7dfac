# SPDX-License-Identifier: GPL-3.0-or-later
"""Three display levels of a person, in the viewport and in renders: body, reduced splats, splats.

A level is nothing but which of three objects is shown: the body mesh, the splats, or an object of a
quarter of the splats, which is made when it is first wanted and shared by copies of the person.
Objects that are not shown are not evaluated, so a scene of bodies plays as fast as one without
splats; and there is no second record of the level that could disagree with what is seen.
"""

from typing import Literal

import bpy
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Materials

from ..attributes import mesh_data
from ..people import ROLE, Person, read_weights, rig_of
from ..rig.armature import rest_offset
from ..splats.build import (
    build_mesh,
    copy_inputs,
    dress,
    follow,
    is_splats,
    splat_modifier,
    write_weights,
)
from ..splats.edit import reduce_gaussians
from ..splats.material import SH_PREFIX
from ..splats.read import read_gaussians
from ..splats.recolour import read_materials, write_materials

Level = Literal["BODY", "REDUCED", "FULL"]
Where = Literal["VIEWPORT", "RENDER"]

REDUCED = "splats_reduced"  # role of the object
_REDUCED_MESH = "crowdgaussian_reduced"  # property of a splat mesh: its reduced mesh
_SOURCE_COUNT = "crowdgaussian_reduced_from"  # property of a reduced mesh: faces of its source


def set_level(person: Person, level: Level, where: tuple[Where, ...]) -> None:
    """Show a person as body, reduced splats or splats.

    Args:
        person: from people.all_people.
        level: what to show.
        where: viewport, renders or both.

    Raises:
        InputError: what is to be shown was deleted; nothing is changed then.
    """
    reduced = make_reduced(person) if level == "REDUCED" else reduced_of(person)
    wanted = {"BODY": person.body, "REDUCED": reduced, "FULL": person.splats}[level]
    if wanted is None:
        what = "body mesh" if level == "BODY" else "splats"
        raise InputError(
            f"The {what} of {person.name} were deleted; undo that or import the crowd again."
        )
    for obj in (person.splats, reduced):
        if obj is not None:
            _show_splats(obj, obj == wanted, where)
    if person.body is not None:
        _show_body(person.body, level == "BODY", where)


def level_of(person: Person, where: Where) -> Level:
    """What a person shows now."""
    hidden = "hide_viewport" if where == "VIEWPORT" else "hide_render"
    if person.splats is not None and not getattr(person.splats, hidden):
        return "FULL"
    reduced = reduced_of(person)
    return "REDUCED" if reduced is not None and not getattr(reduced, hidden) else "BODY"


def splat_objects(person: Person) -> list[bpy.types.Object]:
    """The splats and the reduced splats, as far as they are there."""
    return [obj for obj in (person.splats, reduced_of(person)) if obj is not None]


def all_splats(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Every splat object of a scene, whoever's it is."""
    return [obj for obj in scene.objects if is_splats(obj)]


def reduced_of(person: Person) -> bpy.types.Object | None:
    """The object of the reduced splats, if it was made."""
    candidates = (*person.rig.children, *person.collection.objects)
    return next(
        (obj for obj in candidates if obj.get(ROLE) == REDUCED and rig_of(obj) == person.rig), None
    )


def make_reduced(person: Person) -> bpy.types.Object:
    """The reduced splats, made if need be; hidden when new.

    Raises:
        InputError: the splats were deleted.
    """
    present = reduced_of(person)
    if present is not None or person.splats is None:
        if present is None:
            raise InputError(
                f"The splats of {person.name} were deleted; undo that or import the crowd again."
            )
        if person.splats is not None and _is_stale(person):
            renew_reduced(person)
        return present
    mesh = _reduced_mesh(person)
    obj = bpy.data.objects.new(f"{person.splats.name} reduced", mesh)
    obj[ROLE] = REDUCED
    dress(obj, person.rig, _degree(mesh))
    obj.matrix_parent_inverse = person.splats.matrix_parent_inverse
    obj.matrix_basis = person.splats.matrix_basis
    copy_inputs(person.splats, obj)
    obj.hide_viewport = obj.hide_render = True
    for collection in person.splats.users_collection:
        collection.objects.link(obj)
    return obj


def _is_stale(person: Person) -> bool:
    """Whether splats were deleted since the reduced ones were made."""
    mesh = mesh_data(person.splats).get(_REDUCED_MESH)
    return mesh is None or mesh.get(_SOURCE_COUNT) != len(mesh_data(person.splats).polygons)


def renew_reduced(person: Person, edited: bool = False) -> None:
    """After the splats got another mesh: the reduced ones follow, where there are any.

    Args:
        person: from people.all_people.
        edited: the mesh is the old one with other values.
    """
    reduced = reduced_of(person)
    if edited and person.splats is not None:
        mesh_data(person.splats).pop(_REDUCED_MESH, None)
    if reduced is not None and person.splats is not None:
        reduced.data = _reduced_mesh(person)
        modifier = splat_modifier(reduced)
        modifier.node_group = splat_modifier(person.splats).node_group
        copy_inputs(person.splats, reduced)
        follow(reduced)


def _reduced_mesh(person: Person) -> bpy.types.Mesh:
    """The mesh of a quarter of the splats, shared by everybody who shares the whole mesh."""
    source = mesh_data(person.splats)
    mesh = source.get(_REDUCED_MESH)
    if mesh is not None and mesh.get(_SOURCE_COUNT) == len(source.polygons):
        return mesh
    kept, gaussians = reduce_gaussians(read_gaussians(person.splats))
    joints, weights = read_weights(person.splats, vertices_per_row=4)
    mesh = build_mesh(gaussians, rest_offset(person.rig), f"{source.name} reduced")
    materials = read_materials(source)
    if materials is not None:
        write_materials(mesh, Materials(materials.label[kept], materials.confidence[kept]))
    scratch = bpy.data.objects.new(mesh.name, mesh)
    write_weights(scratch, joints[kept], weights[kept])
    bpy.data.objects.remove(scratch)
    mesh[_SOURCE_COUNT] = len(source.polygons)
    source[_REDUCED_MESH] = mesh
    return mesh


def keep_reduced(person: Person) -> None:
    """A quarter of the splats, grown to cover the same, in place of all of them.

    Raises:
        InputError: the splats were deleted.
    """
    if person.splats is None:
        raise InputError(
            f"The splats of {person.name} were deleted; undo that or import the crowd again."
        )
    reduced, mesh = reduced_of(person), _reduced_mesh(person)
    name = person.splats.data.name
    person.splats.data = mesh
    mesh.name = name
    mesh.pop(_SOURCE_COUNT, None)
    follow(person.splats)
    if reduced is not None:
        level = "FULL" if not reduced.hide_viewport else None
        bpy.data.objects.remove(reduced)
        if level is not None:
            set_level(person, "FULL", ("VIEWPORT",))


def own_splats(person: Person, sharing: list[Person]) -> list[bpy.types.Mesh]:
    """A person's mesh and, where it was made, the reduced one, shared with some people at most.

    Copies of the person who are not among them keep the meshes as they are: these get new ones.
    """
    mesh = mesh_data(person.splats)
    mine = [other for other in sharing if other.splats is not None and other.splats.data == mesh]
    objects = {obj for other in mine for obj in splat_objects(other)}
    reduced = mesh.get(_REDUCED_MESH)
    parts = [part for part in (mesh, reduced) if part is not None]
    users = {obj for obj in bpy.data.objects if obj.data in parts}
    if users <= objects:
        return parts
    copies = [part.copy() for part in parts]
    for obj in objects & users:
        obj.data = copies[parts.index(obj.data)]
    if reduced is not None:
        copies[0][_REDUCED_MESH] = copies[1]
    return copies


def _degree(mesh: bpy.types.Mesh) -> int:
    bands = sum(attribute.name.startswith(SH_PREFIX) for attribute in mesh.attributes)
    return int((1 + bands) ** 0.5) - 1


def _show_splats(obj: bpy.types.Object, shown: bool, where: tuple[Where, ...]) -> None:
    if "VIEWPORT" in where:
        obj.hide_viewport = not shown
        if shown:
            _open_eye(obj, True)
    if "RENDER" in where:
        obj.hide_render = not shown


def _show_body(body: bpy.types.Object, shown: bool, where: tuple[Where, ...]) -> None:
    """A body that casts shadows for splats (body.cast_shadows) goes on doing so unseen."""
    if "VIEWPORT" in where:
        body.hide_viewport = False
        _open_eye(body, shown)
    if "RENDER" in where:
        casts = not body.visible_diffuse
        body.hide_render = not (shown or casts)
        body.visible_camera = shown or not casts


def _open_eye(obj: bpy.types.Object, shown: bool) -> None:
    """The eye in the outliner; objects outside the view layer have none."""
    if obj.name in bpy.context.view_layer.objects:
        obj.hide_set(not shown)
    else:
        obj.hide_viewport = not shown
