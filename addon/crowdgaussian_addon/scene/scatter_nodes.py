# SPDX-License-Identifier: GPL-3.0-or-later
"""Geometry nodes for splats that are instanced: quads that lie in the plane of each Gaussian.

A quad that faces the camera is right for one copy only, and a copy of its own for every instance
would cost its memory. So a scattered copy shows each Gaussian as a disc in the plane of its two
longer axes, which is right from everywhere as far as Gaussians are flat, and those of skin and
cloth are: what is lost is the thin third axis, seen edge on at the rim. Discs are skinned like the
quads and all instances of a pose share them.
"""

import bpy

from .graph import Graph, Socket
from .splat_format import CORNER

_NAME = "CrowdGaussian Scattered Splats"
_VERSION_KEY = "crowdgaussian_scatter_version"
_VERSION = 1
FOOTPRINT = "Footprint"


def scatter_node_group() -> bpy.types.NodeTree:
    """The group that all scattered copies of a file share; made on first use."""
    present = (tree for tree in bpy.data.node_groups if tree.get(_VERSION_KEY) == _VERSION)
    return next(present, None) or _build()


def _build() -> bpy.types.NodeTree:
    tree = bpy.data.node_groups.new(_NAME, "GeometryNodeTree")
    tree[_VERSION_KEY] = _VERSION
    tree.is_modifier = True
    new = tree.interface.new_socket
    new("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    new("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    blur = new(FOOTPRINT, in_out="INPUT", socket_type="NodeSocketFloat")
    blur.subtype, blur.min_value = "DISTANCE", 0.0
    blur.description = "Least blur: what one photo pixel covered"
    graph = Graph(tree)
    inputs = {socket.name: socket for socket in graph.node("NodeGroupInput").outputs if socket.name}
    centre, first, second = _disc(graph, inputs["Geometry"], inputs[FOOTPRINT])
    capture = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    graph.feed(capture.inputs["Geometry"], inputs["Geometry"])
    for name, field in (("Centre", centre), ("First", first), ("Second", second)):
        capture.capture_items.new("VECTOR", name)
        graph.feed(capture.inputs[name], field)
    moved = _move_corners(graph, capture)
    graph.feed(graph.node("NodeGroupOutput").inputs[0], moved)
    return tree


def _disc(graph: Graph, geometry: Socket, blur: Socket) -> tuple[Socket, Socket, Socket]:
    """Per face: centre and the two longer axes, no shorter than the blur."""
    start = graph.integer("MULTIPLY", graph.call("GeometryNodeInputIndex", {}), 4)
    position = graph.call("GeometryNodeInputPosition", {})
    points = []
    for corner in range(4):
        inputs = {"Geometry": geometry, "Value": position,
                  "Index": graph.integer("ADD", start, corner)}
        points.append(graph.call("GeometryNodeSampleIndex", inputs,
                                 data_type="FLOAT_VECTOR", domain="POINT"))
    a, b, c = (graph.vector("SUBTRACT", point, points[0]) for point in points[1:])
    la, lb, lc = (graph.vector("LENGTH", axis) for axis in (a, b, c))
    a_thinnest = graph.math("LESS_THAN", la, graph.math("MINIMUM", lb, lc))
    b_thinnest = graph.math("LESS_THAN", lb, graph.math("MINIMUM", la, lc))
    first = graph.choose(a_thinnest, a, b)
    second = graph.choose(graph.math("MAXIMUM", a_thinnest, b_thinnest), b, c)
    return points[0], _blurred(graph, first, blur), _blurred(graph, second, blur)


def _blurred(graph: Graph, axis: Socket, blur: Socket) -> Socket:
    """An axis whose variance is the larger by the blur's."""
    ratio = graph.math("DIVIDE", blur, graph.math("MAXIMUM", graph.vector("LENGTH", axis), 1e-6))
    longer = graph.math("SQRT", graph.math("ADD", 1.0, graph.math("MULTIPLY", ratio, ratio)))
    return graph.scale(axis, longer)


def _move_corners(graph: Graph, capture: bpy.types.Node) -> Socket:
    corner = graph.call(
        "GeometryNodeInputNamedAttribute", {"Name": CORNER}, data_type="FLOAT_VECTOR"
    )
    face = graph.integer("DIVIDE", graph.call("GeometryNodeInputIndex", {}), 4)
    x, y, _ = graph.separate(corner)
    centre, first, second = (graph.of_face(capture.outputs[name], face)
                             for name in ("Centre", "First", "Second"))
    offset = graph.vector("ADD", graph.scale(first, x), graph.scale(second, y))
    inputs = {"Geometry": capture.outputs["Geometry"], "Position": centre, "Offset": offset}
    return graph.call("GeometryNodeSetPosition", inputs)
