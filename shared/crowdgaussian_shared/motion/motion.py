# SPDX-License-Identifier: Apache-2.0
"""Motion of the 55 joints: what every reader makes, every writer takes, and what is refused."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DamagedFileError, InputError
from ..geometry.skeleton import NUM_JOINTS

MAX_FRAMES = 100_000  # 14 minutes at 120 frames a second
MAX_FPS = 1000.0
_FAR = 1e4  # metres from the origin
_TURN = 1e3  # radians; angles that grew with many turns stay below

CONTACTS = ("left_ankle", "right_ankle", "left_foot", "right_foot")  # columns of Motion.contacts


@dataclass(frozen=True)
class Motion:
    """Poses over time in the SMPL-X convention, upright in the scene frame (y up).

    The pelvis of frame t lies at `transl[t]` plus a constant: readers that do not know the rest
    skeleton leave its place open, and fitting puts people on the floor where they stand.
    """

    name: str
    fps: float
    poses: np.ndarray  # [T, 55, 3] float64 axis-angle, radians; poses[:, 0] in the scene frame
    transl: np.ndarray  # [T, 3] float64, metres
    leg: float | None = None  # metres, thigh and shin of who moved; None when unknown
    contacts: np.ndarray | None = None  # [T, 4] bool, which of CONTACTS stand; None: not looked for
    betas: np.ndarray | None = None  # [B] shape coefficients of who moved
    notes: tuple[str, ...] = ()  # sentences for the user: what was left out

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.poses)

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (self.frames - 1) / self.fps


def check_frames(count: int, source: str) -> None:
    """Refuse a number of frames before memory is taken for them."""
    if count < 1:
        raise InputError(f"{source} holds no frames; choose another motion.")
    if count > MAX_FRAMES:
        raise InputError(
            f"{source} holds {count} frames, more than the {MAX_FRAMES} that can be read; "
            "cut it into parts."
        )


def check_fps(fps: float, source: str) -> float:
    """The frame rate, if it is one."""
    if not np.isfinite(fps) or not 0.1 <= fps <= MAX_FPS:
        raise InputError(
            f"{source} gives {fps:g} frames a second, which no motion has; "
            "set the frame rate by hand."
        )
    return float(fps)


def check_motion(motion: Motion, source: str) -> Motion:
    """The same motion in float64, if every number in it makes sense.

    Raises:
        CrowdGaussianError: no frames, wrong sizes, NaNs, or numbers out of any range; the sentence
            begins with `source`.
    """
    check_frames(len(motion.poses), source)
    check_fps(motion.fps, source)
    poses = np.asarray(motion.poses, np.float64)
    transl = np.asarray(motion.transl, np.float64)
    if poses.shape[1:] != (NUM_JOINTS, 3) or transl.shape != (len(poses), 3):
        raise InputError(
            f"{source} does not fit the skeleton: poses {poses.shape}, places {transl.shape}."
        )
    _check_numbers(poses, _TURN, f"{source}: the pose", "turns by more than it can")
    _check_numbers(transl, _FAR, f"{source}: the place", "is farther away than any scene")
    return replace(motion, poses=poses, transl=transl)


def _check_numbers(values: np.ndarray, limit: float, what: str, beyond: str) -> None:
    rows = values.reshape(len(values), -1)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise DamagedFileError(
            f"{what} of frame {int(bad.argmax())} is not a number (NaN or infinite); "
            "repair or choose another motion."
        )
    far = (np.abs(rows) > limit).any(axis=1)
    if far.any():
        raise DamagedFileError(f"{what} of frame {int(far.argmax())} {beyond}.")


def map_rows(motion: Motion, rows: Callable[[np.ndarray], np.ndarray]) -> Motion:
    """The motion with another choice of frames."""
    contacts = None if motion.contacts is None else rows(motion.contacts)
    return replace(motion, poses=rows(motion.poses), transl=rows(motion.transl), contacts=contacts)


# Which feet stand, and when: from how fast and how high ankles and balls of the feet move

_LOW_SPEED = 0.10  # metres a second at a leg of 0.8 m: stands, at any height
_FLOOR_SPEED = 0.35  # stands when it is also near its lowest height
_NEAR = 0.05  # metres above that height
_LOWEST = 5.0  # percentile of heights that counts as the lowest
_SHORTEST = 0.08  # seconds; shorter stands are passing minima
_GAP = 0.05  # seconds; shorter lifts are noise
_LEG = 0.8  # metres


def find_contacts(paths: np.ndarray, fps: float, leg: float) -> np.ndarray:
    """When points of the feet stand still.

    Args:
        paths: [T, P, 3] metres, y up.
        fps: frames a second.
        leg: metres, thigh and shin of who moves; thresholds scale with it.

    Returns:
        [T, P] bool.
    """
    size = leg / _LEG
    speeds = _speeds(paths, fps)
    lowest = np.percentile(paths[..., 1], _LOWEST, axis=0)
    near = paths[..., 1] < lowest + _NEAR * size
    stands = (speeds < _LOW_SPEED * size) | (near & (speeds < _FLOOR_SPEED * size))
    for column in stands.T:
        _fill(column, False, round(_GAP * fps))
        _fill(column, True, round(_SHORTEST * fps))
    return stands


def _speeds(paths: np.ndarray, fps: float) -> np.ndarray:
    """Metres a second, centred over three frames.  # [T, P]"""
    if len(paths) < 2:
        return np.zeros(paths.shape[:2])
    return np.linalg.norm(np.gradient(paths, 1 / fps, axis=0), axis=-1)


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where flags are set without a break: (first, one past the last).  # [T] bool"""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def _fill(flags: np.ndarray, value: bool, longest: int) -> None:
    """Flip runs of `value` of at most `longest` frames that do not touch the ends; in place."""
    for first, last in runs(flags == value):
        if last - first <= longest and first > 0 and last < len(flags):
            flags[first:last] = not value
