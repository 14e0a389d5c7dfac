# SPDX-License-Identifier: GPL-3.0-or-later
"""A small vocabulary for writing node trees in code, one line per node."""

import bpy

Socket = bpy.types.NodeSocket
Value = Socket | float | int | bool | str | tuple

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
            socket.default_value = value

    def call(self, kind: str, inputs: dict[str | int, Value], **settings: object) -> Socket:
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
        inputs = {0: vector, "Scale": factor}
        return self.call("ShaderNodeVectorMath", inputs, operation="SCALE")

    def combine(self, x: Value, y: Value, z: Value) -> Socket:
        """A vector from three scalars."""
        return self.call("ShaderNodeCombineXYZ", {0: x, 1: y, 2: z})

    def separate(self, vector: Value) -> tuple[Socket, Socket, Socket]:
        """The three scalars of a vector."""
        node = self.node("ShaderNodeSeparateXYZ")
        self.feed(node.inputs[0], vector)
        return tuple(node.outputs)

    def choose(self, switch: Value, false: Value, true: Value, kind: str = "VECTOR") -> Socket:
        """One of two; what is not chosen is not evaluated when the switch is a single value."""
        inputs = {"Switch": switch, "False": false, "True": true}
        return self.call("GeometryNodeSwitch", inputs, input_type=kind)

    def of_face(self, vector: Socket, index: Socket) -> Socket:
        """A vector of the face with that index."""
        inputs = {"Value": vector, "Index": index}
        return self.call(
            "GeometryNodeFieldAtIndex", inputs, data_type="FLOAT_VECTOR", domain="FACE"
        )


def _input(node: bpy.types.Node, key: str | int) -> Socket:
    if isinstance(key, int):
        return node.inputs[key]
    return next(socket for socket in node.inputs if socket.name == key and socket.enabled)
