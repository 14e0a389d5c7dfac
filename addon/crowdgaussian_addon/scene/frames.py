# SPDX-License-Identifier: GPL-3.0-or-later
"""Walking through frames and coming back to the one where the user was."""

from collections.abc import Iterator, Sequence

import bpy


def each_frame(scene: bpy.types.Scene, frames: Sequence[int]) -> Iterator[int]:
    """Go to each frame in turn; afterwards, also when stopped early, the scene is where it was.

    A single frame that is the current one is not entered again, so that a pose without keys stays.
    """
    current, subframe = scene.frame_current, scene.frame_subframe
    if list(frames) == [current]:
        yield current
        return
    try:
        for frame in frames:
            scene.frame_set(frame)
            yield frame
    finally:
        scene.frame_set(current, subframe=subframe)
