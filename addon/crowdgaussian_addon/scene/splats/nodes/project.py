# SPDX-License-Identifier: GPL-3.0-or-later
"""The geometry nodes that turn skinned splat quads to the camera.

The four vertices of a quad are c, c + s_x x, c + s_y y, c + s_z z of one Gaussian, moved with its
bones (skin.py); so the edges from the first vertex are the columns A of the square root of its
covariance A A^T, sheared by the blended bones exactly as linear blend skinning says.

The nodes then draw what 3D Gaussian Splatting draws (Kerbl et al. 2023; EWA splatting, Zwicker et
al. 2001), as geometry. Each quad lies in the plane through c that is parallel to the image. With X,
Y, F the camera's right, up and forward and v the ray to c, a point at c + a is seen where the ray
through it meets that plane: at (a . X', a . Y') with X' = X - F (v . X) / (v . F) and Y' likewise.
The columns of A seen so give the projected covariance; its Cholesky factor L spans the quad. So

- its fall-off exp(-(x^2 + y^2) / 2) in units of L's columns is the EWA footprint, and
- all of it has one depth, so a ray meets the quads in the order of their centres' depths, the
  order in which avatars are fitted.

3D Gaussian Splatting adds 0.3 square pixels to every projected covariance (gsplat's eps2d), and
avatars are fitted with it. The nodes add the same.

Speed: everything above is evaluated once per face; a vertex only fetches c and L of its face, by
index, and adds two multiples of X and Y. What an input switches off is not evaluated at all.
"""

from dataclasses import dataclass

import bpy

from ..material import CORNER, NORMAL, SHADED_NORMAL, VERSION_KEY
from .color import sort_nodes, view_dependent_colour
from .graph import Graph, Socket, Value, add_item, add_length, new_group
from .skin import INPUT_RIG, Axes, add_rig, can_skin, skinned_frame
from .view import View, view_nodes

VERSION = 3  # of the node groups
SPLAT_NODES = f"CrowdGaussian Splats v{VERSION}"
DEGREE_KEY = "crowdgaussian_sh_degree"  # property of our node groups
SKINS_KEY = "crowdgaussian_skins"  # theirs: whether they can read bones
INPUT_FOOTPRINT = "Footprint"
INPUT_DEPTH_SORT = "Depth Sort"
INPUT_MIN_SIZE = "Min Size"
INPUT_MAX_SIZE = "Max Size"
INPUT_LIT = "Normals for Lights"

DILATION = 0.3  # square pixels, as in 3D Gaussian Splatting
_FIRST = "CrowdGaussian Splats v1"
_TINY = 1e-14  # square metres
_WIDEST = 3.0  # tangent of the angle off the axis beyond which a splat's stretch grows no more


@dataclass(frozen=True)
class _Seen:
    """A Gaussian in the camera's plane, per face."""

    root: Socket  # (L11, L21, L22) of its projected covariance, metres at its depth
    far: Socket  # larger is farther


def splat_node_group(degree: int = 0) -> bpy.types.NodeTree:
    """The group shared by all people of a file with that degree; made on first use.

    Args:
        degree: of the spherical harmonics, 0..3. Degree 0 has no nodes for them.
    """
    present = (tree for tree in splat_node_groups() if tree[DEGREE_KEY] == degree)
    return next(present, None) or _build(degree)


def is_splat_group(tree: bpy.types.NodeTree | None) -> bool:
    """Whether a node group is ours, of any version."""
    return tree is not None and group_version(tree) > 0


def group_version(tree: bpy.types.NodeTree) -> int:
    """The version of one of our groups; 0 for a foreign one. The first carried it in its name."""
    if tree.get(VERSION_KEY) is not None:
        return int(tree[VERSION_KEY])
    return 1 if tree.name.startswith(_FIRST) else 0


def splat_node_groups() -> list[bpy.types.NodeTree]:
    """Those of this version that are in the file."""
    return [
        tree
        for tree in bpy.data.node_groups
        if tree.library is None
        and tree.get(DEGREE_KEY) is not None
        and tree.get(VERSION_KEY) == VERSION
        and is_current(tree)
    ]


def is_current(tree: bpy.types.NodeTree) -> bool:
    """Whether a group is of this version, or a newer one, and made for this Blender."""
    version = group_version(tree)
    return version > VERSION or (version == VERSION and bool(tree.get(SKINS_KEY)) == can_skin())


def _build(degree: int) -> bpy.types.NodeTree:
    name = f"{SPLAT_NODES} SH{degree}" if degree else SPLAT_NODES
    tree = new_group(name)
    tree[VERSION_KEY], tree[DEGREE_KEY], tree[SKINS_KEY] = VERSION, degree, can_skin()
    inputs = _interface(tree)
    graph = Graph(tree)
    view = view_nodes(graph)
    centre, skinned = skinned_frame(graph, inputs["Geometry"], inputs.get(INPUT_RIG))
    axes = _limit(graph, skinned, inputs[INPUT_MIN_SIZE], inputs[INPUT_MAX_SIZE])
    ray = graph.choose(
        view.orthographic, graph.vector("SUBTRACT", centre, view.place), view.forward
    )
    seen = _project(graph, axes, ray, view, inputs[INPUT_FOOTPRINT])
    geometry, (centre_of, root_of, far_of) = _capture(
        graph, inputs["Geometry"], (centre, seen.root, _farness(graph, centre, seen, view))
    )
    if degree:
        geometry = view_dependent_colour(graph, geometry, degree, skinned, ray)
    geometry = _lit(graph, geometry, skinned, inputs[INPUT_LIT])
    geometry, splat = sort_nodes(
        graph, geometry, far_of, inputs[INPUT_DEPTH_SORT], inputs[INPUT_LIT]
    )
    geometry = _move_corners(graph, geometry, (centre_of, root_of), splat, view)
    geometry = _shade(graph, geometry, inputs[INPUT_LIT])
    graph.feed(graph.node("NodeGroupOutput").inputs[0], geometry)
    return tree


def _interface(tree: bpy.types.NodeTree) -> dict[str, Socket]:
    new = tree.interface.new_socket
    new("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    new("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    sizes = {
        INPUT_FOOTPRINT: "Least blur: what one photo pixel covered, so that close views show no "
        "holes",
        INPUT_MIN_SIZE: "Thinner splats are thickened to this standard deviation; 0 for no limit",
        INPUT_MAX_SIZE: "Larger splats are shrunk to this standard deviation; 0 for no limit",
    }
    for name, description in sizes.items():
        add_length(tree, name, description)
    switches = {
        INPUT_DEPTH_SORT: "Order the splats from far to near, which EEVEE's blending needs",
        INPUT_LIT: "Turn the body's normals with the bones, for the material that lights shade",
    }
    for name, description in switches.items():
        new(name, in_out="INPUT", socket_type="NodeSocketBool").description = description
    add_rig(tree)
    group_input = tree.nodes.new("NodeGroupInput")
    return {socket.name: socket for socket in group_input.outputs if socket.name}


def _limit(graph: Graph, axes: Axes, least: Socket, most: Socket) -> Axes:
    """Axes no shorter and no longer than asked; nothing is evaluated without limits."""
    asked = graph.math("GREATER_THAN", graph.math("ADD", least, most), 0.0)
    no_end = graph.math("MULTIPLY", graph.math("LESS_THAN", most, 1e-9), 1e9)
    most = graph.math("MAXIMUM", graph.math("ADD", most, no_end), least)
    limited = []
    for axis in axes:
        length = graph.vector("LENGTH", axis)
        wanted = graph.math("MINIMUM", graph.math("MAXIMUM", length, least), most)
        shorter = graph.scale(axis, graph.math("DIVIDE", wanted, length))
        limited.append(graph.choose(asked, axis, shorter))
    x, y, z = limited
    return x, y, z


def _project(graph: Graph, axes: Axes, ray: Socket, view: View, footprint: Socket) -> _Seen:
    """The module's docstring from X' to L, with the spread added to both variances."""
    depth = graph.vector("DOT_PRODUCT", ray, view.forward)  # 1 without perspective
    per_depth = graph.math("DIVIDE", 1.0, depth)
    rows = []
    for axis in (view.right, view.up):
        slope = graph.math("MULTIPLY", graph.vector("DOT_PRODUCT", ray, axis), per_depth)
        slope = graph.math("MAXIMUM", graph.math("MINIMUM", slope, _WIDEST), -_WIDEST)
        seen_by = graph.vector("SUBTRACT", axis, graph.scale(view.forward, slope))
        rows.append(graph.combine(*(graph.vector("DOT_PRODUCT", a, seen_by) for a in axes)))
    spread = _spread(graph, graph.math("MULTIPLY", depth, view.pixel), footprint)
    xx = graph.math("ADD", graph.vector("DOT_PRODUCT", rows[0], rows[0]), spread)
    yy = graph.math("ADD", graph.vector("DOT_PRODUCT", rows[1], rows[1]), spread)
    xy = graph.vector("DOT_PRODUCT", rows[0], rows[1])
    first = graph.math("SQRT", xx)
    below = graph.math("DIVIDE", xy, first)
    rest = graph.math("SUBTRACT", yy, graph.math("MULTIPLY", below, below))
    second = graph.math("SQRT", graph.math("MAXIMUM", rest, _TINY))
    return _Seen(graph.combine(first, below, second), depth)


def _spread(graph: Graph, pixel: Socket, footprint: Socket) -> Socket:
    """Variance to add, in square metres at the Gaussian's depth."""
    pixels = graph.math("MULTIPLY", graph.math("MULTIPLY", pixel, pixel), DILATION)
    return graph.math("MAXIMUM", pixels, graph.math("MULTIPLY", footprint, footprint))


def _farness(graph: Graph, centre: Socket, seen: _Seen, view: View) -> Socket:
    along = graph.vector("DOT_PRODUCT", centre, view.forward)
    return graph.choose(view.orthographic, seen.far, along, "FLOAT")


def _capture(
    graph: Graph, geometry: Socket, fields: tuple[Socket, ...]
) -> tuple[Socket, list[Socket]]:
    """Evaluate once per face what its corners and the sorting need."""
    node = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    graph.feed(node.inputs["Geometry"], geometry)
    names = ("Centre", "Root", "Far")
    for name, field in zip(names, fields):
        add_item(node, "FLOAT" if name == "Far" else "VECTOR", name)
        graph.feed(node.inputs[name], field)
    return node.outputs["Geometry"], [node.outputs[name] for name in names]


def _move_corners(
    graph: Graph, geometry: Socket, seen: tuple[Socket, Socket], splat: Socket, view: View
) -> Socket:
    """c + X (x L11) + Y (x L21 + y L22) for the corner (x, y) of each vertex."""
    centre, root = (graph.of_face(values, splat) for values in seen)
    corner = graph.named(CORNER)
    x, y, _ = graph.separate(corner)
    first, below, second = graph.separate(root)
    across = graph.scale(view.right, graph.math("MULTIPLY", x, first))
    upward = graph.math("ADD", graph.math("MULTIPLY", x, below), graph.math("MULTIPLY", y, second))
    offset = graph.vector("ADD", across, graph.scale(view.up, upward))
    inputs = {"Geometry": geometry, "Position": centre, "Offset": offset}
    return graph.call("GeometryNodeSetPosition", inputs)


def _lit(graph: Graph, geometry: Socket, axes: Axes, wanted: Socket) -> Socket:
    """Store the normals for lights: M^-T n, by the cofactors of A = M R S."""
    local = graph.named(NORMAL)
    a, b, c = axes
    cofactors = [graph.vector("CROSS_PRODUCT", p, q) for p, q in ((b, c), (c, a), (a, b))]
    terms = [graph.scale(row, part) for row, part in zip(cofactors, graph.separate(local))]
    normal = graph.vector("ADD", graph.vector("ADD", terms[0], terms[1]), terms[2])
    inputs: dict[str, Value] = {
        "Geometry": geometry,
        "Name": SHADED_NORMAL,
        "Value": graph.vector("NORMALIZE", normal),
    }
    stored = graph.call(
        "GeometryNodeStoreNamedAttribute", inputs, data_type="FLOAT_VECTOR", domain="FACE"
    )
    return graph.choose(wanted, geometry, stored, "GEOMETRY")


def _shade(graph: Graph, geometry: Socket, wanted: Socket) -> Socket:
    """Quads with the stored normals in place of their own.

    A material's normal input would not do: Cycles lets no light fall on a surface from behind the
    mesh's normal, and that of a quad is the direction of the camera.
    """
    normal = graph.named(SHADED_NORMAL)
    face = graph.quad_of(graph.call("GeometryNodeInputIndex", {}))
    node = graph.node("GeometryNodeSetMeshNormal", mode="FREE", domain="POINT")
    graph.feed(node.inputs["Mesh"], geometry)
    graph.feed(node.inputs["Custom Normal"], graph.of_face(normal, face))
    return graph.choose(wanted, geometry, node.outputs[0], "GEOMETRY")
