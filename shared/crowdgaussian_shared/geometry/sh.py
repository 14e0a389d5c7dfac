# SPDX-License-Identifier: Apache-2.0
"""Real spherical harmonics up to degree 3 in the order and signs of 3D Gaussian Splatting.

Band l is the set of harmonic polynomials of degree l, so each basis function is a symmetric
traceless tensor: Y_m(d) = T_m[i, j, ..] d_i d_j ... Rotating the function rotates the tensor, index
by index. That gives the rotation of the coefficients in closed form, without sampling directions
and without a recursion over bands.

Source of the basis: eval_sh of graphdeco-inria/gaussian-splatting (utils/sh_utils.py), itself
from the PlenOctrees code (Yu et al. 2021).
"""

from itertools import permutations

import numpy as np

SH_C0 = 0.28209479177387814  # the constant basis function
MAX_DEGREE = 3
_CHUNK = 65536  # rotations at a time: bounds the memory of the degree 3 tensors to about 100 MB

# Bands 1..3: each basis function as {exponents' index letters: coefficient}.
BANDS: tuple[tuple[dict[str, float], ...], ...] = (
    ({"y": -0.4886025119029199}, {"z": 0.4886025119029199}, {"x": -0.4886025119029199}),
    (
        {"xy": 1.0925484305920792},
        {"yz": -1.0925484305920792},
        {"zz": 0.6307831305050401, "xx": -0.31539156525252005, "yy": -0.31539156525252005},
        {"xz": -1.0925484305920792},
        {"xx": 0.5462742152960396, "yy": -0.5462742152960396},
    ),
    (
        {"xxy": -1.7701307697799304, "yyy": 0.5900435899266435},
        {"xyz": 2.890611442640554},
        {"yzz": -1.828183197857863, "xxy": 0.4570457994644658, "yyy": 0.4570457994644658},
        {"zzz": 0.7463526651802308, "xxz": -1.1195289977703462, "yyz": -1.1195289977703462},
        {"xzz": -1.828183197857863, "xxx": 0.4570457994644658, "xyy": 0.4570457994644658},
        {"xxz": 1.445305721320277, "yyz": -1.445305721320277},
        {"xxx": -0.5900435899266435, "xyy": 1.7701307697799304},
    ),
)


def _symmetric_tensor(polynomial: dict[str, float], degree: int) -> np.ndarray:
    tensor = np.zeros((3,) * degree)
    for letters, coefficient in polynomial.items():
        places = {tuple("xyz".index(c) for c in p) for p in permutations(letters)}
        for place in places:
            tensor[place] = coefficient / len(places)
    return tensor


# Per band l = 1..3 the flattened tensors.  # [2l+1, 3^l]
_TENSORS = tuple(
    np.stack([_symmetric_tensor(p, degree).ravel() for p in band])
    for degree, band in enumerate(BANDS, start=1)
)


def num_coefficients(degree: int) -> int:
    """Coefficients per channel of degree 0..degree."""
    return (degree + 1) ** 2


def sh_basis(directions: np.ndarray, degree: int) -> np.ndarray:
    """All basis functions at unit directions.  # [N, 3] -> [N, (degree + 1)^2]"""
    directions = np.asarray(directions)
    power = np.ones((len(directions), 1), dtype=directions.dtype)
    columns = [SH_C0 * power]
    for tensors in _TENSORS[:degree]:
        power = (power[:, :, None] * directions[:, None, :]).reshape(len(directions), -1)
        columns.append(power @ tensors.T.astype(directions.dtype))
    return np.concatenate(columns, axis=1)


def eval_sh(sh: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Colours seen along unit directions, not clamped.  # [N, K, 3], [N, 3] -> [N, 3]

    Returns 0.5 + sum_k Y_k(d) sh[k]; d points from the camera to the Gaussian.
    """
    basis = sh_basis(directions, round(sh.shape[1] ** 0.5) - 1)  # [N, K]
    return 0.5 + np.einsum("nk,nkc->nc", basis, sh)


def colour_to_sh(colours: np.ndarray) -> np.ndarray:
    """Constant sRGB colours 0..1 as degree 0 coefficients.  # [N, 3] -> [N, 1, 3]"""
    return ((np.asarray(colours) - 0.5) / SH_C0)[:, None, :]


def sh_to_colour(sh: np.ndarray) -> np.ndarray:
    """The mean sRGB colour over all directions, not clamped.  # [N, K, 3] -> [N, 3]"""
    return 0.5 + SH_C0 * sh[:, 0]


def rotate_sh(sh: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Turn the coloured sphere of each Gaussian by its rotation.

    Args:
        sh: [N, K, 3] coefficients of degree 0..3.
        rotations: [N, 3, 3] proper rotations, or [3, 3] for one rotation of all.

    Returns:
        [N, K, 3] with eval_sh(result, R d) == eval_sh(sh, d) for every direction d.
    """
    degree = round(sh.shape[1] ** 0.5) - 1
    if degree == 0 or len(sh) == 0:
        return sh.copy()
    if np.ndim(rotations) == 2:
        return _rotate_all(sh, rotations, degree)
    result = np.empty_like(sh)
    result[:, 0] = sh[:, 0]
    for start in range(0, len(sh), _CHUNK):
        rows = slice(start, start + _CHUNK)
        for band in range(1, degree + 1):
            columns = slice(band**2, (band + 1) ** 2)
            result[rows, columns] = _rotate_band(sh[rows, columns], rotations[rows], band)
    return result


def _rotate_all(sh: np.ndarray, rotation: np.ndarray, degree: int) -> np.ndarray:
    """One rotation of all: one small matrix per band.  # [N, K, 3]"""
    result = sh.copy()
    for band in range(1, degree + 1):
        columns = slice(band**2, (band + 1) ** 2)
        unit = np.eye(2 * band + 1)[None]  # every basis function as a channel of its own
        matrix = _rotate_band(unit, np.asarray(rotation, np.float64)[None], band)[0]
        result[:, columns] = matrix.astype(sh.dtype) @ sh[:, columns]
    return result


def _rotate_band(coefficients: np.ndarray, rotations: np.ndarray, band: int) -> np.ndarray:
    """One band of C channels: to tensors, turn each index, project back.  # [N, 2l+1, C]"""
    tensors = _TENSORS[band - 1]  # [2l+1, 3^l]; orthogonal, all of the same norm
    count, _, channels = coefficients.shape
    turned = np.einsum("nmc,mt->nct", coefficients, tensors)  # [N, C, 3^l]
    for _ in range(band):  # contract the last index with R and bring it to the front
        turned = turned.reshape(count, channels, -1, 3)
        turned = np.moveaxis(turned @ rotations.transpose(0, 2, 1)[:, None], 3, 2)
        turned = turned.reshape(count, channels, -1)
    return np.einsum("nct,mt->nmc", turned, tensors) / np.sum(tensors[0] ** 2)
