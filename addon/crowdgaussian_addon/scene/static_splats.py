# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats without a rig: what other programs made, as one object that stands where it is put."""

from collections.abc import Iterable

import bpy
import numpy as np
from crowdgaussian_shared.gaussians import Gaussians

from .rig import REST_OFFSET
from .splat_format import CORNER
from .splats import build_mesh, dress


def build_static_splats(gaussians: Gaussians, name: str) -> bpy.types.Object:
    """A splat object of Gaussians in the scene frame; the caller links it to a collection."""
    obj = bpy.data.objects.new(name, build_mesh(gaussians, np.zeros(3), name))
    obj[REST_OFFSET] = [0.0, 0.0, 0.0]  # to read_gaussians they are their own rig
    dress(obj, None, gaussians.sh_degree)
    return obj


def static_splats(objects: Iterable[bpy.types.Object]) -> list[bpy.types.Object]:
    """Those of the objects that are splats without a rig."""
    meshes = (obj for obj in objects if obj.type == "MESH" and REST_OFFSET in obj)
    return [obj for obj in meshes if CORNER in obj.data.attributes]
