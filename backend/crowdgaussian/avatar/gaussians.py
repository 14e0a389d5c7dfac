# SPDX-License-Identifier: Apache-2.0
"""Gaussians as flat discs bound to the clothed surface."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from ..body.model import PosedBody
from ..body.parts import ARM, HAND, Regions, SurfacePoints
from ..core.mesh import face_normals, unit, vertex_normals
from .types import PhotoFitConfig

_ELBOWS = (JOINT_INDEX["left_elbow"], JOINT_INDEX["right_elbow"])
_NEIGHBOURS = 6
_SPACING_RANGE = (0.4, 1.6)  # of the mean spacing, that a neighbour's distance may be
_DISC = 0.62  # standard deviation along the surface, in distances to the neighbours; less: holes
_THICKNESS = 0.35  # of a disc, against its radius


@dataclass(frozen=True)
class SurfaceGaussians:
    """N bound Gaussians, without colour."""

    points: SurfacePoints
    means: np.ndarray  # [N, 3] canonical, metres
    frames: np.ndarray  # [N, 3, 3] columns: two tangents and the outward normal
    radius: np.ndarray  # [N] metres, standard deviation along the surface
    skin_joints: np.ndarray  # [N, 4] int
    skin_weights: np.ndarray  # [N, 4] float, rows sum to 1
    mirrored: np.ndarray  # [N, 3] canonical: where the other side's counterpart lies
    group: np.ndarray  # [N] int, see regions
    face: np.ndarray  # [N] 0..1
    scalp: np.ndarray  # [N] 0..1

    @property
    def normals(self) -> np.ndarray:
        """Outward, canonical.  # [N, 3]"""
        return self.frames[:, :, 2]

    @property
    def scales(self) -> np.ndarray:
        """Standard deviations along the frame's columns.  # [N, 3] metres"""
        return self.radius[:, None] * np.array([1.0, 1.0, _THICKNESS])

    @property
    def forearm(self) -> np.ndarray:
        """Below an elbow, without the hand.  # [N] bool"""
        largest = self.skin_weights.argmax(1)[:, None]
        main = np.take_along_axis(self.skin_joints, largest, 1)[:, 0]
        return (self.group == ARM) & np.isin(main, _ELBOWS)

    def __len__(self) -> int:
        return len(self.means)


def bind(
    points: SurfacePoints,
    surface: np.ndarray,
    posed: PosedBody,
    regions: Regions,
    mirror_vertices: np.ndarray,
) -> SurfaceGaussians:
    """Puts a disc on every sampled point of the clothed surface [V, 3]."""
    faces = posed.faces
    means = points.on(surface, faces)
    normals = unit(points.on(vertex_normals(surface, faces), faces))
    distance, _ = cKDTree(means).query(means, k=_NEIGHBOURS + 1)
    radius = _DISC * np.clip(
        distance[:, 1:].mean(1), *(part * points.spacing for part in _SPACING_RANGE)
    )
    joints, weights = top_four(points.on(dense_weights(posed), faces))
    corner = points.face, points.barycentric.argmax(1)
    return SurfaceGaussians(
        points,
        means,
        _frames(normals, surface, faces, points),
        radius,
        joints,
        weights,
        points.on(surface[mirror_vertices], faces),
        regions.group[faces[corner]],
        points.on(regions.face, faces),
        points.on(regions.scalp, faces),
    )


def dense_weights(posed: PosedBody) -> np.ndarray:
    """Skin weights of the vertices for all joints.  # [V, 55]"""
    dense = np.zeros((len(posed.rest), len(posed.joints)))
    rows = np.arange(len(dense))
    for k in range(posed.skin_joints.shape[1]):
        np.add.at(dense, (rows, posed.skin_joints[:, k]), posed.skin_weights[:, k])
    return dense


def top_four(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four largest weights of each row, made to sum to one.  # [N, 4], [N, 4]"""
    joints = np.argpartition(-dense, 4, axis=1)[:, :4]
    weights = np.take_along_axis(dense, joints, 1)
    return joints, weights / weights.sum(1, keepdims=True)


def _frames(
    normals: np.ndarray, surface: np.ndarray, faces: np.ndarray, points: SurfacePoints
) -> np.ndarray:
    edge = surface[faces[points.face, 1]] - surface[faces[points.face, 0]]
    tangent = edge - (edge * normals).sum(1, keepdims=True) * normals
    short = np.linalg.norm(tangent, axis=1) < 1e-9
    tangent[short] = np.cross(normals[short], np.roll(normals[short], 1, axis=1) + 0.1)
    tangent = unit(tangent)
    return np.stack([tangent, np.cross(normals, tangent), normals], 2)


def face_density(
    seen: np.ndarray, posed: PosedBody, regions: Regions, config: PhotoFitConfig
) -> np.ndarray:
    """How many Gaussians a face deserves per area, against the unseen body.  # [F]

    Args:
        seen: [V] 0..1, what the photo shows.
    """
    wanted = 1 + (config.seen_density - 1) * seen
    wanted = np.where(regions.group == HAND, np.maximum(wanted, config.hand_density), wanted)
    wanted = np.maximum(wanted, config.face_density * regions.face)
    density = wanted[posed.faces].mean(1)
    density[regions.interior[posed.faces].any(1)] = 0
    density[np.linalg.norm(face_normals(posed.rest, posed.faces), axis=1) < 1e-12] = 0
    return density


def mean_around(means: np.ndarray, neighbours: int) -> csr_array:
    """Takes the mean over each of N points and so many neighbours.  # [N, N]"""
    count, each = len(means), min(neighbours + 1, len(means))
    _, near = cKDTree(means).query(means, k=each)
    ends = np.arange(count + 1) * each
    return csr_array((np.full(count * each, 1 / each), near.ravel(), ends), (count, count))
