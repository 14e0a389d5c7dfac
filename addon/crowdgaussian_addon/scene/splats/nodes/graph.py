# SPDX-License-Identifier: GPL-3.0-or-later
"""A small vocabulary for writing node trees in code, one line per node."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import bpy

Socket = bpy.types.NodeSocket
Value = Socket | float | int | bool | str | tuple
Inputs = Mapping[str, Value] | Mapping[int, Value] | Mapping[str | int, Value]

_COLUMN, _ROW, _ROWS = 190, 160, 8  # layout in the node editor, pixels and nodes


class Graph:
    """Adds nodes to a tree; every method returns the output socket that the next line needs."""

    def __init__(self, tree: bpy.types.NodeTree) -> None:
        self.tree = tree

    def node(self, kind: str, **settings: object) -> bpy.types.Node:
        """A new node with its properties set, placed after those already there."""
        node = self.tree.nodes.new(kind)
        index = len(self.tree.nodes) - 1
        node.location = (index // _ROWS * _COLUMN, -(index % _ROWS) * _ROW)
        for key, value in settings.items():
            setattr(node, key, value)
        return node

    def feed(self, socket: Socket, value: Value) -> None:
        """Link an output socket, or set a constant, on an input socket."""
        if isinstance(value, Socket):
            self.tree.links.new(value, socket)
        else:
            set_default(socket, value)

    def call(self, kind: str, inputs: Inputs, **settings: object) -> Socket:
        """A node with inputs by name or number; returns its first enabled output."""
        node = self.node(kind, **settings)
        for key, value in inputs.items():
            self.feed(_input(node, key), value)
        return next(output for output in node.outputs if output.enabled)

    def math(self, operation: str, *values: Value) -> Socket:
        """A scalar operation."""
        return self.call("ShaderNodeMath", dict(enumerate(values)), operation=operation)

    def integer(self, operation: str, *values: Value) -> Socket:
        """An integer operation."""
        return self.call("FunctionNodeIntegerMath", dict(enumerate(values)), operation=operation)

    def vector(self, operation: str, *values: Value) -> Socket:
        """A vector operation; DOT_PRODUCT and LENGTH give a scalar."""
        return self.call("ShaderNodeVectorMath", dict(enumerate(values)), operation=operation)

    def scale(self, vector: Value, factor: Value) -> Socket:
        """A vector times a scalar."""
        inputs: dict[str | int, Value] = {0: vector, "Scale": factor}
        return self.call("ShaderNodeVectorMath", inputs, operation="SCALE")

    def add_scaled(self, total: Value, vector: Value, factor: Value) -> Socket:
        """A vector and another one times a scalar, in one node."""
        inputs: dict[int, Value] = {0: vector, 1: factor, 2: total}
        return self.call("ShaderNodeVectorMath", inputs, operation="MULTIPLY_ADD")

    def quad_of(self, index: Socket) -> Socket:
        """The quad of the vertex with that index; a shift, as dividing takes five times as long."""
        inputs: dict[str, Value] = {"A": index, "Shift": -2}
        return self.call("FunctionNodeBitMath", inputs, operation="SHIFT")

    def combine(self, x: Value, y: Value, z: Value) -> Socket:
        """A vector from three scalars."""
        return self.call("ShaderNodeCombineXYZ", {0: x, 1: y, 2: z})

    def separate(self, vector: Value) -> tuple[Socket, Socket, Socket]:
        """The three scalars of a vector."""
        node = self.node("ShaderNodeSeparateXYZ")
        self.feed(node.inputs[0], vector)
        x, y, z = tuple(node.outputs)
        return x, y, z

    def choose(self, switch: Value, false: Value, true: Value, kind: str = "VECTOR") -> Socket:
        """One of two; what is not chosen is not evaluated when the switch is a single value."""
        inputs = {"Switch": switch, "False": false, "True": true}
        return self.call("GeometryNodeSwitch", inputs, input_type=kind)

    def named(self, name: str, kind: str = "FLOAT_VECTOR") -> Socket:
        """An attribute by its name."""
        return self.call("GeometryNodeInputNamedAttribute", {"Name": name}, data_type=kind)

    def of_face(self, vector: Socket, index: Socket) -> Socket:
        """A vector of the face with that index."""
        inputs = {"Value": vector, "Index": index}
        return self.call(
            "GeometryNodeFieldAtIndex", inputs, data_type="FLOAT_VECTOR", domain="FACE"
        )


def set_default(socket: Socket, value: object) -> None:
    """The constant of an input; all its types have one, only their base class does not."""
    cast(Any, socket).default_value = value


def add_item(node: bpy.types.Node, kind: Literal["FLOAT", "INT", "VECTOR"], name: str) -> None:
    """One more field for a node that captures attributes."""
    cast(bpy.types.GeometryNodeCaptureAttribute, node).capture_items.new(kind, name)


def add_length(tree: bpy.types.NodeTree, name: str, description: str) -> None:
    """A length as an input of a group, metres, not below 0."""
    socket = cast(
        bpy.types.NodeTreeInterfaceSocketFloat,
        tree.interface.new_socket(name, in_out="INPUT", socket_type="NodeSocketFloat"),
    )
    socket.subtype, socket.min_value, socket.description = "DISTANCE", 0.0, description


def group_inputs(tree: bpy.types.NodeTree) -> list[bpy.types.NodeTreeInterfaceSocket]:
    """What a group takes in."""
    items = tree.interface.items_tree
    sockets = [item for item in items if isinstance(item, bpy.types.NodeTreeInterfaceSocket)]
    return [socket for socket in sockets if socket.in_out == "INPUT"]


def new_group(name: str) -> bpy.types.GeometryNodeTree:
    """An empty group of geometry nodes that a modifier can run."""
    new = bpy.data.node_groups.new(name, "GeometryNodeTree")
    tree = cast(bpy.types.GeometryNodeTree, new)
    tree.is_modifier = True
    return tree


def _input(node: bpy.types.Node, key: str | int) -> Socket:
    if isinstance(key, int):
        return node.inputs[key]
    return next(socket for socket in node.inputs if socket.name == key and socket.enabled)
