# SPDX-License-Identifier: GPL-3.0-or-later
"""The geometry nodes that turn skinned splat quads to the camera.

Before them, the four vertices of a quad are c, c + s_x x, c + s_y y, c + s_z z of one Gaussian, as
the armature left them; so the edges from the first vertex are the columns of the M of its
covariance M M^T, sheared by the blended bones exactly as linear blend skinning says.

The nodes then draw what 3D Gaussian Splatting draws (Kerbl et al. 2023; EWA splatting, Zwicker et
al. 2001), as geometry. With v the vector from the camera to c, the two vectors E1 = M e1 and
E2 = M e2, e1 and e2 orthonormal and orthogonal to M^-1 v, span the Gaussian's outline. Slid along v
into the plane through c that is parallel to the image, they are exactly the axes of its projected
2D covariance, without computing a covariance. Each quad lies in that plane, so

- its fall-off exp(-(x^2 + y^2) / 2) in units of the two axes is the EWA footprint, and
- all of it has one depth, so a ray meets the quads in the order of their centres' depths, the
  order in which avatars are fitted. (Quads left in the conjugate plane of E1, E2 are met in another
  order, which costs more than 10 dB against the rasteriser.)

3D Gaussian Splatting adds 0.3 square pixels to every projected covariance (gsplat's eps2d), and
avatars are fitted with it. The nodes add the same along the principal axes of the ellipse.
"""

import bpy

from .graph import Graph, Socket
from .splat_format import CORNER

SPLAT_NODES = "CrowdGaussian Splats v1"
INPUT_FOOTPRINT = "Footprint"
INPUT_DEPTH_SORT = "Depth Sort"

DILATION = 0.3  # square pixels, as in 3D Gaussian Splatting
_ASIDE = (0.36, 0.48, 0.8)  # any unit vector: where e1 and e2 start from
_TINY = 1e-14  # square metres


def splat_node_group() -> bpy.types.NodeTree:
    """The group shared by all people of a file; made on first use."""
    tree = bpy.data.node_groups.get(SPLAT_NODES)
    return tree if tree is not None else _build()


def _build() -> bpy.types.NodeTree:
    tree = bpy.data.node_groups.new(SPLAT_NODES, "GeometryNodeTree")
    tree.is_modifier = True
    inputs = _interface(tree)
    graph = Graph(tree)
    centre, axes = _skinned_frame(graph)
    view, forward, depth = _camera(graph, centre)
    outline = _outline(graph, axes, view)
    ellipse = _slide_to_image_plane(graph, outline, (view, forward, depth))
    ellipse = _dilate(graph, ellipse, _spread(graph, depth, inputs[INPUT_FOOTPRINT]))
    geometry, (centre, first, second, depth) = _capture(
        graph, inputs["Geometry"], (centre, *ellipse, depth)
    )
    geometry = _move_corners(graph, geometry, centre, first, second)
    geometry = _sort(graph, geometry, depth, inputs[INPUT_DEPTH_SORT])
    output = graph.node("NodeGroupOutput")
    graph.feed(output.inputs[0], geometry)
    return tree


def _interface(tree: bpy.types.NodeTree) -> dict[str, Socket]:
    new = tree.interface.new_socket
    new("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    new("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    footprint = new(INPUT_FOOTPRINT, in_out="INPUT", socket_type="NodeSocketFloat")
    footprint.subtype = "DISTANCE"
    footprint.min_value = 0.0
    footprint.description = (
        "Least blur in metres: what one photo pixel covered, so that close views show no holes"
    )
    depth_sort = new(INPUT_DEPTH_SORT, in_out="INPUT", socket_type="NodeSocketBool")
    depth_sort.description = "Order the splats from far to near, which EEVEE's blending needs"
    group_input = tree.nodes.new("NodeGroupInput")
    return {socket.name: socket for socket in group_input.outputs if socket.name}


def _skinned_frame(graph: Graph) -> tuple[Socket, tuple[Socket, Socket, Socket]]:
    """Per face: the centre and the three columns of M, read from the deformed vertices."""
    first = graph.integer("MULTIPLY", graph.call("GeometryNodeInputIndex", {}), 4)
    position = graph.call("GeometryNodeInputPosition", {})
    geometry = next(n for n in graph.tree.nodes if n.type == "GROUP_INPUT").outputs["Geometry"]
    points = []
    for corner in range(4):
        index = graph.integer("ADD", first, corner)
        inputs = {"Geometry": geometry, "Value": position, "Index": index}
        points.append(
            graph.call(
                "GeometryNodeSampleIndex", inputs, data_type="FLOAT_VECTOR", domain="POINT"
            )
        )
    centre = points[0]
    return centre, tuple(graph.vector("SUBTRACT", point, centre) for point in points[1:])


def _camera(graph: Graph, centre: Socket) -> tuple[Socket, Socket, Socket]:
    """Camera to centre, the viewing direction, and the depth along it, in object space."""
    info = graph.node("GeometryNodeObjectInfo", transform_space="RELATIVE")
    graph.feed(info.inputs["Object"], graph.call("GeometryNodeInputActiveCamera", {}))
    inputs = {"Vector": (0.0, 0.0, -1.0), "Rotation": info.outputs["Rotation"]}
    forward = graph.call("FunctionNodeRotateVector", inputs)
    view = graph.vector("SUBTRACT", centre, info.outputs["Location"])
    return view, forward, graph.vector("DOT_PRODUCT", view, forward)


def _outline(
    graph: Graph, axes: tuple[Socket, Socket, Socket], view: Socket
) -> tuple[Socket, Socket]:
    """E1 and E2 of the module's docstring; the cofactors of M stand in for its inverse."""
    a, b, c = axes
    cofactors = [graph.vector("CROSS_PRODUCT", p, q) for p, q in ((b, c), (c, a), (a, b))]
    local = graph.combine(*(graph.vector("DOT_PRODUCT", view, row) for row in cofactors))
    local = graph.vector("NORMALIZE", local)
    e1 = graph.vector("NORMALIZE", graph.vector("CROSS_PRODUCT", local, _ASIDE))
    e2 = graph.vector("CROSS_PRODUCT", local, e1)
    return _times_axes(graph, axes, e1), _times_axes(graph, axes, e2)


def _times_axes(graph: Graph, axes: tuple[Socket, Socket, Socket], vector: Socket) -> Socket:
    terms = [graph.scale(axis, part) for axis, part in zip(axes, graph.separate(vector))]
    return graph.vector("ADD", graph.vector("ADD", terms[0], terms[1]), terms[2])


def _spread(graph: Graph, depth: Socket, footprint: Socket) -> Socket:
    """Variance to add, in square metres at the Gaussian's depth."""
    pixel = graph.math("MULTIPLY", depth, _pixel_angle(graph))
    pixels = graph.math("MULTIPLY", graph.math("MULTIPLY", pixel, pixel), DILATION)
    return graph.math("MAXIMUM", pixels, graph.math("MULTIPLY", footprint, footprint))


def _pixel_angle(graph: Graph) -> Socket:
    """1 / focal length in pixels of the scene's render, kept up to date by a driver."""
    node = graph.node("ShaderNodeValue", name="Pixel Angle", label="1 / focal length in pixels")
    driver = node.outputs[0].driver_add("default_value").driver
    paths = {
        "width": "render.resolution_x",
        "height": "render.resolution_y",
        "percent": "render.resolution_percentage",
        "lens": "camera.data.lens",
        "sensor": "camera.data.sensor_width",
    }
    for name, path in paths.items():
        variable = driver.variables.new()
        variable.name, variable.type = name, "CONTEXT_PROP"
        variable.targets[0].context_property = "ACTIVE_SCENE"
        variable.targets[0].data_path = path
    driver.expression = "100 * sensor / (lens * percent * max(width, height))"
    return node.outputs[0]


def _slide_to_image_plane(
    graph: Graph, outline: tuple[Socket, Socket], camera: tuple[Socket, Socket, Socket]
) -> tuple[Socket, Socket]:
    """E - v (E . forward) / depth: where rays through E meet the plane of the centre's depth."""
    view, forward, depth = camera
    per_depth = graph.scale(view, graph.math("DIVIDE", 1.0, depth))
    slid = []
    for axis in outline:
        along = graph.vector("DOT_PRODUCT", axis, forward)
        slid.append(graph.vector("SUBTRACT", axis, graph.scale(per_depth, along)))
    return slid[0], slid[1]


def _dilate(
    graph: Graph, ellipse: tuple[Socket, Socket], spread: Socket
) -> tuple[Socket, Socket]:
    """Turn two conjugate axes to the principal ones and add the spread to both variances."""
    g11 = graph.vector("DOT_PRODUCT", ellipse[0], ellipse[0])
    g22 = graph.vector("DOT_PRODUCT", ellipse[1], ellipse[1])
    g12 = graph.vector("DOT_PRODUCT", ellipse[0], ellipse[1])
    twice = graph.math(
        "ARCTAN2", graph.math("MULTIPLY", 2.0, g12), graph.math("SUBTRACT", g11, g22)
    )
    angle = graph.math("MULTIPLY", 0.5, twice)
    cosine, sine = graph.math("COSINE", angle), graph.math("SINE", angle)
    minus = graph.math("MULTIPLY", -1.0, sine)
    turned = []
    for p, q in ((cosine, sine), (minus, cosine)):
        axis = graph.vector("ADD", graph.scale(ellipse[0], p), graph.scale(ellipse[1], q))
        variance = graph.math("MAXIMUM", graph.vector("DOT_PRODUCT", axis, axis), _TINY)
        ratio = graph.math("ADD", 1.0, graph.math("DIVIDE", spread, variance))
        turned.append(graph.scale(axis, graph.math("SQRT", ratio)))
    return turned[0], turned[1]


def _capture(
    graph: Graph, geometry: Socket, fields: tuple[Socket, Socket, Socket, Socket]
) -> tuple[Socket, list[Socket]]:
    """Evaluate once per face what all four corners need."""
    node = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    graph.feed(node.inputs["Geometry"], geometry)
    names = ("Centre", "First", "Second", "Depth")
    for name, field in zip(names, fields):
        node.capture_items.new("FLOAT" if name == "Depth" else "VECTOR", name)
        graph.feed(node.inputs[name], field)
    return node.outputs["Geometry"], [node.outputs[name] for name in names]


def _move_corners(
    graph: Graph, geometry: Socket, centre: Socket, first: Socket, second: Socket
) -> Socket:
    corner = graph.call(
        "GeometryNodeInputNamedAttribute", {"Name": CORNER}, data_type="FLOAT_VECTOR"
    )
    across, up, _ = graph.separate(corner)
    offset = graph.vector("ADD", graph.scale(first, across), graph.scale(second, up))
    position = graph.vector("ADD", centre, offset)
    return graph.call("GeometryNodeSetPosition", {"Geometry": geometry, "Position": position})


def _sort(graph: Graph, geometry: Socket, depth: Socket, wanted: Socket) -> Socket:
    farthest_first = graph.math("MULTIPLY", depth, -1.0)
    inputs = {"Geometry": geometry, "Sort Weight": farthest_first}
    ordered = graph.call("GeometryNodeSortElements", inputs, domain="FACE")
    choice = {"Switch": wanted, "False": geometry, "True": ordered}
    return graph.call("GeometryNodeSwitch", choice, input_type="GEOMETRY")
