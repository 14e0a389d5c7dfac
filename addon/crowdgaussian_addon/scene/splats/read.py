# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's canonical Gaussians read back from their mesh, to the steps of the table in material.

The quads tell where the Gaussians are and how they lie, so that edits of the mesh count. Rotation
and scales are also kept as attributes, because axes that are tips minus centres have lost digits;
the attributes are used wherever they still say the same as the quads.
"""

import bpy
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.axes import SCENE_FROM_BLENDER, convert_points, convert_quats
from crowdgaussian_shared.geometry.rotations import matrix_to_quat, quat_to_matrix
from crowdgaussian_shared.geometry.sh import colour_to_sh, rotate_sh

from ..attributes import mesh_data, read_attribute, read_positions, values_of
from ..rig.armature import REST_OFFSET, rest_offset
from .material import (
    COLOUR,
    JOINT,
    LOOK_STEP,
    MAX_COEFFICIENTS,
    MIN_SCALE,
    ROTATION,
    SCALE,
    SH_PREFIX,
    SLOTS,
    TIP_STEP,
    WEIGHTS,
)

_SAME = TIP_STEP  # metres: what the tips of a person's quads may have lost when stored
_SAME_EXACT = 1e-6  # metres: what float32 rounds off positions
_SQUARE = 0.02  # cosine between two axes that still counts as orthogonal


def read_gaussians(obj: bpy.types.Object) -> Gaussians:
    """The canonical Gaussians of a splat object, whatever it shows now.

    Args:
        obj: a splat object made by build_splats, of this version or an older one.

    Returns:
        N Gaussians in the canonical (SMPL-X) frame, float32. people.read_weights(obj,
        vertices_per_row=4) has their weights.

    Raises:
        InputError: the mesh has lost its colours, its quads or its rig.
    """
    mesh = mesh_data(obj)
    look = read_attribute(mesh, COLOUR)
    points = _quads(obj)
    if look is None or len(look) != len(points):
        raise _not_splats(obj)
    rig = _rig(obj)
    points = points - rest_offset(rig)
    quats, scales = _shape(mesh, points, exact=rig == obj)
    return Gaussians(
        means=convert_points(points[:, 0], "blender", "scene").astype(np.float32),
        quats=convert_quats(quats, "blender", "scene").astype(np.float32),
        scales=scales.astype(np.float32),
        opacities=look[:, 3].copy(),
        sh=_read_sh(mesh, look),
    )


def read_splat_weights(mesh: bpy.types.Mesh) -> tuple[np.ndarray, np.ndarray] | None:
    """Joints and weights of splats that the nodes carry; None where vertex groups hold them.

    Returns:
        [N, 4] uint8 and [N, 4] float32.
    """
    joints = [read_attribute(mesh, f"{JOINT}{slot}") for slot in range(SLOTS)]
    weights = read_attribute(mesh, WEIGHTS)
    if weights is None or any(values is None for values in joints):
        return None
    return np.stack(joints, axis=1).astype(np.uint8), weights


def _not_splats(obj: bpy.types.Object) -> InputError:
    return InputError(
        f"{obj.name} is no longer a mesh of splats; undo its editing or import the crowd again."
    )


def _rig(obj: bpy.types.Object) -> bpy.types.Object:
    if obj.get(REST_OFFSET) is not None:  # splats without a rig, see static_splats
        return obj
    bound = (m for m in obj.modifiers if isinstance(m, bpy.types.ArmatureModifier))
    rigs = (m.object for m in bound if m.object)
    rig = next(rigs, obj.parent)
    if rig is None:
        raise InputError(f"The rig of {obj.name} was deleted; undo that or import the crowd again.")
    return rig


def _quads(obj: bpy.types.Object) -> np.ndarray:
    """The four rest points of every face.  # [N, 4, 3] float64"""
    mesh = mesh_data(obj)
    if len(mesh.loops) != 4 * len(mesh.polygons):
        raise _not_splats(obj)
    corners = np.empty(len(mesh.loops), np.int32)
    values_of(mesh.attributes[".corner_vert"]).foreach_get("value", corners)
    return read_positions(mesh).astype(np.float64)[corners].reshape(-1, 4, 3)


def _shape(mesh: bpy.types.Mesh, points: np.ndarray, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [N, 4] in Blender's axes and scales [N, 3]; `exact` tells build_mesh's choice."""
    axes = (points[:, 1:] - points[:, :1]).transpose(0, 2, 1)  # [N, 3, 3], columns
    stored = read_attribute(mesh, ROTATION), read_attribute(mesh, SCALE)
    if stored[0] is None or stored[1] is None:
        return _factor(axes)
    quats, scales = (values.astype(np.float64) for values in stored)
    wanted = quat_to_matrix(quats) * np.maximum(scales, MIN_SCALE)[:, None, :]
    slack = _SAME_EXACT if exact else _SAME + 2 * LOOK_STEP * scales.max(axis=1)
    edited = np.abs(wanted - axes).max(axis=(1, 2)) > slack
    if edited.any():
        quats[edited], scales[edited] = _factor(axes[edited])
    return quats, scales


def _factor(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quads of rotated, scaled or sheared Gaussians into rotations and scales."""
    scales = np.linalg.norm(axes, axis=1)  # [N, 3]
    turned = axes / np.maximum(scales, 1e-12)[:, None, :]
    gram = np.abs(turned.transpose(0, 2, 1) @ turned - np.eye(3)).max(axis=(1, 2))
    sheared = gram > _SQUARE
    if sheared.any():
        turned[sheared], scales[sheared], _ = np.linalg.svd(axes[sheared])
    turned[np.linalg.det(turned) < 0, :, 2] *= -1
    return matrix_to_quat(_square_up(turned)), scales


def _square_up(axes: np.ndarray) -> np.ndarray:
    """The rotation nearest to axes that are orthogonal up to rounding."""
    u, _, vt = np.linalg.svd(axes)
    return u @ vt


def _read_sh(mesh: bpy.types.Mesh, look: np.ndarray) -> np.ndarray:
    bands = [colour_to_sh(look[:, :3])[:, 0].astype(np.float32)]
    for k in range(1, MAX_COEFFICIENTS):
        band = read_attribute(mesh, f"{SH_PREFIX}{k}")
        if band is None:
            break
        bands.append(band)
    degree = int(np.sqrt(len(bands)))
    sh = np.stack(bands[: degree**2], axis=1)
    return rotate_sh(sh, SCENE_FROM_BLENDER.astype(np.float32))
