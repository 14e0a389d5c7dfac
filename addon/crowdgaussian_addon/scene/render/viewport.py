# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats that face the 3D viewport while it is orbited, without slowing it down.

An empty reports the viewport's view to the splat nodes (splat_view_nodes.py). Moving it makes all
people turn, which may take a tenth of a second, so it is moved seldom: while the view turns only
when it has turned by some degrees, exactly when it rests, and never for more than a third of the
time. In the camera's view, without viewports and in renders, the splats face the scene's camera.
"""

import time
from dataclasses import dataclass
from typing import cast

import bpy
import numpy as np
from mathutils import Matrix, Quaternion, Vector

from ..splats.nodes.project import splat_node_groups
from ..splats.nodes.view import OFF, ORTHOGRAPHIC, PERSPECTIVE, VIEW, VIEW_KEY, connect_view
from .settings import GROUND

_COARSE = np.radians(4.0)  # turn of the view that is worth a new picture while it moves
_COARSE_MOVE = 0.05  # of the distance to what the view turns about
SHARE = 0.33  # of the time may go into turning splats
SOONEST, IDLE = 0.05, 0.5  # seconds until the next look


@dataclass(frozen=True)
class Report:
    """What the empty is to say: a place, a rotation, and a scale of three numbers."""

    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)  # wxyz
    pixel: float = 1.0  # metres a pixel covers at depth 1, or everywhere without perspective
    kind: float = OFF
    reach: float = 1.0  # metres to what the view turns about

    @property
    def matrix(self) -> Matrix:
        """Of the empty."""
        scale = Vector((self.pixel, self.kind, 1.0))
        return Matrix.LocRotScale(Vector(self.place), Quaternion(self.rotation), scale)


NOBODY = Report()


def report_of(region: bpy.types.RegionView3D, width: int, own_camera: bool = False) -> Report:
    """What a viewport sees; NOBODY when it looks through the scene's camera.

    Args:
        region: of the viewport.
        width: pixels.
        own_camera: the viewport looks through another camera than the scene's.
    """
    if (region.view_perspective == "CAMERA" and not own_camera) or width < 1:
        return NOBODY
    across = region.window_matrix[0][0]
    if across <= 0:
        return NOBODY
    place, rotation, _ = region.view_matrix.inverted().decompose()
    kind = PERSPECTIVE if region.is_perspective else ORTHOGRAPHIC
    reach = max(float(region.view_distance), 1e-3)
    x, y, z = place[:]
    rw, rx, ry, rz = rotation[:]
    return Report((x, y, z), (rw, rx, ry, rz), 2.0 / (across * width), kind, reach)


def is_worthwhile(now: Report, shown: Report | None, resting: bool) -> bool:
    """Whether to turn the splats to a view.

    Args:
        now: the view.
        shown: what the splats face.
        resting: the view has not changed since the last look.
    """
    if shown is None or now.kind != shown.kind:
        return True
    if now == NOBODY or now == shown:
        return False
    if resting:
        return not _nearly(now, shown)
    turn = Quaternion(now.rotation).rotation_difference(Quaternion(shown.rotation)).angle
    move = (Vector(now.place) - Vector(shown.place)).length
    return turn > _COARSE or move > _COARSE_MOVE * now.reach


def show(report: Report) -> None:
    """Make all splats of the file face a view; NOBODY for the scene's camera."""
    groups = splat_node_groups()
    empty = view_empty(create=report != NOBODY and bool(groups))
    if empty is None:
        return
    for tree in groups:
        connect_view(tree, empty)
    empty.rotation_mode = "QUATERNION"
    empty.location = report.place
    empty.rotation_quaternion = report.rotation
    empty.scale = (report.pixel, report.kind, 1.0)


def view_empty(create: bool = False) -> bpy.types.Object | None:
    """The empty that the splat groups look at; not in any collection, so nobody trips over it."""
    for obj in bpy.data.objects:
        if obj.get(VIEW_KEY) and obj.library is None:
            return obj
    if not create:
        return None
    empty = bpy.data.objects.new(VIEW, None)
    empty[VIEW_KEY] = True
    return empty


class Follower:
    """Looks at the viewports now and then and turns the splats when that is worth it."""

    def __init__(self) -> None:
        self._seen: dict[int, Report] = {}  # by viewport
        self._last: int | None = None  # the viewport whose view changed last
        self._shown: Report | None = None

    def forget(self) -> None:
        """Another file was loaded, or an undo replaced the empty."""
        self._shown = None

    def look(self, views: dict[int, Report]) -> float:
        """One look.

        Args:
            views: what each viewport sees now, by its pointer.

        Returns:
            Seconds until the next look.
        """
        if not splat_node_groups():
            self._shown = None
            return IDLE
        moved = [key for key, view in views.items() if self._seen.get(key) != view]
        if moved:
            self._last = moved[0]
        self._seen = dict(views)
        now = views.get(self._last, NOBODY) if views else NOBODY
        if not is_worthwhile(now, self._shown, resting=self._last not in moved):
            return SOONEST if moved else 2 * SOONEST
        self._shown = now
        start = time.perf_counter()
        show(now)
        bpy.context.view_layer.update()
        return max(SOONEST, (time.perf_counter() - start) / SHARE)


def view_of(area: bpy.types.Area) -> bpy.types.SpaceView3D:
    """The 3D viewport that an area shows."""
    return cast(bpy.types.SpaceView3D, area.spaces.active)


def views_of(manager: bpy.types.WindowManager) -> dict[int, Report]:
    """What all 3D viewports see, by their pointers."""
    found = {}
    for window in manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                space = view_of(area)
                region, scene = space.region_3d, window.scene
                own = space.use_local_camera and space.camera not in (None, scene.camera)
                width = next((r.width for r in area.regions if r.type == "WINDOW"), 0)
                found[region.as_pointer()] = report_of(region, width, own)
    return found


def _nearly(now: Report, shown: Report) -> bool:
    ours, theirs = np.array(now.matrix), np.array(shown.matrix)
    return bool(np.abs(ours - theirs).max() < 1e-5)


# A first look at people: in colour, from their photo's camera, in whatever shading there is


Look = dict[str, object]  # settings of a viewport by their paths


def largest_view(manager: bpy.types.WindowManager) -> bpy.types.SpaceView3D | None:
    """The 3D viewport with the most pixels, in any window."""
    areas = [area for window in manager.windows for area in window.screen.areas]
    views = [area for area in areas if area.type == "VIEW_3D"]
    return view_of(max(views, key=lambda area: area.width * area.height)) if views else None


def show_people(
    view: bpy.types.SpaceView3D, scene: bpy.types.Scene, camera: bpy.types.Object | None
) -> Look:
    """Look through a camera at people in colour, without bones and grid -> how the view was before.

    Solid shading shows the colours of the splats, unlit; Material Preview and Rendered stay. A
    camera that is not the scene's becomes the view's own.
    """
    wanted: Look = {}
    if view.shading.type in ("SOLID", "WIREFRAME"):
        wanted |= {"shading.type": "SOLID", "shading.light": "FLAT", "shading.color_type": "VERTEX"}
    if camera != scene.camera:
        wanted |= {"use_local_camera": True, "camera": camera}
    wanted |= {f"overlay.show_{name}": False for name in ("bones", "floor", "axis_x", "axis_y")}
    wanted |= {"region_3d.view_perspective": "CAMERA"}
    before = {path: view.path_resolve(path) for path in wanted}
    show_as(view, wanted)
    return dict(reversed(before.items()))


def show_as(view: bpy.types.SpaceView3D, look: Look) -> None:
    """Set a viewport's settings, in their order."""
    for path, value in look.items():
        owner, _, name = path.rpartition(".")
        setattr(view.path_resolve(owner) if owner else view, name, value)


def close_grounds(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Close the eyes of crowds' grounds -> those that were open.

    Blended splats hide no line behind them, so the outline of a ground would cross people.
    """
    seen = [obj for obj in scene.objects if obj.get(GROUND) and obj.visible_get()]
    for obj in seen:
        obj.hide_set(True)
    return seen


def open_eyes(scene: bpy.types.Scene, names: list[str]) -> None:
    """Open the eyes of objects, as far as they are still in the view layer."""
    for name in names:
        if name in scene.objects and name in bpy.context.view_layer.objects:
            scene.objects[name].hide_set(False)
