# SPDX-License-Identifier: Apache-2.0
"""What the photo shows of a surface, and in which colour."""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.geometry.skinning import move_points
from scipy import ndimage
from torch import Tensor

from ..body.model import PosedBody
from ..core.crop import Crop, box_of, disc
from ..core.mesh import sample_image, unit, vertex_normals
from ..segment.types import CrowdView, PersonMask
from ..splat.normals import render_mesh_depth

COMPARED_PX = 1024  # longest side in pixels at which an avatar is judged against the photo
NEARER_M = 0.3  # people closer in depth than this may hide each other either way
# Hand-tuned; not measured one by one.
_RIM, _LEAST_RIM = 0.005, 1.5  # of the person's height, and pixels, that are mixed at an edge
_THING = 0.015  # of the body's height: thinner gaps between body and mask are no thing in front
_SAME_SURFACE = 0.012  # metres behind the z-buffer that still are its surface; less: speckled
_GRAZING, _FRONTAL = 0.12, 0.3  # cosines: seen not at all, and by how much more fully
_BLUR = 0.7  # pixels of the photo before colours are read; less keeps noise


@dataclass(frozen=True)
class PhotoView:
    """A crop of the photo around one person."""

    crop: Crop
    camera: Camera  # of the crop
    photo: np.ndarray  # [h, w, 3] float32 sRGB 0..1
    visible: np.ndarray  # [h, w] bool: shows this person
    hidden: np.ndarray  # [h, w] bool: somebody or something in front; says nothing
    pure: np.ndarray  # [h, w] bool: visible and away from every edge, fit for colours

    @property
    def eye(self) -> np.ndarray:
        """Where the camera stands, scene frame.  # [3]"""
        return self.camera.eye

    @property
    def empty(self) -> np.ndarray:
        """Pixels where this person certainly is not.  # [h, w] bool"""
        return ~(self.visible | self.hidden)


def make_view(scene: CrowdView, index: int, margin: float, max_side: int) -> PhotoView | None:
    """The view of person index; None when no pixel of the photo shows or hides the person."""
    photo, mask = scene.photo, scene.mask(index)
    box = box_of(mask.amodal)
    if box is None:
        return None
    height_px = float(max(box[2] - box[0], box[3] - box[1]))
    size = (photo.shape[1], photo.shape[0])
    crop = Crop.around(box, margin * height_px, size, max_side)
    visible = crop.take(mask.visible)
    hidden = crop.take(_others_in_front(scene, index)) & ~visible
    hidden |= _hidden_by_things(crop.take(mask.amodal), visible, crop, scene.masks, index)
    thickness = max(_LEAST_RIM, _RIM * height_px * crop.scale[1])
    pure = cv2.erode(visible.astype(np.uint8), disc(thickness), borderValue=1) > 0
    return PhotoView(
        crop,
        crop.camera(scene.crowd.camera),
        crop.take(photo).astype(np.float32) / 255,
        visible,
        hidden,
        pure,
    )


def _others_in_front(scene: CrowdView, index: int) -> np.ndarray:
    """Visible pixels of everybody who is not clearly behind this person.  # [H, W] bool"""
    crowd = scene.crowd
    depths = [_depth(crowd.camera, person.transl) for person in crowd.people]
    covered = np.zeros(scene.mask(index).visible.shape, bool)
    for other, mask in enumerate(scene.masks):
        if other != index and depths[other] < depths[index] + NEARER_M:
            covered |= mask.visible
    return covered


def _depth(camera: Camera, point: np.ndarray) -> float:
    return float(camera.viewmat[2, :3] @ point + camera.viewmat[2, 3])


def _hidden_by_things(
    amodal: np.ndarray, visible: np.ndarray, crop: Crop, masks: list[PersonMask], index: int
) -> np.ndarray:
    """Body pixels far from the visible mask that nobody else shows: a thing is in front."""
    taken = np.zeros_like(visible)
    for other, mask in enumerate(masks):
        if other != index:
            taken |= crop.take(mask.visible)
    unseen = amodal & ~visible & ~taken
    box = box_of(amodal)
    if box is None or not unseen.any():
        return unseen & False
    thick = disc(_THING * max(box[2] - box[0], box[3] - box[1]))
    return cv2.morphologyEx(unseen.astype(np.uint8), cv2.MORPH_OPEN, thick) > 0


def seen_points(
    points: np.ndarray, normals: np.ndarray, depth: np.ndarray, view: PhotoView
) -> np.ndarray:
    """How well the photo shows each point: 0 not at all, 1 frontally.  # [N]

    Args:
        points: [N, 3] scene frame.
        normals: [N, 3] unit, outward.
        depth: [h, w] z-buffer of the surface the points lie on.
        view: a point counts where its pixel is pure.
    """
    pixels, own_depth = view.camera.project(points)
    column, row, inside = places_in(pixels, view)
    nearest = ndimage.grey_dilation(np.where(np.isfinite(depth), depth, -np.inf), size=3)
    front = own_depth < nearest[row, column] + _SAME_SURFACE
    facing = facing_camera(points, normals, view)
    return inside * front * view.pure[row, column] * np.clip((facing - _GRAZING) / _FRONTAL, 0, 1)


def places_in(pixels: np.ndarray, view: PhotoView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, rows, cut to the crop, and which are in it, of pixels [..., 2].  # [...] each"""
    height, width = view.visible.shape
    known = np.isfinite(pixels).all(-1)
    column, row = np.moveaxis(np.floor(np.where(known[..., None], pixels, -1)).astype(int), -1, 0)
    inside = known & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    return column.clip(0, width - 1), row.clip(0, height - 1), inside


def facing_camera(points: np.ndarray, normals: np.ndarray, view: PhotoView) -> np.ndarray:
    """Cosine between the normal and the direction to the camera.  # [N]"""
    return (normals * unit(view.eye - points)).sum(1)


def seen_vertices(vertices: np.ndarray, faces: np.ndarray, view: PhotoView) -> np.ndarray:
    """The same for the vertices of a posed mesh, spread to their neighbours.  # [V]"""
    depth, _ = render_mesh_depth(vertices.astype(np.float32), faces, view.camera)
    seen = seen_points(vertices, vertex_normals(vertices, faces), np.asarray(depth), view)
    spread = seen.copy()
    np.maximum.at(spread, faces.ravel(), np.repeat(seen[faces].max(1), 3))
    return np.minimum(spread, 1)


def pure_photo(view: PhotoView) -> np.ndarray:
    """The crop with every impure pixel replaced by the nearest pure one.  # [h, w, 3]"""
    if not view.pure.any():
        return np.full_like(view.photo, 0.5)
    nearest = ndimage.distance_transform_edt(
        ~view.pure, return_distances=False, return_indices=True
    )
    return view.photo[nearest[0], nearest[1]]


def colours_at(points: np.ndarray, view: PhotoView) -> np.ndarray:
    """Photo colours under scene points, edges left out.  # [N, 3] sRGB"""
    pixels, _ = view.camera.project(points)
    smooth = cv2.GaussianBlur(pure_photo(view), (0, 0), _BLUR)
    return sample_image(smooth, pixels)


_ASKED = (0.6, 0.75, 0.9)  # of the way down a thigh or shin, where the photo is asked
_SPREAD = 0.28  # metres between legs; nearer ones do not show whether they are in one tube


def closed_legs(posed: PosedBody, view: PhotoView) -> dict[bool, float]:
    """Share of places between spread thighs (True) and shins (False) that show the person.

    NaN where they are not spread or out of the picture.
    """
    bones = move_points(posed.transforms[:, :3], posed.joints)
    chains = {
        side: bones[[JOINT_INDEX[f"{side}_{n}"] for n in ("hip", "knee", "ankle")]]
        for side in ("left", "right")
    }
    return {
        thigh: _share_between(chains["left"][k : k + 2], chains["right"][k : k + 2], view)
        for k, thigh in enumerate((True, False))
    }


def _share_between(left: np.ndarray, right: np.ndarray, view: PhotoView) -> float:
    """Of the places between two bones, each [2, 3], that are spread: what shows the person."""
    along = np.array(_ASKED)[:, None]
    (a, depth), (b, _) = (
        view.camera.project((1 - along) * bone[0] + along * bone[1]) for bone in (left, right)
    )
    column, row, inside = places_in((a + b) / 2, view)
    asked = inside & (np.linalg.norm(a - b, axis=1) > _SPREAD * view.camera.K[0, 0] / depth)
    if not asked.any():
        return np.nan
    return float(view.visible[row[asked], column[asked]].mean())


# Which Gaussians a picture shows: those that paint in it

# Share of its disc's pixels that a well seen Gaussian paints. Less counts more as seen, also what
# shows through gaps; more leaves colours of the photo unused. benchmarks/visibility.py, 3 crowds of
# 4 made-up people: at 0.1, 0.2, 0.3, 0.5, 0.7 F1 is 0.87, 0.84, 0.81, 0.74, 0.65, precision 0.957,
# 0.987, 0.994, 0.999, 1.000, and views of photo_fit's people that no photo shows have 22.33, 22.31,
# 22.08, 21.64, 21.31 dB inside the true outline.
PAINTED = 0.3
_BLANK = 1e-3  # pixels: keeps a disc without any from being seen
_Values = TypeVar("_Values", np.ndarray, Tensor)


def visible(
    painted: _Values,
    radius: _Values,
    focal: float | Tensor,
    depth: _Values,
    facing: _Values | float = 1.0,
) -> _Values:
    """How well a picture shows Gaussians: the pixels they paint of those that their discs have.

    Args:
        painted: pixels of the picture that each Gaussian paints.  # [N]
        radius: standard deviation along the surface, metres.  # [N]
        focal: of the picture, pixels.
        depth: metres before the camera.  # [N]
        facing: how frontally each is seen, 0..1: a slanting disc has fewer pixels.  # [N]

    Returns:
        # [N] 0..1
    """
    disc = (2 * radius * focal / depth) ** 2
    return facing * (painted / (PAINTED * facing * disc + _BLANK)).clip(0, 1)
