# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the bones carry each splat: blended once per splat, or left by an Armature modifier.

An Armature modifier blends bones for each of a quad's four vertices, through vertex groups; that is
more than half of what a posed person costs a frame. Where Blender's nodes can read bones (5.2), the
four strongest joints and their weights are attributes of the splat, its affine is blended once, and
centre and edges of the quad go through it: the same linear blend skinning, a splat at a time.

Meshes with vertex groups (older files, painted weights, older Blenders) have no rig as input; their
vertices come as the Armature modifier left them.
"""

from typing import cast

import bpy
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES

from ..material import JOINT, SLOTS, WEIGHTS
from .graph import Graph, Socket, Value, add_item, new_group

INPUT_RIG = "Rig"

Axes = tuple[Socket, Socket, Socket]
_COLUMNS = {  # of a bone's affine: what becomes of the axes, and of the origin
    "X": (1.0, 0.0, 0.0),
    "Y": (0.0, 1.0, 0.0),
    "Z": (0.0, 0.0, 1.0),
    "Place": (0.0, 0.0, 0.0),
}
_CENTRE, _EDGES = "Centre", ("Edge X", "Edge Y", "Edge Z")
_NAME = "CrowdGaussian Skin"
_VERSION_KEY = "crowdgaussian_skin_version"  # negative: made where nodes cannot read bones
_VERSION = 1


def can_skin() -> bool:
    """Whether the nodes of this Blender can read bones: 5.2 and later.

    5.1 has the node, but not its output Exists, which tells an empty input from a rig.
    """
    return bpy.app.version >= (5, 2)


def add_rig(tree: bpy.types.NodeTree) -> None:
    """The rig as an input of a group, where nodes can read bones."""
    if can_skin():
        socket = tree.interface.new_socket(
            INPUT_RIG, in_out="INPUT", socket_type="NodeSocketObject"
        )
        socket.description = "Whose bones carry the splats; none where an Armature modifier does"


def skinned_frame(graph: Graph, geometry: Socket, rig: Socket | None) -> tuple[Socket, Axes]:
    """Per face: the centre and the three edges A of a posed quad.

    Args:
        graph: the tree under construction.
        geometry: socket of the splats.
        rig: whose bones carry them; None or an empty input where a modifier did it.
    """
    node = graph.node("GeometryNodeGroup", node_tree=_skin_group())
    graph.feed(node.inputs["Geometry"], geometry)
    if rig is not None:
        graph.feed(node.inputs[INPUT_RIG], rig)
    centre, x, y, z = (node.outputs[name] for name in (_CENTRE, *_EDGES))
    return centre, (x, y, z)


def _skin_group() -> bpy.types.NodeTree:
    """The nodes of this module, shared by all groups of a file: Blender checks all nodes of a group
    with each link that is made in it, so two groups are made in a third of the time of one."""
    version = _VERSION if can_skin() else -_VERSION
    present = (tree for tree in bpy.data.node_groups if tree.get(_VERSION_KEY) == version)
    return next(present, None) or _build(version)


def _build(version: int) -> bpy.types.NodeTree:
    tree = new_group(_NAME)
    tree.is_modifier = False
    tree[_VERSION_KEY] = version
    new = tree.interface.new_socket
    new("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    for name in (_CENTRE, *_EDGES):
        new(name, in_out="OUTPUT", socket_type="NodeSocketVector")
    add_rig(tree)
    graph = Graph(tree)
    given = {socket.name: socket for socket in graph.node("NodeGroupInput").outputs}
    out = graph.node("NodeGroupOutput")
    frame = _posed(graph, given["Geometry"], given.get(INPUT_RIG))
    for name, socket in zip((_CENTRE, *_EDGES), frame):
        graph.feed(out.inputs[name], socket)
    return tree


def _posed(graph: Graph, geometry: Socket, rig: Socket | None) -> list[Socket]:
    bones = _bones(graph, rig) if rig is not None else None  # first: most of the nodes
    centre, *tips = _corners(graph, geometry)
    edges = [graph.vector("SUBTRACT", tip, centre) for tip in tips]
    if bones is None:
        return [centre, *edges]
    table, given = bones
    linear, place = _blend(graph, table)
    moved = graph.vector("ADD", _turn(graph, linear, centre), place)
    turned = [_turn(graph, linear, edge) for edge in edges]
    return [graph.choose(given, *pair) for pair in zip((centre, *edges), (moved, *turned))]


def _corners(graph: Graph, geometry: Socket) -> list[Socket]:
    """The four vertices of each face."""
    first = graph.integer("MULTIPLY", graph.call("GeometryNodeInputIndex", {}), 4)
    position = graph.call("GeometryNodeInputPosition", {})
    points = []
    for corner in range(4):
        index = graph.integer("ADD", first, corner) if corner else first
        inputs = {"Geometry": geometry, "Value": position, "Index": index}
        points.append(
            graph.call("GeometryNodeSampleIndex", inputs, data_type="FLOAT_VECTOR", domain="POINT")
        )
    return points


def _bones(graph: Graph, rig: Socket) -> tuple[bpy.types.Node, Socket]:
    """A point for each joint that holds the columns of its affine, and whether there is a rig.

    Pose and rest are told in the splats' own space, so P R^-1 is what the modifier would apply.
    """
    index = graph.call("GeometryNodeInputIndex", {})
    pose, rest = (_one_of(graph, index) for _ in range(2))
    bone = None
    for number, name in enumerate(JOINT_NAMES, start=1):
        bone = graph.node("GeometryNodeBoneInfo", transform_space="RELATIVE")
        graph.feed(bone.inputs["Armature"], rig)
        graph.feed(bone.inputs["Bone Name"], name)
        graph.feed(pose.inputs[number], bone.outputs["Pose"])
        graph.feed(rest.inputs[number], bone.outputs["Rest Pose"])
    back = graph.call("FunctionNodeInvertMatrix", {0: rest.outputs[0]})
    affine = graph.call("FunctionNodeMatrixMultiply", {0: pose.outputs[0], 1: back})
    node = graph.node("GeometryNodeCaptureAttribute", domain="POINT")
    points = graph.call("GeometryNodePoints", {"Count": len(JOINT_NAMES)})
    graph.feed(node.inputs["Geometry"], points)
    for name, axis in _COLUMNS.items():
        kind = "Direction" if any(axis) else "Point"
        inputs: dict[int, Value] = {0: axis, 1: affine}
        column = graph.call(f"FunctionNodeTransform{kind}", inputs)
        add_item(node, "VECTOR", name)
        graph.feed(node.inputs[name], column)
    return node, bone.outputs["Exists"]


def _one_of(graph: Graph, index: Socket) -> bpy.types.Node:
    """A node that hands on the matrix of the joint at each index."""
    node = graph.node("GeometryNodeIndexSwitch", data_type="MATRIX")
    items = cast(bpy.types.GeometryNodeIndexSwitch, node).index_switch_items
    while len(items) < len(JOINT_NAMES):
        items.new()
    graph.feed(node.inputs[0], index)
    return node


def _blend(graph: Graph, bones: bpy.types.Node) -> tuple[Axes, Socket]:
    """Per face: the columns of the blended affine, linear part and place."""
    stored = graph.named(WEIGHTS, "FLOAT_COLOR")
    weights = graph.node("FunctionNodeSeparateColor")
    graph.feed(weights.inputs[0], stored)
    sums: list[Socket] = []
    for slot, weight in zip(range(SLOTS), weights.outputs):
        joint = graph.named(f"{JOINT}{slot}", "INT")
        columns = [_column(graph, bones, name, joint) for name in _COLUMNS]
        if sums:
            sums = [graph.add_scaled(s, column, weight) for s, column in zip(sums, columns)]
        else:
            sums = [graph.scale(column, weight) for column in columns]
    x, y, z, place = sums
    return (x, y, z), place


def _column(graph: Graph, bones: bpy.types.Node, name: str, joint: Socket) -> Socket:
    inputs = {"Geometry": bones.outputs["Geometry"], "Value": bones.outputs[name], "Index": joint}
    return graph.call("GeometryNodeSampleIndex", inputs, data_type="FLOAT_VECTOR", domain="POINT")


def _turn(graph: Graph, columns: Axes, vector: Socket) -> Socket:
    """The matrix of those columns times a vector."""
    x, y, z = graph.separate(vector)
    part = graph.add_scaled(graph.scale(columns[0], x), columns[1], y)
    return graph.add_scaled(part, columns[2], z)


# Blender's own splats (5.3): a point each, with centre, rotation and scale in place of edges

_NATIVE = "CrowdGaussian Native Splats"


def native_group(position: str, rotation: str, scale: str) -> bpy.types.NodeTree:
    """The group that poses point clouds of canonical Gaussians; made on first use.

    With the blended affine M and A = M R S, the singular values of A are the scales of the posed
    Gaussian and its left vectors the rotation: A A^T exactly, as of the quads.

    Args:
        position, rotation, scale: names of the attributes that Blender draws.
    """
    return bpy.data.node_groups.get(_NATIVE) or _build_native(position, rotation, scale)


def _build_native(position: str, rotation: str, scale: str) -> bpy.types.NodeTree:
    tree = new_group(_NATIVE)
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    add_rig(tree)
    graph = Graph(tree)
    given = {socket.name: socket for socket in graph.node("NodeGroupInput").outputs}
    table, _ = _bones(graph, given[INPUT_RIG])
    linear, place = _blend(graph, table)
    centre = graph.vector("ADD", _turn(graph, linear, graph.named(position)), place)
    turn, sizes = graph.named(rotation, "QUATERNION"), graph.named(scale)
    matrix = graph.node("FunctionNodeCombineMatrix")
    for column, (axis, size) in enumerate(zip(list(_COLUMNS.values())[:3], graph.separate(sizes))):
        inputs: dict[str, Value] = {"Vector": graph.scale(axis, size), "Rotation": turn}
        edge = _turn(graph, linear, graph.call("FunctionNodeRotateVector", inputs))
        for row, part in enumerate(graph.separate(edge)):
            graph.feed(matrix.inputs[4 * column + row], part)
    moved = _stored(graph, given["Geometry"], matrix.outputs[0], rotation, scale)
    moved = graph.call("GeometryNodeSetPosition", {"Geometry": moved, "Position": centre})
    graph.feed(graph.node("NodeGroupOutput").inputs[0], moved)
    return tree


def _stored(graph: Graph, cloud: Socket, edges: Socket, rotation: str, scale: str) -> Socket:
    """Points that lie as the factors U S of a matrix per point say; fields are read before."""
    capture = graph.node("GeometryNodeCaptureAttribute", domain="POINT")
    parts = graph.node("FunctionNodeMatrixSVD")
    graph.feed(parts.inputs[0], edges)
    graph.feed(capture.inputs["Geometry"], cloud)
    first, second = (_image(graph, parts.outputs["U"], name) for name in ("X", "Y"))
    fields = {"First": first, "Second": second, "Size": parts.outputs["S"]}
    for name, field in fields.items():
        add_item(capture, "VECTOR", name)
        graph.feed(capture.inputs[name], field)
    axes = graph.node("FunctionNodeAxesToRotation", primary_axis="X", secondary_axis="Y")
    graph.feed(axes.inputs[0], capture.outputs["First"])
    graph.feed(axes.inputs[1], capture.outputs["Second"])
    stored = capture.outputs["Geometry"]
    values = ((rotation, "QUATERNION", axes.outputs[0]),
              (scale, "FLOAT_VECTOR", capture.outputs["Size"]))  # fmt: skip
    for name, kind, value in values:
        inputs: dict[str, Value] = {"Geometry": stored, "Name": name, "Value": value}
        stored = graph.call("GeometryNodeStoreNamedAttribute", inputs, data_type=kind)
    return stored


def _image(graph: Graph, matrix: Socket, name: str) -> Socket:
    """What a matrix makes of an axis."""
    inputs: dict[int, Value] = {0: _COLUMNS[name], 1: matrix}
    return graph.call("FunctionNodeTransformDirection", inputs)
