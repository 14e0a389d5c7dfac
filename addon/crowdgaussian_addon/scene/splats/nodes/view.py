# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the splats face: the scene's camera, or the 3D viewport when viewport.py reports it.

All of it is single values, so it costs nothing per splat.

The viewport is reported by an empty: location and rotation are its view, and its scale carries the
three numbers that are left, (what one pixel covers, kind, 1) with the kinds below. Moving one
object is all that following the view costs, and a file opened without the add-on keeps working: an
empty that is off, or deleted, leaves the scene's camera.
"""

from dataclasses import dataclass
from typing import cast

import bpy

from .graph import Graph, Socket, Value, set_default

VIEW = "CrowdGaussian View"
VIEW_KEY = "crowdgaussian_view"  # property of the empty
OFF, PERSPECTIVE, ORTHOGRAPHIC = 1.0, 2.0, 3.0  # scale y of the empty
VIEW_NODE = "View"  # the Object Info node of the empty

# Variables of the driver below -> paths from the active scene.
_CAMERA = {
    "w": "render.resolution_x", "h": "render.resolution_y",
    "ax": "render.pixel_aspect_x", "ay": "render.pixel_aspect_y",
    "percent": "render.resolution_percentage",
    "lens": "camera.data.lens", "kind": "camera.data.type", "size": "camera.data.ortho_scale",
    "fit": "camera.data.sensor_fit",
    "sx": "camera.data.sensor_width", "sy": "camera.data.sensor_height",
}  # fmt: skip
# What a camera has that nobody changed: a driver that cannot be evaluated once stays off until the
# file is opened again, so while a scene has no camera these stand in.
_NO_CAMERA = {"lens": 50.0, "kind": 0.0, "size": 6.0, "fit": 0.0, "sx": 36.0, "sy": 24.0}
_SIDE = "(max(w * ax, h * ay) if fit == 0 else (w * ax if fit == 1 else h * ay))"
_SPAN = "(size if kind == 1 else (sy if fit == 2 else sx) / lens)"
_PIXEL = f"100 * {_SPAN} / (percent * {_SIDE})"


@dataclass(frozen=True)
class View:
    """A camera in the space of the splat object, as single values."""

    place: Socket
    right: Socket
    up: Socket
    forward: Socket
    orthographic: Socket
    pixel: Socket  # metres that a pixel covers: at depth 1, or everywhere without perspective


def view_nodes(graph: Graph) -> View:
    """Nodes that choose between the scene's camera and the followed viewport."""
    camera = graph.call("GeometryNodeInputActiveCamera", {})
    scene_camera = _object(graph, camera, "RELATIVE")
    viewport = _object(graph, None, "RELATIVE", name=VIEW_NODE)
    report = _object(graph, None, "ORIGINAL", name=f"{VIEW_NODE} Report")
    pixel, kind, _ = graph.separate(report.outputs["Scale"])
    following = graph.math(
        "MULTIPLY",
        graph.math("GREATER_THAN", kind, (OFF + PERSPECTIVE) / 2),
        graph.call("GeometryNodeIsViewport", {}),
    )

    def choose(name: str) -> Socket:
        kinds = {"Location": "VECTOR", "Rotation": "ROTATION"}
        sockets = scene_camera.outputs[name], viewport.outputs[name]
        return graph.choose(following, *sockets, kinds[name])

    rotation = choose("Rotation")

    def turned(axis: tuple[float, float, float]) -> Socket:
        inputs: dict[str, Value] = {"Vector": axis, "Rotation": rotation}
        return graph.call("FunctionNodeRotateVector", inputs)

    right, up, forward = (
        turned(axis) for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    )
    flat = graph.math("GREATER_THAN", kind, (PERSPECTIVE + ORTHOGRAPHIC) / 2)
    return View(
        choose("Location"), right, up, forward,
        graph.choose(following, _driven(graph, "Orthographic", "kind == 1"), flat, "FLOAT"),
        graph.choose(following, _driven(graph, "Pixel", _PIXEL), pixel, "FLOAT"),
    )  # fmt: skip


def connect_view(tree: bpy.types.NodeTree, empty: bpy.types.Object | None) -> None:
    """Let a splat group see the empty that reports the viewport."""
    for name in (VIEW_NODE, f"{VIEW_NODE} Report"):
        set_default(tree.nodes[name].inputs["Object"], empty)


def _object(graph: Graph, source: Socket | None, space: str, **names: str) -> bpy.types.Node:
    info = graph.node("GeometryNodeObjectInfo", transform_space=space, **names)
    if source is not None:
        graph.feed(info.inputs["Object"], source)
    return info


def _driven(graph: Graph, name: str, expression: str) -> Socket:
    """A number of the scene's camera, kept up to date by a driver that needs no Python."""
    node = graph.node("ShaderNodeValue", name=name, label=name)
    driver = cast(bpy.types.FCurve, node.outputs[0].driver_add("default_value")).driver
    for variable_name, path in _CAMERA.items():
        if variable_name not in _words(expression):
            continue
        variable = driver.variables.new()
        variable.name, variable.type = variable_name, "CONTEXT_PROP"
        variable.targets[0].context_property = "ACTIVE_SCENE"
        variable.targets[0].data_path = path
        if variable_name in _NO_CAMERA:
            variable.targets[0].use_fallback_value = True
            variable.targets[0].fallback_value = _NO_CAMERA[variable_name]
    driver.expression = expression
    return node.outputs[0]


def _words(expression: str) -> set[str]:
    return set("".join(c if c.isalnum() else " " for c in expression).split())
