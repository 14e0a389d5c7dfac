# SPDX-License-Identifier: Apache-2.0
"""Rotations as matrices, axis-angle vectors and wxyz quaternions, for any leading shape.

Quaternions are Hamilton, wxyz, unit; the functions that make them return w >= 0. Angles are
radians. A quaternion product applies its right factor first, as a matrix product does.
"""

import numpy as np

_SMALL = 1e-8  # below this half-angle sine the first terms of the series are exact in float64


def quat_normalize(quats: np.ndarray) -> np.ndarray:
    """Scale to unit length and choose the sign with w >= 0.  # [..., 4] -> [..., 4]"""
    quats = np.asarray(quats)
    unit = quats / np.linalg.norm(quats, axis=-1, keepdims=True)
    return np.where(unit[..., :1] < 0, -unit, unit)


def quat_multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product a b: the rotation b, then a.  # [..., 4], [..., 4] -> [..., 4]"""
    a, b = np.asarray(a), np.asarray(b)
    aw, av = a[..., :1], a[..., 1:]
    bw, bv = b[..., :1], b[..., 1:]
    w = aw * bw - np.sum(av * bv, axis=-1, keepdims=True)
    return np.concatenate([w, aw * bv + bw * av + np.cross(av, bv)], axis=-1)


def quat_to_matrix(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions to rotation matrices.  # [..., 4] -> [..., 3, 3]"""
    w, x, y, z = np.moveaxis(np.asarray(quats), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_quat(matrices: np.ndarray) -> np.ndarray:
    """Rotation matrices to unit quaternions with w >= 0.  # [..., 3, 3] -> [..., 4]

    Of the four rows of 4 q q^T, written with the entries of the matrix, the one with the largest
    diagonal is taken, so no angle loses precision (Shepperd 1978).
    """
    m = np.asarray(matrices)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    odd, even = m - np.swapaxes(m, -1, -2), m + np.swapaxes(m, -1, -2)
    wx, wy, wz = odd[..., 2, 1], odd[..., 0, 2], odd[..., 1, 0]
    xy, xz, yz = even[..., 0, 1], even[..., 0, 2], even[..., 1, 2]
    rows = (
        (1 + xx + yy + zz, wx, wy, wz),
        (wx, 1 + xx - yy - zz, xy, xz),
        (wy, xy, 1 - xx + yy - zz, yz),
        (wz, xz, yz, 1 - xx - yy + zz),
    )
    outer = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)  # [..., 4, 4]
    best = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)  # [...]
    quats = np.take_along_axis(outer, best[..., None, None], axis=-2)[..., 0, :]
    return quat_normalize(quats)


def axis_angle_to_quat(axis_angles: np.ndarray) -> np.ndarray:
    """Rotation vectors (axis times angle) to unit quaternions.  # [..., 3] -> [..., 4]"""
    vectors = np.asarray(axis_angles)
    half = 0.5 * np.linalg.norm(vectors, axis=-1, keepdims=True)
    safe = np.where(half < _SMALL, 1, half)
    factor = np.where(half < _SMALL, 0.5, 0.5 * np.sin(safe) / safe)
    return quat_normalize(np.concatenate([np.cos(half), factor * vectors], axis=-1))


def quat_to_axis_angle(quats: np.ndarray) -> np.ndarray:
    """Unit quaternions to rotation vectors with angles 0..pi.  # [..., 4] -> [..., 3]"""
    quats = quat_normalize(quats)
    w, v = quats[..., :1], quats[..., 1:]
    sine = np.linalg.norm(v, axis=-1, keepdims=True)
    safe = np.where(sine < _SMALL, 1, sine)
    factor = np.where(sine < _SMALL, 2, 2 * np.arctan2(safe, w) / safe)
    return factor * v


def axis_angle_to_matrix(axis_angles: np.ndarray) -> np.ndarray:
    """Rotation vectors to rotation matrices.  # [..., 3] -> [..., 3, 3]"""
    return quat_to_matrix(axis_angle_to_quat(axis_angles))


def matrix_to_axis_angle(matrices: np.ndarray) -> np.ndarray:
    """Rotation matrices to rotation vectors with angles 0..pi.  # [..., 3, 3] -> [..., 3]"""
    return quat_to_axis_angle(matrix_to_quat(matrices))


def polar_rotation(matrices: np.ndarray) -> np.ndarray:
    """The proper rotation nearest to each matrix (Frobenius norm).  # [..., 3, 3] -> [..., 3, 3]

    For M = R P with P symmetric positive definite this is R. A mirroring M (det < 0) gets the
    nearest matrix with determinant +1.
    """
    u, _, vt = np.linalg.svd(matrices)
    sign = np.where(np.linalg.det(u @ vt) < 0, -1, 1)
    u[..., :, 2] *= sign[..., None]
    return u @ vt
