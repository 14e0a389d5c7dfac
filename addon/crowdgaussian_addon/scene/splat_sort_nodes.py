# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats in the order of their depth, for engines that blend faces in the order they are given.

Sorting the faces of the mesh would rebuild its topology, at a fifth of a second for 40 000 splats.
Instead a bare cloud of points is sorted, each with the number of its splat, and the quads trade
places: face i of the mesh draws the splat that comes i-th from far to near. Only what faces carry
to the material has to move with it.
"""

from .graph import Graph, Socket
from .splat_format import COLOUR, CORNER, SHADED_NORMAL


def sort_nodes(
    graph: Graph, geometry: Socket, far: Socket, wanted: Socket, lit: Socket
) -> tuple[Socket, Socket]:
    """Give each face the look of the splat that it is to draw.

    Args:
        graph: the tree under construction.
        geometry: socket of the splats, one face each.
        far: per face, larger is farther.
        wanted: whether to sort; nothing is evaluated otherwise.
        lit: whether the faces carry normals for lights.

    Returns:
        The geometry, and per vertex the number of the splat that its quad draws.
    """
    index = graph.call("GeometryNodeInputIndex", {})
    capture = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    capture.capture_items.new("INT", "Splat")
    graph.feed(capture.inputs["Geometry"], geometry)
    graph.feed(capture.inputs["Splat"], _order(graph, geometry, far, index))
    splat = capture.outputs["Splat"]
    moved = _move(graph, capture.outputs["Geometry"], COLOUR, "FLOAT_COLOR", "FACE", splat)
    normals = _move(graph, moved, SHADED_NORMAL, "FLOAT_VECTOR", "FACE", splat)
    moved = graph.choose(lit, moved, normals, "GEOMETRY")
    face = graph.integer("DIVIDE", index, 4)
    inputs = {"Value": splat, "Index": face}
    of_vertex = graph.call("GeometryNodeFieldAtIndex", inputs, data_type="INT", domain="FACE")
    first = graph.integer("MULTIPLY", of_vertex, 4)
    vertex = graph.integer("ADD", first, graph.integer("MODULO", index, 4))
    moved = _move(graph, moved, CORNER, "FLOAT_VECTOR", "POINT", vertex)
    return (graph.choose(wanted, geometry, moved, "GEOMETRY"),
            graph.choose(wanted, face, of_vertex, "INT"))


def _order(graph: Graph, geometry: Socket, far: Socket, index: Socket) -> Socket:
    """The number of the splat at the place `index`, counted from far to near."""
    size = graph.node("GeometryNodeAttributeDomainSize")
    graph.feed(size.inputs["Geometry"], geometry)
    depth = graph.call("GeometryNodeSampleIndex",
                       {"Geometry": geometry, "Value": far, "Index": index},
                       data_type="FLOAT", domain="FACE")  # fmt: skip
    points = graph.call("GeometryNodePoints", {
        "Count": size.outputs["Face Count"],
        "Position": graph.combine(graph.math("MULTIPLY", depth, -1.0), index, 0.0),
    })  # fmt: skip
    position = graph.call("GeometryNodeInputPosition", {})
    inputs = {"Geometry": points, "Sort Weight": graph.separate(position)[0]}
    ordered = graph.call("GeometryNodeSortElements", inputs, domain="POINT")
    inputs = {"Geometry": ordered, "Value": position, "Index": index}
    found = graph.call("GeometryNodeSampleIndex", inputs,
                       data_type="FLOAT_VECTOR", domain="POINT")  # fmt: skip
    return graph.separate(found)[1]


def _move(
    graph: Graph, geometry: Socket, name: str, kind: str, domain: str, source: Socket
) -> Socket:
    """Each element takes the attribute of the element with the given number."""
    value = graph.call("GeometryNodeInputNamedAttribute", {"Name": name}, data_type=kind)
    inputs = {"Value": value, "Index": source}
    value = graph.call("GeometryNodeFieldAtIndex", inputs, data_type=kind, domain=domain)
    return graph.call("GeometryNodeStoreNamedAttribute",
                      {"Geometry": geometry, "Name": name, "Value": value},
                      data_type=kind, domain=domain)  # fmt: skip
