# SPDX-License-Identifier: Apache-2.0
"""Which feet stand, and when: from how fast and how high ankles and balls of the feet move."""

import numpy as np

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
