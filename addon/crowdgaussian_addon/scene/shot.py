# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot that people come into: a new one that looks like the photo, or the artist's own.

A new shot gets the photo's camera, its size, and the render settings that splats need. An artist's
own shot is left as it is, whatever it is: needs_of says what splats still need there, and mend does
one of these things when it is asked for.
"""

from dataclasses import dataclass
from typing import Literal

import bpy
from crowdgaussian_shared.geometry.camera import Camera
from mathutils import Vector

from .attributes import mesh_data
from .render.camera import set_resolution
from .render.display import all_splats
from .render.settings import (
    GROUND,
    allow_transparency,
    engine_of,
    has_transparency,
    prepare_render,
    set_render_mode,
    use_engine,
)
from .render.viewport import open_eyes
from .rig.body import casts_shadow
from .splats.build import get_inputs, is_splats, set_depth_sort, splat_modifier
from .splats.material import VERSION_KEY, is_scene_linear, set_scene_linear
from .splats.nodes.project import INPUT_DEPTH_SORT
from .splats.upgrade import outdated_splats, upgrade_splats

Shot = Literal["AUTO", "NEW", "ADD"]
NeedKind = Literal[
    "ENGINE", "BOUNCES", "SORTING", "COLOURS", "TONES", "CAMERA", "GROUND", "VERSION"
]  # fmt: skip
NEEDS = (
    ("ENGINE", "Engine", "Render with Cycles"),
    ("BOUNCES", "Transparent Bounces", "As many as a ray to a person crosses splats"),
    ("SORTING", "Depth Sorting", "Sort splats from far to near for EEVEE"),
    ("COLOURS", "Colours", "Splats mean what the view transform shows as in the photo"),
    ("TONES", "View Transform", "Standard for the whole shot"),
    ("CAMERA", "Camera", "The scene gets one of its cameras"),
    ("GROUND", "Ground", "Render the ground that catches the shadows of bodies"),
    ("VERSION", "Version", "Splats get this version's nodes and materials"),
)

_STARTUP = {  # Blender's own startup file: types and places, metres
    "Cube": ("MESH", (0.0, 0.0, 0.0)),
    "Light": ("LIGHT", (4.0762, 1.0055, 5.9039)),
    "Camera": ("CAMERA", (7.3589, -6.9258, 4.9583)),
}
_CUBE = 8  # vertices; a cube that somebody adds has no material, that of the startup file has
_MOVED = 1e-3  # metres


def holds_work(scene: bpy.types.Scene) -> bool:
    """Whether anything is in a scene but what Blender's startup file has."""
    return any(not _is_startup(obj) for obj in scene.objects)


def is_new_shot(scene: bpy.types.Scene, shot: Shot) -> bool:
    """Whether a crowd sets the scene up; by itself only where there is nothing to disturb."""
    return shot == "NEW" or (shot == "AUTO" and not holds_work(scene))


def set_up_shot(scene: bpy.types.Scene, camera: bpy.types.Object, photo: Camera) -> None:
    """Make the scene render like the photo; the startup file's cube steps out of the picture.

    Args:
        scene: the scene.
        camera: the photo's camera in Blender.
        photo: the same, for its size.
    """
    scene.camera = camera
    set_resolution(scene, photo)
    prepare_render(scene)
    set_render_mode(scene, "photo")
    for obj in scene.objects:
        if obj.type == "MESH" and _is_startup(obj):
            obj.hide_viewport = obj.hide_render = True


def fit_into_shot(scene: bpy.types.Scene) -> None:
    """Before the first splats of a file: they mean what its view transform shows as the photo."""
    if not any(is_splats(obj) for obj in bpy.data.objects):
        set_scene_linear(scene.view_settings.view_transform != "Raw")


def _is_startup(obj: bpy.types.Object) -> bool:
    kind, place = _STARTUP.get(obj.name, ("", (0.0, 0.0, 0.0)))
    if kind != obj.type or (obj.location - Vector(place)).length > _MOVED:
        return False
    if obj.type != "MESH":
        return True
    whole = len(mesh_data(obj).vertices) == _CUBE and len(mesh_data(obj).materials) == 1
    return whole and not obj.modifiers


# What a scene still needs to show splats right


@dataclass(frozen=True)
class Need:
    """One thing that is not as splats need it."""

    kind: NeedKind
    sentence: str  # what is wrong, and what it looks like
    button: str  # what mends it; empty where only the library's own file can be changed


def needs_of(scene: bpy.types.Scene) -> list[Need]:
    """What to mend, the worst first; nothing in a scene without splats."""
    splats = all_splats(scene)
    if not splats:
        return []
    looked = (_engine(scene, splats), _colours(scene, splats), _camera(scene), _ground(scene))
    needs = [need for need in looked if need is not None]
    if outdated_splats():
        needs.append(Need("VERSION", "Splats are of an older version.", "Upgrade Splats"))
    return needs


def mend(scene: bpy.types.Scene, kind: NeedKind) -> None:
    """Do what the button of a Need says, and nothing else."""
    if kind in ("ENGINE", "BOUNCES"):
        use_engine(scene, "CYCLES")
        allow_transparency(scene)
    elif kind == "SORTING":
        set_depth_sort([obj for obj in all_splats(scene) if obj.library is None], True)
    elif kind == "COLOURS":
        set_scene_linear(scene.view_settings.view_transform != "Raw")
    elif kind == "TONES":
        scene.view_settings.view_transform = "Standard"  # type: ignore[assignment]
        scene.view_settings.look = "None"  # type: ignore[assignment]
    elif kind == "CAMERA":
        scene.camera = next((obj for obj in scene.objects if obj.type == "CAMERA"), None)
    elif kind == "GROUND":
        for obj in _grounds(scene):
            obj.hide_render = False
        open_eyes(scene, [obj.name for obj in _grounds(scene)])
    else:
        upgrade_splats()


def _engine(scene: bpy.types.Scene, splats: list[bpy.types.Object]) -> Need | None:
    engine = engine_of(scene)
    if engine is None:
        return Need("ENGINE", "This render engine shows splats as flat cards.", "Use Cycles")
    if engine == "CYCLES" and not has_transparency(scene):
        said = "Cycles stops at too few transparent surfaces: people render black and mottled."
        return Need("BOUNCES", said, "Raise Transparent Bounces")
    if engine == "EEVEE" and not all(_is_sorted(obj) for obj in splats):
        said = "EEVEE draws splats in a wrong order: people render grainy."
        return Need("SORTING", said, "Sort Splats by Depth")
    return None


def _is_sorted(obj: bpy.types.Object) -> bool:
    if obj.library is not None:  # as its own file has it
        return True
    return bool(get_inputs(splat_modifier(obj)).get(INPUT_DEPTH_SORT))


def _colours(scene: bpy.types.Scene, splats: list[bpy.types.Object]) -> Need | None:
    slots = (slot.material for obj in splats for slot in obj.material_slots)
    materials = {m for m in slots if m is not None and m.get(VERSION_KEY) is not None}  # ours
    transform = scene.view_settings.view_transform
    raw = transform == "Raw"
    wrong = [material for material in materials if is_scene_linear(material) == raw]
    if wrong:
        paler = "darker" if raw else "paler"
        own = any(material.library is None for material in wrong)
        where = "" if own else " They are linked: set Colours in their own file."
        said = f"With the view transform {transform} people are {paler} than in the photo.{where}"
        return Need("COLOURS", said, "Fit Splats to It" if own else "")
    if not raw and transform != "Standard":
        said = f"The view transform {transform} makes people paler than in the photo."
        return Need("TONES", said, "Use Standard for the Shot")
    return None


def _camera(scene: bpy.types.Scene) -> Need | None:
    if scene.camera is not None:
        return None
    button = "Use a Camera" if any(obj.type == "CAMERA" for obj in scene.objects) else ""
    return Need("CAMERA", "The scene has no camera that splats could turn to.", button)


def _ground(scene: bpy.types.Scene) -> Need | None:
    """Shadows fall on the crowd's ground where nothing else is there to catch them."""
    if engine_of(scene) != "CYCLES":  # others show the catcher itself
        return None
    grounds = _grounds(scene)
    bodies = [obj for obj in scene.objects if obj.type == "MESH" and casts_shadow(obj)]
    if not bodies or not grounds or not all(obj.hide_render for obj in grounds):
        return None
    for obj in scene.objects:
        if obj.type == "MESH" and not (obj.hide_render or obj in bodies or is_splats(obj)):
            return None
    said = "Bodies throw shadows, but the ground that would catch them is hidden in renders."
    return Need("GROUND", said, "Show the Ground")


def _grounds(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    return [obj for obj in scene.objects if obj.get(GROUND)]
