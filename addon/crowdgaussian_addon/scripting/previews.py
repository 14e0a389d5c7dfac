# SPDX-License-Identifier: GPL-3.0-or-later
"""Preview pictures of an imported crowd, and one sheet of them all.

Each picture is two renders: the shadows that the bodies throw on the floor, without splats and so
quickly, and the splats alone. They are laid over a plain backdrop here, in sRGB values.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import bpy
import numpy as np
from crowdgaussian_shared.errors import disk_error
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, NUM_JOINTS
from crowdgaussian_shared.geometry.skinning import pose_body
from crowdgaussian_shared.scene.folder import SceneFolder
from mathutils import Matrix

from ..scene.attributes import camera_data
from ..scene.importer import ImportResult
from ..scene.render.camera import set_resolution
from ..scene.render.images import (
    Cell,
    contact_sheet,
    encode_png,
    over,
    read_picture,
    resize,
    soften,
)
from ..scene.render.viewport import view_of
from ..scene.rig.armature import set_pose
from ..scene.rig.body import cast_shadows
from ..scene.splats.nodes.graph import Graph

# Cameras around a crowd, each as near as the people's size allows

_FOV = np.radians(30.0)  # across the longer side
_MARGIN = 0.28  # metres around the joints: flesh, hair, hands
_SENSOR = 36.0  # millimetres


@dataclass(frozen=True)
class View:
    """A direction to look at the crowd from."""

    name: str  # of the file
    title: str  # for people
    azimuth: float  # degrees; 0 in front, 90 on the crowd's left
    elevation: float = 8.0  # degrees
    walking: bool = False  # everybody in the other pose


VIEWS = (
    View("front", "Front", 0),
    View("left", "Their left side", 90),
    View("back", "Back", 180),
    View("right", "Their right side", 270),
    View("posed", "Another pose, front", 0, walking=True),
    View("posed_corner", "Another pose, corner", 50, 14, walking=True),
)


def joint_places(rigs: list[bpy.types.Object]) -> np.ndarray:
    """World positions of all joints of all people as posed now.  # [J, 3]"""
    bpy.context.view_layer.update()
    return np.array([rig.matrix_world @ bone.head for rig in rigs for bone in rig.pose.bones])


def aim(camera: bpy.types.Object, view: View, places: np.ndarray, aspect: float) -> None:
    """Put a camera so that all places are in the picture with a margin.

    Args:
        camera: a camera object of its own.
        view: direction.
        places: [J, 3] metres, what must be seen.
        aspect: width over height of the picture, at least 1.
    """
    rotation = _rotation(view)
    centre = (places.min(axis=0) + places.max(axis=0)) / 2
    local = (places - centre) @ rotation  # [J, 3]: right, up, towards the camera
    tangent = np.array([np.tan(_FOV / 2), np.tan(_FOV / 2) / aspect])
    middle = (local[:, :2].max(axis=0) + local[:, :2].min(axis=0)) / 2
    reach = np.abs(local[:, :2] - middle) + _MARGIN
    distance = (reach / tangent + local[:, 2:]).max()
    world = np.eye(4)
    world[:3, :3] = rotation
    world[:3, 3] = centre + rotation @ np.append(middle, distance)
    camera.matrix_world = Matrix(world.tolist())
    camera_data(camera).sensor_fit, camera_data(camera).sensor_width = "AUTO", _SENSOR
    camera_data(camera).lens = _SENSOR / 2 / np.tan(_FOV / 2)


def _rotation(view: View) -> np.ndarray:
    """Columns: right, up, backwards of a camera that looks at the crowd.  # [3, 3]"""
    azimuth, elevation = np.radians((view.azimuth, view.elevation))
    back = np.array([
        np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)
    ])  # fmt: skip
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(back, right), back], axis=1)


# A pose that shows a person is animatable: a stride with one hand raised

_STRIDE = {  # axis-angle in radians, relative to the T-pose
    "left_hip": (-0.50, 0.0, 0.05),
    "right_hip": (0.35, 0.0, -0.05),
    "left_knee": (0.15, 0.0, 0.0),
    "right_knee": (0.45, 0.0, 0.0),
    "right_ankle": (0.20, 0.0, 0.0),
    "spine2": (0.0, 0.12, 0.0),
    "left_collar": (0.0, 0.0, 0.15),
    "left_shoulder": (0.0, -0.35, 0.55),
    "left_elbow": (0.0, -0.45, 0.75),
    "right_shoulder": (0.15, 0.25, 1.15),
    "right_elbow": (0.0, 0.45, 0.0),
    "head": (-0.05, 0.15, 0.0),
}


def walking_pose(avatar: Avatar, ground: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The stride on the spot where the person stood, facing as they did, soles on the floor.

    Args:
        avatar: the person.
        ground: metres, height of the floor in the scene frame.

    Returns:
        pose [55, 3] axis-angle and transl [3] metres, for rig.set_pose.
    """
    pose = np.zeros((NUM_JOINTS, 3))
    facing = axis_angle_to_matrix(np.asarray(avatar.pose[0], np.float64))
    turn = np.arctan2(facing[0, 2] - facing[2, 0], facing[0, 0] + facing[2, 2])
    pose[0] = (0.0, turn, 0.0)
    for name, rotation in _STRIDE.items():
        pose[JOINT_INDEX[name]] = rotation
    transl = np.array(avatar.transl, np.float64)
    transl[1] = 0.0
    transl[1] = ground - pose_body(avatar, pose, transl)[:, 1].min()
    return pose, transl


SHEET = "preview.png"
_ASPECT = 4 / 3
_SHADOW_SAMPLES = 16
_SHADOW_PERCENT = 50  # of the size: shadows are soft and Cycles spends its time on the empty floor
_SHADOW = 0.8  # how much of the shadow is kept
_SKY = (0.5, 0.5, 0.5)  # radiance
_TOP, _BOTTOM = np.array([0.80, 0.81, 0.83]), np.array([0.93, 0.93, 0.92])  # sRGB backdrop

Progress = Callable[[str, int, int], None]  # title, pictures done, pictures in all


@dataclass(frozen=True)
class PreviewOptions:
    """How large and how fine."""

    size: int = 512  # pixels, width of each picture
    samples: int = 1  # of the splats; one is exact, see settings


@dataclass(frozen=True)
class _Studio:
    """What every picture is taken with."""

    scene: bpy.types.Scene
    crowd: ImportResult
    options: PreviewOptions
    scratch: Path


def render_previews(
    folder: SceneFolder,
    crowd: ImportResult,
    options: PreviewOptions = PreviewOptions(),
    progress: Progress = lambda *_: None,
) -> list[Path]:
    """Write previews/*.png into the scene folder; the scene in Blender is left changed.

    Args:
        folder: the crowd's scene folder.
        crowd: the imported crowd.
        options: size and samples.
        progress: called before each picture and once at the end.

    Returns:
        The files, the contact sheet last.
    """
    with tempfile.TemporaryDirectory() as scratch:
        studio = _Studio(bpy.context.scene, crowd, options, Path(scratch))
        _light(studio)
        total = len(VIEWS) + 2
        progress("Photo camera", 0, total)
        cells = [Cell("The photo", read_picture(folder.photo_path)[..., :3])]
        cells.append(Cell("Photo camera", _photo_view(studio, folder)))
        files = [folder.write_preview("camera.png", _png(studio, cells[-1]))]
        for cell, name in _around(studio, folder, lambda t, k: progress(t, k + 1, total)):
            files.append(folder.write_preview(f"{name}.png", _png(studio, cell)))
            cells.append(cell)
        progress("Contact sheet", total - 1, total)
        sheet = Cell("", contact_sheet(cells, studio.scratch))
        files.append(folder.write_preview(SHEET, _png(studio, sheet)))
        progress("Contact sheet", total, total)
    return files


def _photo_view(studio: _Studio, folder: SceneFolder) -> np.ndarray:
    camera = folder.info.camera.to_camera()
    longer = max(camera.width, camera.height)
    width = max(1, round(min(1.0, studio.options.size / longer) * camera.width))
    set_resolution(studio.scene, camera, width)
    return _take(studio)


def _around(studio: _Studio, folder: SceneFolder, progress: Callable[[str, int], None]):
    """Yield (cell, file name) for every view around the crowd."""
    rigs = [person.rig for person in studio.crowd.people]
    camera = bpy.data.objects.new("Preview camera", bpy.data.cameras.new("Preview camera"))
    studio.scene.collection.objects.link(camera)
    studio.scene.camera = camera
    render = studio.scene.render
    render.resolution_x, render.resolution_y = (
        studio.options.size,
        round(studio.options.size / _ASPECT),
    )
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    walking = False
    for number, view in enumerate(VIEWS):
        progress(view.title, number)
        if view.walking and not walking:
            _walk(studio, folder)
            walking = True
        aim(camera, view, joint_places(rigs), _ASPECT)
        yield Cell(view.title, _take(studio)), view.name


def _walk(studio: _Studio, folder: SceneFolder) -> None:
    for person in studio.crowd.people:
        person.rig.animation_data_clear()
        avatar = folder.read_avatar(person.index)
        set_pose(person.rig, *walking_pose(avatar, folder.info.ground.height))


def _take(studio: _Studio) -> np.ndarray:
    """One picture of the scene from its camera.  # [H, W, 3] sRGB"""
    people = studio.crowd.people
    for person in people:
        person.splats.hide_render = True
    studio.scene.render.resolution_percentage = _SHADOW_PERCENT
    shadows = _render(studio, _SHADOW_SAMPLES)
    studio.scene.render.resolution_percentage = 100
    for person in people:
        person.splats.hide_render = False
    studio.crowd.ground.hide_render = True
    splats = _render(studio, studio.options.samples)
    studio.crowd.ground.hide_render = False
    height, width, _ = splats.shape
    ramp = np.linspace(0, 1, height)[:, None, None]
    backdrop = np.broadcast_to(_TOP * (1 - ramp) + _BOTTOM * ramp, (height, width, 3))
    shade = soften(resize(shadows[..., 3:], width, height))
    return over(splats, backdrop * (1 - _SHADOW * shade))


def _render(studio: _Studio, samples: int) -> np.ndarray:
    """One Cycles render as it is.  # [H, W, 4] straight alpha, sRGB"""
    scene = studio.scene
    path = studio.scratch / "render.png"
    scene.cycles.samples = samples
    scene.render.filepath = str(path)
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    bpy.ops.render.render(write_still=True)
    return read_picture(path)


def _light(studio: _Studio) -> None:
    """A broad sun and a grey sky: soft shadows below the people."""
    scene = studio.scene
    scene.world = _grey_sky()
    data = cast(bpy.types.SunLight, bpy.data.lights.new("Preview sun", "SUN"))
    data.angle, data.energy = np.radians(25.0), 2.0
    sun = bpy.data.objects.new("Preview sun", data)
    sun.rotation_euler = np.radians((38.0, 12.0, 0.0)).tolist()
    scene.collection.objects.link(sun)
    cast_shadows([person.body for person in studio.crowd.people], True)
    for person in studio.crowd.people:
        person.body.hide_set(False)
    ground = studio.crowd.ground
    ground.hide_render = False
    ground.scale = (20.0, 20.0, 1.0)


def _grey_sky() -> bpy.types.World:
    world = bpy.data.worlds.new("Preview sky")
    if world.node_tree is None:  # before Blender 5.0
        world.use_nodes = True
    world.node_tree.nodes.clear()
    graph = Graph(world.node_tree)
    light = graph.call("ShaderNodeBackground", {"Color": (*_SKY, 1.0)})
    graph.feed(graph.node("ShaderNodeOutputWorld").inputs["Surface"], light)
    return world


def _png(studio: _Studio, cell: Cell) -> bytes:
    return encode_png(cell.colours, studio.scratch)


# A whole .blend file or none, ready to look at when it is opened


def start_empty_file() -> None:
    """Forget the startup file's cube, light and camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)


def start_new_file() -> None:
    """An empty file; add-ons and preferences stay as they are."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


def save_blend(path: Path) -> None:
    """Save beside the target, then rename; the photo is kept as a relative path.

    Raises:
        ResourceError: the file cannot be written.
    """
    _show_camera_view()
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part.blend")
    try:
        bpy.ops.wm.save_as_mainfile(filepath=str(part), compress=True, relative_remap=True)
        os.replace(part, path)
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise disk_error(
            error, f"{path} was not written ({reason}); free some space or choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _show_camera_view() -> None:
    """Every 3D viewport looks through the photo's camera at rendered splats."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            if area.type == "VIEW_3D":
                space = view_of(area)
                space.shading.type = "MATERIAL"
                space.region_3d.view_perspective = "CAMERA"
