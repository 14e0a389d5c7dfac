# SPDX-License-Identifier: GPL-3.0-or-later
"""Who overlaps on the floor, and the small moves that end it: plain geometry in the plane.

Two convex outlines overlap when no edge normal separates them; the normal with the least overlap is
the shortest way apart (separating axis theorem). It is taken in the sense that leads from one
centre to the other, so that nobody changes sides with a neighbour. Moves are shared and repeated
until nobody overlaps.
"""

import numpy as np

_ROUNDS = 200
_DONE = 1e-4  # metres of overlap that count as none


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Corners of the convex hull, counter-clockwise (monotone chain).  # [P, 2] -> [H, 2]"""
    points = np.unique(np.asarray(points, np.float64), axis=0)
    if len(points) < 3:
        return points
    return np.array(_chain(points) + _chain(points[::-1]))


def disc(centre: np.ndarray, radius: float, corners: int = 16) -> np.ndarray:
    """A regular polygon around a circle.  # [corners, 2]"""
    angles = np.arange(corners) * 2 * np.pi / corners
    around = radius / np.cos(np.pi / corners)
    return np.asarray(centre) + around * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def overlap(a: np.ndarray, b: np.ndarray, towards: np.ndarray, gap: float) -> np.ndarray:
    """The shortest move of b that leaves a gap to a; zero when there is one already.

    Args:
        a, b: [H, 2] corners of convex outlines.
        towards: [2] from the centre of a to that of b.
        gap: metres.
    """
    normals = np.concatenate([_normals(a), _normals(b)])
    normals = np.where((normals @ towards < 0)[:, None], -normals, normals)
    depths = (a @ normals.T).max(axis=0) + gap - (b @ normals.T).min(axis=0)
    apart = (b @ normals.T).max(axis=0) + gap <= (a @ normals.T).min(axis=0)
    if apart.any() or depths.min() <= 0:
        return np.zeros(2)
    best = depths.argmin()
    return normals[best] * depths[best]


def resolve_overlaps(
    outlines: list[np.ndarray], centres: np.ndarray, movable: np.ndarray, gap: float
) -> tuple[np.ndarray, bool]:
    """Moves that end all overlaps of people who may move.

    Args:
        outlines: [H, 2] each, convex.
        centres: [P, 2] where people stand.
        movable: [P] bool.
        gap: metres to leave between outlines.

    Returns:
        moves [P, 2] metres, and whether nobody overlaps after them.
    """
    moves = np.zeros((len(outlines), 2))
    reach = np.array([np.linalg.norm(o - c, axis=1).max() for o, c in zip(outlines, centres)])
    for _ in range(_ROUNDS):
        worst = 0.0
        for i, j in _close_pairs(centres + moves, reach, gap):
            if not (movable[i] or movable[j]):
                continue
            towards = centres[j] + moves[j] - centres[i] - moves[i]
            if np.linalg.norm(towards) < _DONE:  # in one spot: part them in the order of the list
                towards = np.array([1.0, 1e-3])
            push = overlap(outlines[i] + moves[i], outlines[j] + moves[j], towards, gap)
            worst = max(worst, float(np.linalg.norm(push)))
            share = 0.5 if movable[i] and movable[j] else 1.0
            moves[i] -= share * push * movable[i]
            moves[j] += share * push * movable[j]
        if worst < _DONE:
            return moves, True
    return moves, False


def _chain(points: np.ndarray) -> list[np.ndarray]:
    chain: list[np.ndarray] = []
    for point in points:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain[:-1]


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _normals(outline: np.ndarray) -> np.ndarray:
    edges = np.roll(outline, -1, axis=0) - outline
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return (normals / np.maximum(lengths, 1e-12))[lengths[:, 0] > 1e-9]


def _close_pairs(places: np.ndarray, reach: np.ndarray, gap: float) -> list[tuple[int, int]]:
    far = np.linalg.norm(places[:, None] - places[None], axis=2)
    near = far < reach[:, None] + reach[None] + gap + _DONE
    return [tuple(pair) for pair in np.argwhere(np.triu(near, 1))]
