# SPDX-License-Identifier: GPL-3.0-or-later
"""A person who was overlooked: a box drawn over the photo in the camera's view."""

import bpy
import numpy as np
from bpy.props import FloatProperty
from bpy_extras.view3d_utils import region_2d_to_vector_3d
from crowdgaussian_shared.errors import CrowdGaussianError, InputError
from crowdgaussian_shared.scene.edit import SceneEdit
from crowdgaussian_shared.scene.folder import SceneFolder

from ..scene.corrections import source_of
from ..scene.render.camera import pixel_of_direction
from ..scene.render.viewport import view_of
from .base import Result
from .corrections import CorrectingOperator, chosen_crowd, origin_of

_LEAST = 8.0  # pixels of the photo, each way
_COLOUR = (1.0, 0.6, 0.1, 1.0)
_HELP = "Drag a box around all of the person that the photo shows; Esc stops"
NO_BOX = "The box has less than 8 pixels inside the photo; drag it around the person."


class CROWDGAUSSIAN_OT_add_person(CorrectingOperator, bpy.types.Operator):
    """Draw a box around somebody in the photo who was overlooked. Nobody else is touched"""

    bl_idname = "crowdgaussian.add_person"
    bl_label = "Add Person"
    modes = {"OBJECT"}

    x0: FloatProperty(name="Left", options={"SKIP_SAVE"}, description="Pixels of the photo")
    y0: FloatProperty(name="Top", options={"SKIP_SAVE"}, description="Pixels of the photo")
    x1: FloatProperty(name="Right", options={"SKIP_SAVE"}, description="Pixels of the photo")
    y1: FloatProperty(name="Bottom", options={"SKIP_SAVE"}, description="Pixels of the photo")

    def run(self, context: bpy.types.Context) -> str | None:
        """Sends the box."""
        crowd = chosen_crowd(context)
        if crowd is None:
            raise InputError(self.unavailable(context))
        photo = SceneFolder.open(source_of(crowd)).info.photo
        (x0, x1), (y0, y1) = sorted((self.x0, self.x1)), sorted((self.y0, self.y1))
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, photo.width), min(y1, photo.height))
        if min(box[2] - box[0], box[3] - box[1]) < _LEAST:
            raise InputError(NO_BOX)
        left, top, right, bottom = (round(float(value), 1) for value in box)
        step = SceneEdit(boxes=((left, top, right, bottom),))
        return self.send(crowd, step, "Add a person")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> Result:
        """Looks through the photo's camera and waits for the box."""
        if self.x1 > self.x0 or context.area is None or context.area.type != "VIEW_3D":
            return self.execute(context)
        try:
            origin_of(chosen_crowd(context), "")  # before a box is drawn for nothing
            self._look_through_camera(context)
        except CrowdGaussianError as error:
            return self._fail(str(error))
        self._corners: list[tuple[float, float]] = []
        self._drawn = bpy.types.SpaceView3D.draw_handler_add(
            draw_box, (self._corners,), "WINDOW", "POST_PIXEL"
        )
        context.workspace.status_text_set(_HELP)
        context.window.cursor_modal_set("CROSSHAIR")
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> Result:
        """Press, drag, release; Esc or the right button stops."""
        if event.type in {"ESC", "RIGHTMOUSE"}:
            self.cancel(context)
            return {"CANCELLED"}
        region = window_region(context.area)
        place = (event.mouse_x - region.x, event.mouse_y - region.y)
        if event.type == "LEFTMOUSE" and event.value == "PRESS":
            self._corners[:] = [place, place]
        elif event.type == "MOUSEMOVE" and self._corners:
            self._corners[1] = place
        elif event.type == "LEFTMOUSE" and event.value == "RELEASE" and self._corners:
            self._corners[1] = place
            self._take(context, region)
            self.cancel(context)
            return self.execute(context)
        context.area.tag_redraw()
        return {"RUNNING_MODAL"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Takes the drawing off the view."""
        if getattr(self, "_drawn", None) is not None:
            bpy.types.SpaceView3D.draw_handler_remove(self._drawn, "WINDOW")
            self._drawn = None
            context.workspace.status_text_set(None)
            context.window.cursor_modal_restore()
            if context.area is not None:
                context.area.tag_redraw()

    def _take(self, context: bpy.types.Context, region: bpy.types.Region) -> None:
        """The corners in pixels of the photo."""
        view = view_of(context.area).region_3d
        rays = [region_2d_to_vector_3d(region, view, corner) for corner in self._corners]
        (self.x0, self.y0), (self.x1, self.y1) = (
            pixel_of_direction(self._camera, self._seen, np.array(ray)) for ray in rays
        )

    def _look_through_camera(self, context: bpy.types.Context) -> None:
        crowd = chosen_crowd(context)
        self._camera = SceneFolder.open(source_of(crowd)).info.camera
        camera = next((obj for obj in crowd.objects if obj.type == "CAMERA"), None)
        if camera is None:
            raise InputError(
                f"The photo camera of {crowd.name} was deleted; undo that or import it again."
            )
        view = view_of(context.area)
        if camera != context.scene.camera:
            view.use_local_camera, view.camera = True, camera
        view.region_3d.view_perspective = "CAMERA"
        self._seen = np.array(camera.matrix_world)[:3, :3]


def window_region(area: bpy.types.Area) -> bpy.types.Region:
    """The part of a 3D viewport that shows the scene."""
    return next(region for region in area.regions if region.type == "WINDOW")


def draw_box(corners: list[tuple[float, float]]) -> None:
    """The rectangle as it is dragged; called by Blender."""
    if not corners:
        return
    import gpu
    from gpu_extras.batch import batch_for_shader

    (x0, y0), (x1, y1) = corners
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    points = [(x0, y0), (x1, y0), (x1, y0), (x1, y1), (x1, y1), (x0, y1), (x0, y1), (x0, y0)]
    shader.bind()
    shader.uniform_float("color", _COLOUR)
    batch_for_shader(shader, "LINES", {"pos": points}).draw(shader)


CLASSES = (CROWDGAUSSIAN_OT_add_person,)
