# SPDX-License-Identifier: GPL-3.0-or-later
"""Walking through frames and coming back to where the user was."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import bpy
import numpy as np

_SAME = 1e-6


def each_frame(scene: bpy.types.Scene, frames: Sequence[int]) -> Iterator[int]:
    """Go to each frame in turn; afterwards, also when stopped early, the scene is where it was.

    A single frame that is the current one is not entered again, so that a pose without keys stays.
    """
    current, subframe = scene.frame_current, scene.frame_subframe
    if list(frames) == [current]:
        yield current
        return
    with poses_kept(scene):
        try:
            for frame in frames:
                scene.frame_set(frame)
                yield frame
        finally:
            scene.frame_set(current, subframe=subframe)


@contextmanager
def poses_kept(scene: bpy.types.Scene) -> Iterator[None]:
    """What the user moved without setting keys would jump back to its keys; here it does not."""
    owners = [owner for obj in scene.objects
              for owner in (obj, *(obj.pose.bones if obj.type == "ARMATURE" else ()))]
    before = [owner.matrix_basis.copy() for owner in owners]
    try:
        yield
    finally:
        bpy.context.view_layer.update()
        for owner, matrix in zip(owners, before):
            if np.abs(np.array(owner.matrix_basis) - np.array(matrix)).max() > _SAME:
                owner.matrix_basis = matrix
        bpy.context.view_layer.update()
