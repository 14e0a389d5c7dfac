# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame range of an export: its options, and everybody recorded in one walk through it."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Protocol

import bpy
from bpy.props import IntProperty
from crowdgaussian_shared.errors import CrowdGaussianError

from ..scene.frames import each_frame

_MOST_FRAMES = 100_000


class Recorder(Protocol):
    """Takes down something of one person at the current frame."""

    def record(self) -> None:
        """Adds the current frame."""


class FrameRange:
    """First and last frame, mixed into an operator."""

    frame_start: IntProperty(name="Start", default=1, description="First frame")
    frame_end: IntProperty(name="End", default=250, description="Last frame")
    frame_step: IntProperty(name="Step", default=1, min=1, description="Every so many frames")

    def prepare(self, context: bpy.types.Context) -> None:
        """The frame range of the scene."""
        self.frame_start, self.frame_end = context.scene.frame_start, context.scene.frame_end

    def draw_frames(self, layout: bpy.types.UILayout) -> None:
        """The options."""
        for name in ("frame_start", "frame_end", "frame_step"):
            layout.prop(self, name)

    def frame_range(self) -> list[int]:
        """The frames, in order.

        Raises:
            CrowdGaussianError: none, or too many.
        """
        frames = range(self.frame_start, self.frame_end + 1, self.frame_step)
        if not 0 < len(frames) <= _MOST_FRAMES:
            raise CrowdGaussianError(
                f"The frame range {self.frame_start} to {self.frame_end} holds {len(frames)} "
                "frames; choose another one."
            )
        return list(frames)


def record(
    context: bpy.types.Context, frames: list[int], recorders: Sequence[Recorder]
) -> Iterator[tuple[float, str]]:
    """Lets every recorder see every frame; takes the first nine tenths of the progress."""
    with closing(each_frame(context.scene, frames)) as walk:
        for number, frame in enumerate(walk):
            yield 0.9 * number / len(frames), f"Frame {frame}"
            for recorder in recorders:
                recorder.record()
