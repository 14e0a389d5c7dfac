# SPDX-License-Identifier: GPL-3.0-or-later
"""People as things: duplicated, deleted, renamed, hidden, and mended after work in the outliner.

What Blender's own tools do to a rig is no accident of a person: Shift-D on it leaves a stray, a rig
in somebody else's collection, and X leaves splats without a rig, which stand at the origin. Both
are found here, and made whole or taken away.
"""

from collections.abc import Iterator

import bpy
from mathutils import Matrix, Vector

from .attributes import armature_data, mesh_data
from .layout.instances import deformed_copy, follow_own_controls
from .people import (
    NATIVE,
    PERSON,
    ROLE,
    Person,
    all_people,
    is_rig,
    note_names,
    people_without_rig,
    rig_of,
)
from .render.display import level_of, own_splats, reduced_of, set_level


def duplicate_person(
    scene: bpy.types.Scene, person: Person, offset: Vector, share: bool = False
) -> Person:
    """Another person of the same looks and pose, with data and action of their own.

    Args:
        scene: gets their collection.
        person: to copy, left as they are.
        offset: in the scene's units, from where the person stands.
        share: the splats' mesh stays that of the person, which saves memory and file size.
    """
    rig = person.rig.copy()
    rig.data = armature_data(person.rig).copy()
    follow_own_controls(rig, person.rig)
    _own_action(rig)
    rig.matrix_world = Matrix.Translation(offset) @ person.rig.matrix_world
    return _house(scene, rig, person, [], share)


def settle_stray(scene: bpy.types.Scene, rig: bpy.types.Object) -> Person | None:
    """A rig that was duplicated by hand becomes a person, with what it lacks from whom it copies.

    Returns:
        The person; None where whom it copies is gone.
    """
    home = _home(scene, rig)
    original = next((p for p in all_people(scene) if p.collection == home and p.index >= 0), None)
    if original is None:
        return None
    follow_own_controls(rig, original.rig)
    if rig.data == original.rig.data:
        rig.data = armature_data(rig).copy()
    if rig.animation_data is not None and original.rig.animation_data is not None:
        if rig.animation_data.action == original.rig.animation_data.action:
            _own_action(rig)
    return _house(scene, rig, original, _parts(rig), share=False)


def delete_person(person: Person) -> None:
    """Remove somebody for good: rig, meshes, collection; what hung on the rig stays in place."""
    parts = _parts(person.rig)
    for child in person.rig.children:
        if child not in parts:
            place = child.matrix_world.copy()
            child.parent = None
            child.matrix_world = place
    _remove([person.rig, *parts], person.collection)


def delete_rest(collection: bpy.types.Collection) -> None:
    """Remove what is left of somebody whose rig is gone, and nothing that the artist put there."""
    _remove([obj for obj in collection.objects if obj.get(ROLE) is not None], collection)


def rename_person(person: Person, name: str) -> None:
    """Collection, rig and meshes get a name; Blender appends a number where it is taken."""
    if person.collection.get(PERSON) is not None:
        person.collection.name = name
        name = person.collection.name
    person.rig.name = armature_data(person.rig).name = name
    for part in _parts(person.rig):
        part.name = mesh_data(part).name = f"{name} {part.get(ROLE, 'mesh')}"
    note_names(person.collection, person.rig)


def set_shown(person: Person, shown: bool) -> None:
    """Show or hide somebody in viewports and renders alike, whatever hid them.

    The display level is kept: that of the viewport decides which mesh is shown again.
    """
    person.collection.hide_viewport = person.collection.hide_render = not shown
    if not shown:
        return
    bpy.context.view_layer.update()  # the eyes below belong to objects that are there again
    person.rig.hide_viewport = False
    if person.rig.name in bpy.context.view_layer.objects:
        person.rig.hide_set(False)
    if person.splats is not None:
        set_level(person, level_of(person, "VIEWPORT"), ("VIEWPORT",))


def is_shown(person: Person) -> bool:
    """Whether anything of somebody but the rig is seen in the viewport."""
    return any(part.visible_get() for part in _parts(person.rig))


def shown_people(scene: bpy.types.Scene, people: list[Person]) -> list[Person]:
    """Those whom both the viewport and a render show.

    Somebody whose splats were deleted is not hidden, so that whoever needs them says so.
    """
    rendered = set(_rendered(scene.collection))

    def seen(person: Person) -> bool:
        parts = [part for part in _parts(person.rig) if not part.hide_render]
        return is_shown(person) and not rendered.isdisjoint(parts)

    return [p for p in people if seen(p) or (p.splats is None and p.index >= 0)]


def strays(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Rigs that stand in the collection of somebody else, as Shift-D leaves them."""
    owned = {person.rig for person in all_people(scene) if person.index >= 0}
    return [obj for obj in scene.objects if is_rig(obj) and obj not in owned and _home(scene, obj)]


def broken_people(scene: bpy.types.Scene) -> bool:
    """Whether there is anything to mend."""
    return bool(people_without_rig(scene) or strays(scene))


def _home(scene: bpy.types.Scene, rig: bpy.types.Object) -> bpy.types.Collection | None:
    """The person's collection that a rig is in."""
    return next((c for c in rig.users_collection if c.get(PERSON) is not None), None)


def _parts(rig: bpy.types.Object) -> list[bpy.types.Object]:
    """The meshes of a person that follow their rig: splats, reduced splats, body."""
    candidates = {*rig.children, *(obj for c in rig.users_collection for obj in c.objects)}
    found = [
        obj
        for obj in candidates
        if (obj.get(ROLE) not in (None, "rig") and rig_of(obj) == rig)
        or (obj.get(ROLE) == NATIVE and obj.parent == rig)
    ]
    return sorted(found, key=lambda obj: obj.name)


def _house(
    scene: bpy.types.Scene,
    rig: bpy.types.Object,
    original: Person,
    present: list[bpy.types.Object],
    share: bool,
) -> Person:
    """A collection for a rig and its meshes; those that are not there are copied.

    It is linked beside the crowd, which holds one of each number.
    """
    collection = bpy.data.collections.new(original.name)
    collection[PERSON] = int(original.collection.get(PERSON, -1))
    scene.collection.children.link(collection)
    roles = {part[ROLE] for part in present}
    wanted = (original.splats, reduced_of(original), original.body)
    new = [
        deformed_copy(obj, original.rig, rig)
        for obj in wanted
        if obj is not None and obj.get(ROLE) not in roles
    ]
    for obj in (rig, *present, *new):
        for other in obj.users_collection:
            other.objects.unlink(obj)
        collection.objects.link(obj)
    note_names(collection, rig)
    person = next(p for p in all_people(scene) if p.rig == rig)
    if not share and person.splats is not None:
        own_splats(person, [person])
    if person.body is not None:
        person.body.data = mesh_data(person.body).copy()
        bodies = original.body, person.body
        if bodies[0] is not None and bodies[0].name in bpy.context.view_layer.objects:
            bodies[1].hide_set(bodies[0].hide_get())
    rename_person(person, collection.name)
    return person


def _own_action(rig: bpy.types.Object) -> None:
    data = rig.animation_data
    if data is not None and data.action is not None:
        slot = data.action_slot.identifier if data.action_slot is not None else ""
        data.action = data.action.copy()
        data.action_slot = data.action.slots.get(slot)


def _remove(objects: list[bpy.types.Object], collection: bpy.types.Collection) -> None:
    data = {obj.data for obj in objects}
    bpy.data.batch_remove(objects)
    for _ in range(2):  # a splat mesh holds its reduced one
        loose = {block for block in data if block is not None and not block.users}
        data -= loose
        bpy.data.batch_remove([*loose])
    if collection.get(PERSON) is not None and not (collection.all_objects or collection.children):
        bpy.data.collections.remove(collection)


def _rendered(collection: bpy.types.Collection) -> Iterator[bpy.types.Object]:
    """Objects in collections that renders take in."""
    if not collection.hide_render:
        yield from collection.objects
        for child in collection.children:
            yield from _rendered(child)
