# SPDX-License-Identifier: Apache-2.0
"""The front/back sheet: a body in an A-pose, seen from the front and from the back.

Both sides are layers of one image, so a place and what lies behind it share a pixel, and left and
right are a flip. Any body model has coordinates on the sheet; its texels are the open body's.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.geometry.skinning import move_points
from scipy import ndimage
from scipy.spatial import cKDTree

from ..body.load import load_body
from ..body.model import BodyModel, pose_body
from ..core.mesh import unit, vertex_normals

LAYERS, HEIGHT, WIDTH = 2, 128, 64  # front and back; texels of 10 to 14 mm on an adult
_MARGIN = 2  # texels around the body
_ARM_DOWN, _LEG_OUT, _PALM = 1.22, 0.07, -1.4  # radians of the A-pose
_HEAD, _HANDS = 1.7, 1.2  # how much larger than in life they are drawn; faces need more texels
_CHIN = 0.03  # metres below the head's joint, about which the head grows
_HEAD_JOINTS = ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")
_FACES_SIDE = -0.15  # normal towards the viewer from which a face is drawn
_NORMAL_TEXELS = 3.0  # what a turn by one radian counts in distances on the sheet
_DEPTH_SHARE = 0.5  # of a distance in depth: what tells an arm from the trunk behind it


@dataclass(frozen=True)
class Coordinates:
    """Where points lie on the sheet."""

    xy: np.ndarray  # [N, 2] texels, centres at half integers
    depth: np.ndarray  # [N] texels, towards the viewer of the front
    normal: np.ndarray  # [N, 3] unit, in the A-pose

    @property
    def layer(self) -> np.ndarray:
        """0 front, 1 back.  # [N]"""
        return (self.normal[:, 2] < 0).astype(int)

    @property
    def features(self) -> np.ndarray:
        """For nearest neighbours, in texels.  # [N, 6]"""
        depth = _DEPTH_SHARE * self.depth[:, None]
        return np.concatenate([self.xy, depth, _NORMAL_TEXELS * self.normal], 1)


@dataclass(frozen=True)
class Sheet:
    """The V texels in use; everything of the network's is kept as values of them."""

    face: np.ndarray  # [V] int64 of the open body
    barycentric: np.ndarray  # [V, 3]
    cell: np.ndarray  # [V] int64: which of LAYERS x HEIGHT x WIDTH
    mirror: np.ndarray  # [V] int64: the texel on the other side
    opposite: np.ndarray  # [V] int64: the texel behind it
    nearest: np.ndarray  # [LAYERS * HEIGHT * WIDTH] int64: the texel that fills each cell
    places: Coordinates  # of the texels
    position: np.ndarray  # [V, 3] metres, T-pose
    normal: np.ndarray  # [V, 3] T-pose

    def __len__(self) -> int:
        return len(self.face)

    @property
    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Layer, row and column of each texel.  # [V] each"""
        layer, rest = np.divmod(self.cell, HEIGHT * WIDTH)
        return layer, rest // WIDTH, rest % WIDTH

    def on(self, per_vertex: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Values [N, ...] of the open body's vertices at the texels.  # [V, ...]"""
        return np.einsum("vk,vk...->v...", self.barycentric, per_vertex[faces[self.face]])

    def read(self, values: np.ndarray, places: Coordinates) -> np.ndarray:
        """Bilinear values of the texels [V, C] at some places [N].  # [N, C]"""
        image = values[self.nearest].reshape(LAYERS, HEIGHT, WIDTH, -1)
        x = np.clip(places.xy[:, 0] - 0.5, 0, WIDTH - 1.001)
        y = np.clip(places.xy[:, 1] - 0.5, 0, HEIGHT - 1.001)
        column, row, layer = x.astype(int), y.astype(int), places.layer
        u, v = (x - column)[:, None], (y - row)[:, None]
        top = image[layer, row, column] * (1 - u) + image[layer, row, column + 1] * u
        low = image[layer, row + 1, column] * (1 - u) + image[layer, row + 1, column + 1] * u
        return top * (1 - v) + low * v


def vertex_coordinates(body: BodyModel) -> Coordinates:
    """Where the vertices of a body of average shape lie on the sheet."""
    posed = pose_body(body, _a_pose(body.num_betas))
    points = posed.pose_points(posed.rest)
    bones = move_points(posed.transforms[:, :3], posed.joints)
    weights = body.skin_weights.cpu().numpy().astype(float)
    head = weights[:, [JOINT_INDEX[name] for name in _HEAD_JOINTS]].sum(1, keepdims=True)
    centre = bones[JOINT_INDEX["head"]] - (0, _CHIN, 0)
    points = points + (_HEAD - 1) * head * (points - centre)
    for side in ("left", "right"):
        wrist = JOINT_INDEX[f"{side}_wrist"]
        fingers = [k for name, k in JOINT_INDEX.items() if _of_hand(name, side)]
        hand = weights[:, fingers].sum(1, keepdims=True)
        points = points + (_HANDS - 1) * hand * (points - bones[wrist])
    low, high = points.min(0), points.max(0)
    half = max(-low[0], high[0])
    scale = min((WIDTH / 2 - _MARGIN) / half, (HEIGHT - 2 * _MARGIN) / (high[1] - low[1]))
    middle = (low[1] + high[1]) / 2
    xy = np.column_stack(
        [WIDTH / 2 + scale * points[:, 0], HEIGHT / 2 - scale * (points[:, 1] - middle)]
    )
    return Coordinates(xy, scale * points[:, 2], vertex_normals(points, posed.faces))


def points_on(vertices: Coordinates, corners: np.ndarray, barycentric: np.ndarray) -> Coordinates:
    """Coordinates of surface points from those of their corners [N, 3]."""

    def mean(values: np.ndarray) -> np.ndarray:
        return np.einsum("nk,nk...->n...", barycentric, values[corners])

    return Coordinates(mean(vertices.xy), mean(vertices.depth), unit(mean(vertices.normal)))


@cache
def open_sheet() -> Sheet:
    """The sheet of the open body."""
    body = load_body("open")
    faces, template = body.faces.cpu().numpy(), body.template.cpu().numpy().astype(float)
    vertices = vertex_coordinates(body)
    drawn = np.flatnonzero(~body.interior.cpu().numpy()[faces].any(1))
    cell, face, barycentric = _draw(vertices, faces, drawn)
    places = points_on(vertices, faces[face], barycentric)
    # a texel is of the layer on which it was drawn, even where its normal turns to the other
    layer, rest = np.divmod(cell, HEIGHT * WIDTH)
    row, column = np.divmod(rest, WIDTH)
    normals = vertex_normals(template, faces)
    where = np.full((LAYERS, HEIGHT, WIDTH), -1)
    where.ravel()[cell] = np.arange(len(cell))
    nearest = np.stack([_nearest(each) for each in where])
    return Sheet(
        face,
        barycentric,
        cell,
        nearest[layer, row, WIDTH - 1 - column],
        nearest[1 - layer, row, column],
        nearest.ravel(),
        places,
        np.einsum("vk,vkc->vc", barycentric, template[faces[face]]),
        unit(np.einsum("vk,vkc->vc", barycentric, normals[faces[face]])),
    )


def _of_hand(name: str, side: str) -> bool:
    """The wrist and the fingers."""
    fingers = ("wrist", "index", "middle", "pinky", "ring", "thumb")
    return name.startswith(tuple(f"{side}_{finger}" for finger in fingers))


def _a_pose(num_betas: int) -> BodyParams:
    pose = np.zeros((55, 3), np.float32)
    for side, sign in (("left", -1), ("right", 1)):
        pose[JOINT_INDEX[f"{side}_shoulder"]] = 0, 0, sign * _ARM_DOWN
        pose[JOINT_INDEX[f"{side}_hip"]] = 0, 0, -sign * _LEG_OUT
        pose[JOINT_INDEX[f"{side}_wrist"]] = _PALM, 0, 0
    return BodyParams(np.zeros(num_betas, np.float32), pose, np.zeros(3, np.float32))


def _nearest(texel: np.ndarray) -> np.ndarray:
    """Each cell's texel, or that of the nearest cell in use.  # [H, W] int64"""
    rows, columns = ndimage.distance_transform_edt(
        texel < 0, return_distances=False, return_indices=True
    )
    return texel[rows, columns]


def _draw(
    vertices: Coordinates, faces: np.ndarray, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each cell's centre shows: cells in use [V], faces [V], barycentric places [V, 3]."""
    shown: tuple[list[np.ndarray], ...] = ([], [], [])
    for layer, sign in enumerate((1, -1)):
        turned = sign * vertices.normal[faces[drawn]].mean(1)[:, 2] > _FACES_SIDE
        cell, face, barycentric = _covered(vertices.xy, faces, drawn[turned])
        depth = sign * np.einsum("nk,nk->n", barycentric, vertices.depth[faces[face]])
        order = np.lexsort((-depth, cell))
        first = order[np.unique(cell[order], return_index=True)[1]]
        for kept, found in zip(shown, (cell + layer * HEIGHT * WIDTH, face, barycentric)):
            kept.append(found[first])
    cell, face, barycentric = (np.concatenate(kept) for kept in shown)
    return cell, face, barycentric


def _covered(
    xy: np.ndarray, faces: np.ndarray, some: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every cell's centre inside each of some faces: cell [K], face [K], barycentric [K, 3]."""
    corners = xy[faces[some]]  # [F, 3, 2]
    first = np.ceil(corners.min(1) - 0.5).astype(int)
    size = np.maximum(np.floor(corners.max(1) - 0.5).astype(int) - first + 1, 0)
    found: list[tuple[np.ndarray, ...]] = []
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 2)
    flat = np.abs(np.linalg.det(edges)) < 1e-9
    inverse = np.linalg.inv(np.where(flat[:, None, None], np.eye(2), edges))
    for across in range(size[:, 0].max()):
        for down in range(size[:, 1].max()):
            own = np.flatnonzero((size[:, 0] > across) & (size[:, 1] > down) & ~flat)
            place = first[own] + (across, down)
            local = np.einsum("fij,fj->fi", inverse[own], place + 0.5 - corners[own, 0])
            weights = np.column_stack([1 - local.sum(1), local])
            inside = (weights >= -1e-9).all(1)
            cell = place[:, 1] * WIDTH + place[:, 0]
            found.append((cell[inside], some[own[inside]], weights[inside]))
    cell, face, barycentric = (np.concatenate(parts) for parts in zip(*found))
    return cell, face, barycentric


def nearest_points(places: Coordinates, sheet: Sheet, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of some points to each texel: distances in texels and indices.  # [V, count]"""
    return cKDTree(places.features).query(sheet.places.features, k=count)
