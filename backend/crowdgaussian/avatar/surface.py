# SPDX-License-Identifier: Apache-2.0
"""Blows the body up, or lets air out, until its outline is the person's outline.

The clothed surface is rest + s n with one smooth number s per vertex, so clothes and hair move
coherently and the back, which no photo shows, follows the sides.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import scipy.sparse as sparse
from crowdgaussian_shared.geometry.skinning import move_points
from scipy.sparse.linalg import splu

from ..body.model import PosedBody
from ..body.parts import FOOT, HAND, HEAD, Regions
from ..core.mesh import cotangent_laplacian, projection_jacobian, vertex_areas, vertex_normals
from ..splat.normals import render_mesh_depth
from .loose import Draped, drape
from .types import PhotoFitConfig
from .visibility import PhotoView


@dataclass(frozen=True)
class Outline:
    """C places on the rendered outline and how far each is from the mask's outline."""

    face: np.ndarray  # [C] int: face of the mesh that is seen there
    normal: np.ndarray  # [C, 2] unit, crop pixels, pointing out of the silhouette
    distance: np.ndarray  # [C] pixels to move along the normal; negative is inwards


def compare(
    vertices: np.ndarray,
    faces: np.ndarray,
    view: PhotoView,
    reach_px: np.ndarray,
    inwards_px: float,
) -> Outline:
    """Walks from the rendered outline along its normal to the edge of the visible mask.

    Args:
        vertices: [V, 3] scene frame.
        faces: [F, 3].
        view: the crop with its masks.
        reach_px: [F] how far outwards a face may look.
        inwards_px: how far inwards it may look.

    Returns:
        The places where an edge against the background was found. Edges against an occluder
        and against the border of the photo say nothing and are left out.
    """
    depth, face_index = render_mesh_depth(vertices.astype(np.float32), faces, view.camera)
    silhouette = np.isfinite(depth)
    rows, columns = np.nonzero(_edge(silhouette))
    normal = _outward(silhouette)[rows, columns]
    face = np.asarray(face_index)[rows, columns].astype(np.int64)
    start = np.stack([columns, rows], 1) + 0.5
    distance = _walk(start, normal, view, reach_px[face], inwards_px)
    found = np.isfinite(distance) & (np.linalg.norm(normal, axis=1) > 0.5)
    return Outline(face[found], normal[found], distance[found])


def _edge(silhouette: np.ndarray) -> np.ndarray:
    inside = cv2.erode(silhouette.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return silhouette & (inside == 0)


def _outward(silhouette: np.ndarray) -> np.ndarray:
    """Unit normals from a blurred silhouette.  # [h, w, 2]"""
    blurred = cv2.GaussianBlur(silhouette.astype(np.float32), (0, 0), 2.0)
    slope = -np.stack(
        [cv2.Sobel(blurred, cv2.CV_32F, 1, 0), cv2.Sobel(blurred, cv2.CV_32F, 0, 1)], -1
    )
    return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-6)


def _walk(
    start: np.ndarray, normal: np.ndarray, view: PhotoView, reach: np.ndarray, inwards: float
) -> np.ndarray:
    """Signed distance to the mask's edge, nan where there is none within reach.  # [C]"""
    height, width = view.visible.shape
    steps = np.arange(-int(np.ceil(inwards)), int(np.ceil(reach.max(initial=1))) + 2)
    places = np.floor(start[:, None] + steps[None, :, None] * normal[:, None]).astype(int)
    outside = ((places < 0) | (places >= (width, height))).any(-1)  # [C, T]
    x = np.clip(places[..., 0], 0, width - 1)
    y = np.clip(places[..., 1], 0, height - 1)
    shown = view.visible[y, x] & ~outside
    unknown = view.hidden[y, x] | outside
    at_start = int(np.flatnonzero(steps == 0)[0])
    outwards = _first_exit(shown[:, at_start:], unknown[:, at_start:])
    back = _first_entry(shown[:, at_start::-1], unknown[:, at_start::-1])
    begins_inside = shown[:, at_start]
    distance = np.where(begins_inside, outwards - 0.5, -back + 0.5)
    too_far = np.where(begins_inside, outwards > reach + 1, back > inwards)
    return np.where(too_far, np.nan, distance)


def _first_exit(shown: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Steps until the mask ends against the background, nan if it ends otherwise.  # [C]"""
    left = ~shown
    first = left.argmax(1)
    rows = np.arange(len(shown))
    return np.where(left.any(1) & ~unknown[rows, first], first, np.nan)


def _first_entry(shown: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Steps through the background until the mask begins, nan past anything else.  # [C]"""
    first = shown.argmax(1)
    blocked = np.cumsum(unknown, 1)[np.arange(len(shown)), first] > 0
    return np.where(shown.any(1) & ~blocked, first, np.nan)


# Hand-tuned; not measured one by one.
_OUTLINE_WEIGHT = 4.0  # metres: of the outline's squared distance; more follows noise of the mask
_INWARDS = 0.06  # metres that an outline is looked for inside the body
_FIRM_INWARDS = -0.006  # metres: the least offset of face and hands, which no air leaves
_HAND_STIFFNESS, _FACE_STIFFNESS = 20.0, 60.0  # against offsets; more keeps fingers and features
_SCALP_SOFTNESS = 0.85  # less stiffness where hair grows
_LEAST_SLOPE = 0.35  # of a place's move per metre of offset: outlines seen too flat say nothing
_NEAREST = 0.1  # metres in front of the camera
_ROUND_HAIR = 5.0  # how much smoother hair is than clothes: it has no outline but its own
_SKIRT_SOFTNESS = 0.8  # less stiffness where a skirt hangs: it is as wide all around
_TORN, _TORN_STIFFNESS = 0.5, 0.02  # a hem lets go of the leg below: jump of the cloth's share
_SWELLING = 0.15  # how far discs reach over the surface they cover, in their spacing


@dataclass(frozen=True)
class ClothedSurface:
    """The person's surface at rest, clothes and hair included."""

    vertices: np.ndarray  # [V, 3] float64, canonical frame
    hangs: Draped  # what it is an offset of, and what moves it
    body: np.ndarray  # [V, 3] float64: the naked body, thinned where the photo shows less
    offset: np.ndarray  # [V] float64, metres along the body's normals

    def away(self, faces: np.ndarray) -> np.ndarray:
        """How far clothes, skirts and hair stand off the naked body, metres.  # [V]"""
        return ((self.vertices - self.body) * vertex_normals(self.body, faces)).sum(1)


def fit_surface(
    posed: PosedBody, regions: Regions, view: PhotoView, config: PhotoFitConfig
) -> ClothedSurface:
    """Offsets that bring the rendered outline to the mask's outline."""
    naked, hangs = posed, drape(posed, regions, view, config)
    posed, regions = hangs.posed, hangs.regions
    normals = vertex_normals(posed.rest, posed.faces)
    upper, lower = offset_limits(regions, config)
    upper = np.maximum(upper, config.limits.skirt * hangs.cloth)
    system = _Smoothness(hangs, config)
    offset = np.zeros(len(posed.rest))
    matrices = posed.matrices
    area = vertex_areas(posed.rest, posed.faces).sum()
    swelling = _SWELLING * np.sqrt(area / config.gaussians)
    for _ in range(config.contour_steps):
        surface = posed.rest + offset[:, None] * normals
        scene = move_points(matrices, surface)
        px_per_m = pixels_per_metre(scene, view)
        reach = upper[posed.faces].mean(1) * px_per_m
        outline = compare(scene, posed.faces, view, reach, _INWARDS * px_per_m)
        outline = replace(outline, distance=outline.distance - swelling * px_per_m)
        offset = np.clip(
            system.solve(outline, scene, matrices, normals, offset, view), lower, upper
        )
    thinner = np.minimum(offset, 0) * (hangs.posed.rest == naked.rest).all(1)
    body = naked.rest + thinner[:, None] * normals
    return ClothedSurface(posed.rest + offset[:, None] * normals, hangs, body, offset)


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
    lower = np.where(firm, _FIRM_INWARDS, -limits.inwards)
    lower[regions.interior] = 0
    return upper, lower


def pixels_per_metre(scene: np.ndarray, view: PhotoView) -> float:
    """Scale of the person in the crop."""
    depth = scene @ view.camera.viewmat[2, :3] + view.camera.viewmat[2, 3]
    return float(view.camera.K[1, 1] / max(np.median(depth), _NEAREST))


class _Smoothness:
    """The regularised least-squares problem, ready to be solved for many outlines."""

    def __init__(self, hangs: Draped, config: PhotoFitConfig) -> None:
        posed, regions = hangs.posed, hangs.regions
        areas = vertex_areas(posed.rest, posed.faces)
        stiffness = np.ones(len(areas))
        stiffness[regions.group == HAND] = _HAND_STIFFNESS
        stiffness += _FACE_STIFFNESS * regions.face - _SCALP_SOFTNESS * regions.scalp
        stiffness *= 1 - _SKIRT_SOFTNESS * hangs.cloth
        prior = sparse.diags(stiffness * areas)
        rounding = 1 + _ROUND_HAIR * regions.scalp[posed.faces].mean(1)
        rounding[np.ptp(hangs.cloth[posed.faces], axis=1) > _TORN] = _TORN_STIFFNESS
        smooth = config.smooth_length**2 * cotangent_laplacian(posed.rest, posed.faces, rounding)
        self.matrix = (smooth + prior).tocsc()
        self.faces = posed.faces

    def solve(
        self,
        outline: Outline,
        scene: np.ndarray,
        matrices: np.ndarray,
        normals: np.ndarray,
        offset: np.ndarray,
        view: PhotoView,
    ) -> np.ndarray:
        """Minimises outline distances against smoothness and size of the offset.  # [V]"""
        corners = self.faces[outline.face]  # [C, 3]
        jacobian = projection_jacobian(scene[corners].mean(1), view.camera)  # [C, 2, 3]
        moved = np.einsum("vij,vj->vi", matrices[:, :, :3], normals)[corners].mean(1)
        per_metre = np.einsum("ci,cij,cj->c", outline.normal, jacobian, moved)
        scale = pixels_per_metre(scene, view)
        usable = per_metre > _LEAST_SLOPE * scale
        corners, per_metre = corners[usable], per_metre[usable] / scale  # metres per metre
        wanted = outline.distance[usable] / scale + per_metre * offset[corners].mean(1)
        rows = np.repeat(np.arange(len(corners)), 3)
        design = sparse.csr_matrix(
            (np.repeat(per_metre / 3, 3), (rows, corners.ravel())), (len(corners), len(offset))
        )
        weight = _OUTLINE_WEIGHT / scale  # a place stands for one pixel of outline
        normal_matrix = (self.matrix + weight * (design.T @ design)).tocsc()
        return splu(normal_matrix).solve(weight * (design.T @ wanted))
