# SPDX-License-Identifier: Apache-2.0
"""Renders of the guide: what the panel's buttons do to the sample's people."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import bpy
import crowdgaussian_addon
import numpy as np
from _support.made_up_motion import cmu_walk
from crowdgaussian_addon.scene.importer import import_scene
from crowdgaussian_addon.scene.people import Person, all_people
from crowdgaussian_addon.scene.render.images import over, read_picture, resize
from crowdgaussian_addon.scripting.previews import View, aim, joint_places, start_empty_file

_WIDTH, _HEIGHT = 420, 290
_FLOOR_SAMPLES, _LIT_SAMPLES = 16, 12
_SQUARE = (360, 360)
_GAP = 4  # white pixels between two pictures
crowd = bpy.ops.crowdgaussian


@dataclass(frozen=True)
class Studio:
    """A scene with the sample's people, a floor, a sky and a sun."""

    camera: bpy.types.Object
    sun: bpy.types.Object
    floor: bpy.types.Object
    photo: Path
    scratch: Path
    samples: int = 1  # of the people; splats that glow need no more

    def people(self) -> list[Person]:
        """Everybody."""
        return all_people(bpy.context.scene)

    def take(
        self, view: View, size: tuple[int, int] = (_WIDTH, _HEIGHT), more: np.ndarray | None = None
    ) -> np.ndarray:
        """The floor with shadows, and the people laid over it: much faster than both at once.

        Returns:
            [H, W, 3] sRGB.
        """
        scene = bpy.context.scene
        people = [p for p in self.people() if not p.splats.hide_render] or self.people()
        seen = joint_places([person.rig for person in people])
        seen = seen if more is None else np.concatenate([seen, more])
        aim(self.camera, view, seen, size[0] / size[1])
        scene.camera = self.camera
        scene.render.resolution_x, scene.render.resolution_y = size
        scene.render.resolution_percentage = 100
        splats = [
            obj for obj in bpy.data.objects if "Splats" in obj.modifiers and not obj.hide_render
        ]
        show(splats, False)
        floor = self._render("floor")[..., :3]
        show(splats, True)
        solid = [
            obj
            for obj in scene.objects
            if obj.type == "MESH" and "Splats" not in obj.modifiers and obj.visible_camera
        ]
        for obj in solid:
            obj.is_holdout = obj.find_armature() is None
        people_only = self._render("people")
        for obj in solid:
            obj.is_holdout = False
        return over(people_only, floor)

    def _render(self, what: str) -> np.ndarray:
        scene, path = bpy.context.scene, self.scratch / f"{what}.png"
        crowd.set_colours(mode="photo" if what == "people" and self.samples == 1 else "linear")
        scene.cycles.samples = self.samples if what == "people" else _FLOOR_SAMPLES
        scene.render.film_transparent = what == "people"
        scene.render.image_settings.color_mode = "RGBA"
        scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)
        return read_picture(path)


def render_all(folder: Path, out: Path, only: list[str]) -> None:
    """guide_NAME.jpg for each picture.

    Args:
        folder: scene folder.
        out: folder of the pictures.
        only: names; empty for all.
    """
    pictures: dict[str, Callable[[Studio], np.ndarray]] = {
        "import": from_all_sides, "levels": levels, "poses": poses, "layout": places,
        "scatter": scattered, "walk": walk, "light": relit, "export": exported}  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in pictures.items():
            if only and name not in only:
                continue
            crowdgaussian_addon.register()
            save_jpeg(out / f"guide_{name}.jpg", make(build_studio(folder, Path(scratch))))
            crowdgaussian_addon.unregister()
            print(f"guide_{name}.jpg", flush=True)


def build_studio(folder: Path, scratch: Path) -> Studio:
    """The people among lit objects: linear colours, shadows of the bodies."""
    start_empty_file()
    crowdgaussian_addon.unregister()  # the empty file forgot the scene's properties' values
    crowdgaussian_addon.register()
    result = import_scene(folder)
    scene = bpy.context.scene
    crowd.body_shadow(enabled=True)
    result.ground.hide_render = True
    scene.cycles.max_bounces = 1
    scene.render.image_settings.file_format = "PNG"
    scene.render.threads_mode, scene.render.threads = "FIXED", 2
    scene.world = bpy.data.worlds.new("Sky")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.72, 0.76, 0.8, 1)
    bpy.ops.mesh.primitive_plane_add(size=60, location=(0, 0, result.ground.location.z))
    floor = bpy.context.object
    floor.data.materials.append(matt("Floor", (0.42, 0.41, 0.39)))
    bpy.ops.object.light_add(type="SUN", rotation=np.radians((42, 14, 0)).tolist())
    sun = bpy.context.object
    sun.data.energy, sun.data.angle = 1.6, np.radians(12)
    camera = bpy.data.objects.new("Guide", bpy.data.cameras.new("Guide"))
    scene.collection.objects.link(camera)
    bpy.ops.object.select_all(action="DESELECT")
    return Studio(camera, sun, floor, folder / "photo.jpg", scratch)


def matt(name: str, colour: tuple[float, float, float]) -> bpy.types.Material:
    """A matt material."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    surface = material.node_tree.nodes["Principled BSDF"]
    surface.inputs["Base Color"].default_value = (*colour, 1)
    surface.inputs["Roughness"].default_value = 0.9
    return material


def show(objects: list[bpy.types.Object], shown: bool) -> None:
    """In renders."""
    for obj in objects:
        obj.hide_render = not shown


def keep_only(studio: Studio, person: Person) -> None:
    """Takes the others out of the pictures."""
    for other in studio.people():
        if other.rig != person.rig:
            show(list(other.objects), False)
            bpy.data.objects.remove(other.rig)


def choose(*people: Person) -> None:
    """Selects them and nobody else."""
    bpy.ops.object.select_all(action="DESELECT")
    for person in people:
        person.rig.select_set(True)
        bpy.context.view_layer.objects.active = person.rig


def from_all_sides(studio: Studio) -> np.ndarray:
    """The photo, and the crowd from the front, the side and behind."""
    photo = read_picture(studio.photo)[..., :3]
    width = round(photo.shape[1] * _HEIGHT / photo.shape[0])
    photo = resize(photo, width, _HEIGHT)
    left = max(0, (width - _WIDTH) // 2)
    views = [studio.take(View("", "", angle)) for angle in (0, 60, 180)]
    return grid([photo[:, left : left + _WIDTH], *views], 2)


def levels(studio: Studio) -> np.ndarray:
    """Body, reduced splats, full splats."""
    keep_only(studio, studio.people()[0])
    shown = []
    for level in ("BODY", "REDUCED", "FULL"):
        crowd.set_display(level=level, where="RENDER", who="ALL")
        fine = replace(studio, samples=12 if level == "BODY" else 1)
        shown.append(fine.take(View("", "", 15, 5), _SQUARE)[:, 50:-50])
    return grid(shown, 3)


def poses(studio: Studio) -> np.ndarray:
    """Photo pose, rest pose, and two of the library."""
    first, view = studio.people()[1], View("", "", 15, 5)
    keep_only(studio, first)
    choose(first)
    names = ("Waving", "Sitting")
    shown = [studio.take(view, _SQUARE)]
    crowd.rest_pose()
    shown.append(studio.take(view, _SQUARE))
    for name in names:
        crowd.apply_pose(pose=name)
        crowd.snap_to_ground(ground=studio.floor.name)
        shown.append(studio.take(view, _SQUARE))
    return grid(shown, 2)


def places(studio: Studio) -> np.ndarray:
    """As in the photo; spread, and turned to the camera."""
    view = View("", "", 25, 25)
    before = studio.take(view)
    crowd.spread(factor=1.5)
    crowd.resolve_overlaps()
    bpy.context.scene.camera = studio.camera
    crowd.face(towards="CAMERA")
    return grid([before, studio.take(view)], 2)


def scattered(studio: Studio) -> np.ndarray:
    """The people and forty copies on a meadow."""
    bpy.ops.mesh.primitive_grid_add(
        x_subdivisions=40, y_subdivisions=40, size=14, location=(0, 10, studio.floor.location.z)
    )
    hill = bpy.context.object
    for vertex in hill.data.vertices:
        x, y = vertex.co.x / 8, vertex.co.y / 8
        vertex.co.z = 0.02 + 0.9 * (1 - x * x) ** 2 * (1 - y * y) ** 2
    hill.data.materials.append(matt("Grass", (0.16, 0.28, 0.1)))
    bpy.ops.object.select_all(action="DESELECT")
    crowd.snap_to_ground(ground=hill.name)
    crowd.scatter(over="SURFACE", target=hill.name, count=40, reduced=True, spacing=1.0, variants=1)
    corners = np.array([(x, y, 0.0) for x in (-6, 6) for y in (4, 16)])
    return studio.take(View("", "", -12, 17), (840, 400), corners)


def walk(studio: Studio) -> np.ndarray:
    """Two moments of a walk of everybody."""
    text, _ = cmu_walk()
    path = studio.scratch / "walk.bvh"
    path.write_text(text)
    crowd.apply_motion(filepath=str(path), offset=7)
    shown = []
    for frame in (24, 48):
        bpy.context.scene.frame_set(frame)
        shown.append(studio.take(View("", "", 40, 10)))
    return grid(shown, 2)


def relit(studio: Studio) -> np.ndarray:
    """The photo's light, and a low warm sun that shades the people too."""
    view = View("", "", -20, 6)
    before = studio.take(view)
    crowd.set_lit(lit=True, who="ALL")
    studio.sun.rotation_euler = np.radians((68, 0, 75)).tolist()
    studio.sun.data.energy, studio.sun.data.color = 5.0, (1.0, 0.62, 0.32)
    sky = bpy.context.scene.world.node_tree.nodes["Background"].inputs["Color"]
    sky.default_value = (0.10, 0.14, 0.26, 1)
    return grid([before, replace(studio, samples=_LIT_SAMPLES).take(view)], 2)


def exported(studio: Studio) -> np.ndarray:
    """The people, and the PLY that was written of them, imported again."""
    view, people = View("", "", 30, 10), studio.people()
    before = studio.take(view)
    path = studio.scratch / "crowd.ply"
    crowd.export_splats(filepath=str(path))
    for person in people:
        show([person.splats, person.body], False)
    crowd.import_splats(filepath=str(path), render=False)
    return grid([before, studio.take(view)], 2)


def grid(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures side by side and below each other.  # [H, W, 3]"""
    rows = []
    for start in range(0, len(pictures), columns):
        row = pictures[start : start + columns]
        bar = np.ones((row[0].shape[0], _GAP, 3), np.float32)
        rows.append(np.concatenate([part for p in row for part in (p, bar)][:-1], axis=1))
    bar = np.ones((_GAP, rows[0].shape[1], 3), np.float32)
    return np.concatenate([part for row in rows for part in (row, bar)][:-1], axis=0)


def save_jpeg(path: Path, colours: np.ndarray, quality: int = 86) -> None:
    """Writes sRGB values.  # [H, W, 3]"""
    height, width, _ = colours.shape
    image = bpy.data.images.new(path.stem, width, height, alpha=False)
    rgba = np.ones((height, width, 4), np.float32)
    rgba[..., :3] = colours[::-1].clip(0, 1)
    image.pixels.foreach_set(rgba.ravel())
    image.filepath_raw, image.file_format = str(path), "JPEG"
    image.save(quality=quality)
    bpy.data.images.remove(image)
