# SPDX-License-Identifier: Apache-2.0
"""The linear shape space: principal components, whitened so that a crowd is betas ~ N(0, 1)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ShapeSpace:
    """vertices = template + sum_b betas[b] directions[b], joints likewise."""

    template: np.ndarray  # [V, 3]
    directions: np.ndarray  # [B, V, 3]
    joints: np.ndarray  # [55, 3]
    joint_directions: np.ndarray  # [B, 55, 3]


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A third of the area of the faces around each vertex.  # [V]"""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6.0
    result = np.zeros(len(vertices))
    np.add.at(result, faces, area[:, None])
    return result


def fit_shape_space(
    bodies: np.ndarray,
    joints: np.ndarray,
    is_crowd: np.ndarray,
    importance: np.ndarray,
    num_betas: int,
) -> tuple[ShapeSpace, np.ndarray]:
    """Principal components of all bodies, rotated and scaled by the crowd's statistics.

    Args:
        bodies: [S, V, 3] T-posed.
        joints: [S, 55, 3].
        is_crowd: [S] bool, the bodies whose betas shall have mean 0 and variance 1.
        importance: [V] weight of each vertex's squared error.
        num_betas: components to keep.

    Returns:
        the space, and the betas [S, num_betas] of the bodies.
    """
    mean = bodies[is_crowd].mean(axis=0)
    root = np.sqrt(importance)[None, :, None]
    centred = ((bodies - mean) * root).reshape(len(bodies), -1)
    basis = _leading_basis(centred, num_betas)  # [3V, B], orthonormal in the weighted metric
    coefficients = centred @ basis
    betas = _whiten(coefficients, is_crowd)
    flat = _regress(betas, np.concatenate([bodies, joints], axis=1).reshape(len(bodies), -1))
    flat = flat.reshape(num_betas + 1, -1, 3)
    count = bodies.shape[1]
    taller = np.sign(
        np.ptp(flat[1:, :count, 1] + flat[0, :count, 1], axis=1) - np.ptp(flat[0, :count, 1])
    )
    taller[taller == 0] = 1.0
    flat[1:] *= taller[:, None, None]
    space = ShapeSpace(
        template=flat[0, :count],
        directions=flat[1:, :count],
        joints=flat[0, count:],
        joint_directions=flat[1:, count:],
    )
    return space, betas * taller


def _leading_basis(centred: np.ndarray, count: int) -> np.ndarray:
    gram = centred @ centred.T
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    return (centred.T @ vectors.astype(centred.dtype)) / np.sqrt(values).astype(centred.dtype)


def _whiten(coefficients: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    crowd = coefficients[is_crowd].astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(crowd.T))
    order = np.argsort(values)[::-1]
    return (coefficients - crowd.mean(axis=0)) @ vectors[:, order] / np.sqrt(values[order])


def _regress(betas: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Least squares of [1, betas] on the targets.  # [S, B], [S, D] -> [1 + B, D]"""
    design = np.concatenate([np.ones((len(betas), 1)), betas], axis=1)
    normal = np.linalg.inv(design.T @ design) @ design.T
    return normal.astype(targets.dtype) @ targets


def project(space: ShapeSpace, bodies: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """The betas whose bodies are nearest in weighted least squares.  # [S, V, 3] -> [S, B]"""
    root = np.sqrt(importance)[None, :, None]
    design = (space.directions * root).reshape(len(space.directions), -1).astype(np.float64)
    offsets = ((bodies - space.template) * root).reshape(len(bodies), -1)
    return np.linalg.solve(design @ design.T, design @ offsets.T.astype(np.float64)).T


def errors_mm(
    space: ShapeSpace, betas: np.ndarray, bodies: np.ndarray, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance per body of the vertices and of the joints.  # [S], [S] millimetres"""
    vertex_error, joint_error = [], []
    for row, body, skeleton in zip(betas, bodies, joints, strict=True):
        shaped = space.template + np.tensordot(row, space.directions, 1)
        placed = space.joints + np.tensordot(row, space.joint_directions, 1)
        vertex_error.append(1e3 * np.linalg.norm(shaped - body, axis=1).mean())
        joint_error.append(1e3 * np.linalg.norm(placed - skeleton, axis=1).mean())
    return np.array(vertex_error), np.array(joint_error)
