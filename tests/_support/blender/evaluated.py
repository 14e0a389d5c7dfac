# SPDX-License-Identifier: Apache-2.0
"""What Blender's bones make of splats, against the numpy skinning reference."""

import bpy
import numpy as np
from crowdgaussian_addon.scene.attributes import read_positions
from crowdgaussian_addon.scene.splats.build import add_nodes, follow, is_splats
from crowdgaussian_addon.scene.splats.nodes.graph import Graph, add_item, new_group
from crowdgaussian_addon.scene.splats.nodes.skin import INPUT_RIG, add_rig, skinned_frame
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.skinning import pose_avatar

TOLERANCE = 1e-4  # metres


QUADS = "Posed quads"  # modifier


def show_posed_quads(obj):
    """Let splats be what the bones made of them, before any camera: c and c + A's columns."""
    for modifier in list(obj.modifiers):
        if modifier.type == "NODES":
            modifier.show_viewport = False
    add_nodes(obj, QUADS, _quads_group())
    follow(obj)


def _quads_group():
    present = bpy.data.node_groups.get(QUADS)
    if present is not None:
        return present
    tree = new_group(QUADS)
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    add_rig(tree)
    graph = Graph(tree)
    given = {socket.name: socket for socket in graph.node("NodeGroupInput").outputs}
    centre, edges = skinned_frame(graph, given["Geometry"], given.get(INPUT_RIG))
    capture = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    graph.feed(capture.inputs["Geometry"], given["Geometry"])
    index = graph.call("GeometryNodeInputIndex", {})
    face = graph.integer("DIVIDE", index, 4)
    corner = graph.node("GeometryNodeIndexSwitch", data_type="VECTOR")
    graph.feed(corner.inputs[0], graph.integer("MODULO", index, 4))
    tips = [centre, *(graph.vector("ADD", centre, edge) for edge in edges)]
    for number, tip in enumerate(tips, start=1):
        if number > len(corner.index_switch_items):
            corner.index_switch_items.new()
        add_item(capture, "VECTOR", f"Tip {number}")
        graph.feed(capture.inputs[f"Tip {number}"], tip)
        tip = graph.of_face(capture.outputs[f"Tip {number}"], face)
        graph.feed(corner.inputs[number], tip)
    inputs = {"Geometry": capture.outputs["Geometry"], "Position": corner.outputs[0]}
    moved = graph.call("GeometryNodeSetPosition", inputs)
    graph.feed(graph.node("NodeGroupOutput").inputs[0], moved)
    return tree


def deformed(obj):
    """World positions after the bones alone.  # [V, 3]"""
    if is_splats(obj) and QUADS not in obj.modifiers:
        show_posed_quads(obj)
    bpy.context.view_layer.update()
    evaluated = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    local = read_positions(evaluated.data).astype(np.float64)
    world = np.array(evaluated.matrix_world)
    return local @ world[:3, :3].T + world[:3, 3]


def check_splats(person, avatar, pose, transl):
    points = deformed(person.splats).reshape(-1, 4, 3)
    axes = (points[:, 1:] - points[:, :1]).transpose(0, 2, 1)  # [N, 3, 3], columns
    wanted = convert_gaussians(pose_avatar(avatar, pose, transl), "scene", "blender")
    np.testing.assert_allclose(points[:, 0], wanted.means, atol=TOLERANCE)
    rotations = quat_to_matrix(wanted.quats.astype(np.float64)) * wanted.scales[:, None, :]
    covariance = rotations @ rotations.transpose(0, 2, 1)
    size = wanted.scales.max(axis=1)[:, None, None].astype(np.float64)
    got = axes @ axes.transpose(0, 2, 1)
    np.testing.assert_allclose(got / size, covariance / size, atol=TOLERANCE / 3)
