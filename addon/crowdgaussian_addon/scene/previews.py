# SPDX-License-Identifier: GPL-3.0-or-later
"""Preview pictures of an imported crowd, and one sheet of them all.

Each picture is two renders: the shadows that the bodies throw on the floor, without splats and so
quickly, and the splats alone. They are laid over a plain backdrop here, in sRGB values.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from crowdgaussian_shared.scene_folder import SceneFolder

from ..walking import walking_pose
from .body import cast_shadows
from .camera import set_resolution
from .graph import Graph
from .importer import ImportResult
from .pixels import encode_png, over, read_picture, resize, soften
from .rig import set_pose
from .sheet import Cell, contact_sheet
from .views import VIEWS, aim, joint_places

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
    render.resolution_x, render.resolution_y = studio.options.size, round(
        studio.options.size / _ASPECT
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
    data = bpy.data.lights.new("Preview sun", "SUN")
    data.angle, data.energy = np.radians(25.0), 2.0
    sun = bpy.data.objects.new("Preview sun", data)
    sun.rotation_euler = np.radians((38.0, 12.0, 0.0))
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
