# SPDX-License-Identifier: Apache-2.0
"""What Blender's armature makes of splats, against the numpy skinning reference."""

import bpy
import numpy as np
from crowdgaussian_addon.scene.attributes import read_positions
from crowdgaussian_addon.scene.splats.build import MODIFIER
from crowdgaussian_shared.geometry.axes import convert_gaussians
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.skinning import pose_avatar

TOLERANCE = 1e-4  # metres


def deformed(obj):
    """World positions after the armature alone.  # [V, 3]"""
    nodes = obj.modifiers.get(MODIFIER)
    if nodes is not None:
        nodes.show_viewport = False
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
    np.testing.assert_allclose(got / size, covariance / size, atol=TOLERANCE / 10)
