# SPDX-License-Identifier: GPL-3.0-or-later
"""IK controls and motion: what one of them says is keyed on the other, frame by frame."""

from collections.abc import Iterator

import bpy

from .controls import (
    LIMBS,
    Matrices,
    key_controls,
    key_limb,
    place_controls,
    pose_matrices,
    set_limb,
)

Recording = dict[int, dict[str, Matrices]]  # frame -> rig's name -> pose


def motion_range(rig: bpy.types.Object) -> tuple[int, int] | None:
    """First and last frame that a rig's keys say anything about; None without keys."""
    data = rig.animation_data
    if data is None:
        return None
    ranges = [tuple(data.action.frame_range)] if data.action is not None else []
    tracks = (track for track in data.nla_tracks if not track.mute)
    ranges += [(s.frame_start, s.frame_end) for track in tracks for s in track.strips]
    if not ranges:
        return None
    return round(min(low for low, _ in ranges)), round(max(high for _, high in ranges))


def record(
    scene: bpy.types.Scene, rigs: list[bpy.types.Object], frames: list[int]
) -> Iterator[tuple[int, Recording]]:
    """Play frames and note everybody's pose; yields after each frame, ends where it began."""
    start, noted = scene.frame_current, {}
    try:
        for frame in frames:
            scene.frame_set(frame)
            noted[frame] = {rig.name: pose_matrices(rig) for rig in rigs}
            yield frame, noted
    finally:
        if frames:
            scene.frame_set(start)


def key_recording(
    rig: bpy.types.Object, names: list[str], recording: Recording, on_controls: bool
) -> None:
    """Key limbs' controls, or the limbs' own bones, as recorded."""
    put, key = (place_controls, key_controls) if on_controls else (set_limb, key_limb)
    for frame, poses in recording.items():
        for name in names:
            put(rig, name, poses[rig.name])
            key(rig, name, frame)


def keep_limbs(rig: bpy.types.Object, names: list[str]) -> None:
    """Keys of a pose that does not move follow the limbs as they are set now."""
    frames = motion_range(rig)
    if frames is not None and frames[0] == frames[1]:
        for name in names:
            key_limb(rig, name, frames[0])


def moving_frames(rigs: list[bpy.types.Object]) -> list[int]:
    """Every frame in which any of the rigs moves by keys."""
    ranges = [r for r in map(motion_range, rigs) if r is not None and r[1] > r[0]]
    if not ranges:
        return []
    return list(range(min(low for low, _ in ranges), max(high for _, high in ranges) + 1))


def all_limbs(choice: str) -> list[str]:
    """Limbs named by "ARMS", "LEGS" or "ALL"."""
    return [name for name in LIMBS if choice == "ALL" or choice[:3].lower() in name]
