# SPDX-License-Identifier: Apache-2.0
"""Blows the body up, or lets air out, until its outline is the person's outline.

The clothed surface is rest + s n with one smooth number s per vertex, so clothes and hair move
coherently and the back, which no photo shows, follows the sides.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu

from .config import PhotoFitConfig
from .contour import Outline, compare
from .geometry import (
    cotangent_laplacian,
    projection_jacobian,
    vertex_areas,
    vertex_normals,
)
from .posed_body import PosedBody, apply
from .regions import FOOT, HAND, HEAD, Regions
from .view import PhotoView

_OUTLINE_WEIGHT = 4.0  # metres: of the outline's squared distance against the surface's terms

_ROUND_HAIR = 5.0  # how much smoother hair is than clothes: it has no outline but its own
_SWELLING = 0.15  # how far discs reach over the surface they cover, in their spacing


@dataclass(frozen=True)
class ClothedSurface:
    """The person's surface at rest, clothes and hair included."""

    vertices: np.ndarray  # [V, 3] float64, canonical frame
    body: np.ndarray  # [V, 3] float64: the naked body, thinned where the photo shows less
    offset: np.ndarray  # [V] float64, metres along the body's normals


def fit_surface(posed: PosedBody, regions: Regions, view: PhotoView,
                config: PhotoFitConfig) -> ClothedSurface:
    """Offsets that bring the rendered outline to the mask's outline."""
    normals = vertex_normals(posed.rest, posed.faces)
    upper, lower = offset_limits(regions, config)
    system = _Smoothness(posed, regions, config)
    offset = np.zeros(len(posed.rest))
    matrices = posed.matrices
    area = vertex_areas(posed.rest, posed.faces).sum()
    swelling = _SWELLING * np.sqrt(area / config.gaussians)
    for _ in range(config.contour_steps):
        surface = posed.rest + offset[:, None] * normals
        scene = apply(matrices, surface)
        px_per_m = pixels_per_metre(scene, view)
        reach = (upper[posed.faces].mean(1) * px_per_m)
        outline = compare(scene, posed.faces, view, reach, 0.06 * px_per_m)
        outline = replace(outline, distance=outline.distance - swelling * px_per_m)
        offset = np.clip(system.solve(outline, scene, matrices, normals, offset, view),
                         lower, upper)
    body = posed.rest + np.minimum(offset, 0)[:, None] * normals
    return ClothedSurface(posed.rest + offset[:, None] * normals, body, offset)


def offset_limits(regions: Regions, config: PhotoFitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest offset of each vertex.  # [V], [V] metres"""
    limits = config.limits
    upper = np.full(len(regions.group), limits.clothes)
    upper[regions.group == FOOT] = limits.feet
    upper[regions.group == HAND] = limits.hands
    head = (regions.group == HEAD) & ~regions.neck
    upper[regions.neck] = limits.neck
    skin = limits.face + (limits.neck - limits.face) * (1 - regions.face)
    upper[head] = (skin + (limits.hair - skin) * regions.scalp)[head]
    upper[regions.interior] = 0
    firm = (head & (regions.scalp < 0.5)) | (regions.group == HAND)
    lower = np.where(firm, -0.006, -limits.inwards)
    lower[regions.interior] = 0
    return upper, lower


def pixels_per_metre(scene: np.ndarray, view: PhotoView) -> float:
    """Scale of the person in the crop."""
    depth = scene @ view.camera.viewmat[2, :3] + view.camera.viewmat[2, 3]
    return float(view.camera.K[1, 1] / max(np.median(depth), 0.1))


class _Smoothness:
    """The regularised least-squares problem, ready to be solved for many outlines."""

    def __init__(self, posed: PosedBody, regions: Regions, config: PhotoFitConfig) -> None:
        areas = vertex_areas(posed.rest, posed.faces)
        stiffness = np.ones(len(areas))
        stiffness[regions.group == HAND] = 20.0
        stiffness += 60.0 * regions.face - 0.85 * regions.scalp
        prior = sparse.diags(stiffness * areas)
        rounding = 1 + _ROUND_HAIR * regions.scalp[posed.faces].mean(1)
        smooth = config.smooth_length**2 * cotangent_laplacian(posed.rest, posed.faces, rounding)
        self.matrix = (smooth + prior).tocsc()
        self.faces = posed.faces

    def solve(self, outline: Outline, scene: np.ndarray, matrices: np.ndarray,
              normals: np.ndarray, offset: np.ndarray, view: PhotoView) -> np.ndarray:
        """Minimises outline distances against smoothness and size of the offset.  # [V]"""
        corners = self.faces[outline.face]  # [C, 3]
        jacobian = projection_jacobian(scene[corners].mean(1), view.camera)  # [C, 2, 3]
        moved = np.einsum("vij,vj->vi", matrices[:, :, :3], normals)[corners].mean(1)
        per_metre = np.einsum("ci,cij,cj->c", outline.normal, jacobian, moved)
        scale = pixels_per_metre(scene, view)
        usable = per_metre > 0.35 * scale
        corners, per_metre = corners[usable], per_metre[usable] / scale  # metres per metre
        wanted = outline.distance[usable] / scale + per_metre * offset[corners].mean(1)
        rows = np.repeat(np.arange(len(corners)), 3)
        design = sparse.csr_matrix((np.repeat(per_metre / 3, 3), (rows, corners.ravel())),
                                   (len(corners), len(offset)))
        weight = _OUTLINE_WEIGHT / scale  # a place stands for one pixel of outline
        normal_matrix = (self.matrix + weight * (design.T @ design)).tocsc()
        return splu(normal_matrix).solve(weight * (design.T @ wanted))
