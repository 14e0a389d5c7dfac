# SPDX-License-Identifier: Apache-2.0
"""How well an avatar matches the photo, whether it has holes, and how it looks from all sides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians
from crowdgaussian_shared.geometry.sh import sh_to_colour
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from crowdgaussian_shared.geometry.skinning import (
    joint_transforms,
    move_points,
    pose_avatar,
    pose_body,
)
from scipy.spatial import cKDTree

from ..core import metrics
from ..core.crop import disc
from ..segment.types import CrowdView
from ..splat.cameras import Cameras
from ..splat.normals import render_mesh_depth
from ..splat.rasterize import rasterize
from ..splat.splats import Render, Splats
from .visibility import COMPARED_PX, PhotoView, make_view

ORBIT_VIEWS = 24
_ORBIT_SIZE = 320  # pixels
_FOV = 0.6  # radians
_SOLID = 0.9  # alpha from which a pixel is covered
_MARGIN = 0.08  # of the person's height around the crop that is compared
_NEAREST = 0.1  # metres in front of the camera
_ORBIT_MARGIN = 0.62  # of the body's diagonal that fits into half the picture


def measure(
    avatar: Avatar, scene: CrowdView, index: int, max_side: int = COMPARED_PX
) -> dict[str, float]:
    """Everything `inspect` reports about one avatar.

    Args:
        avatar: the person in the photo's pose.
        scene: the photo, everybody in it, and their masks.
        index: whose avatar it is.
        max_side: longest side in pixels at which the photo is compared.

    Returns:
        iou: visible mask against the splat silhouette (alpha > 0.5), pixels of occluders left out.
        psnr_db: inside the visible mask, over black.
        coverage: share of the body's silhouette with alpha > 0.9, worst of 24 orbit views.
        all_round and its parts: see there.
    """
    posed = pose_avatar(avatar)
    quality = {"coverage": coverage(avatar, posed=posed)}
    view = make_view(scene, index, _MARGIN, max_side)
    if view is not None and view.visible.any():
        with torch.no_grad():
            render = rasterize(Splats.from_gaussians(posed), Cameras.from_cameras(view.camera))
        quality |= {"iou": silhouette_iou(render, view), "psnr_db": masked_psnr(render, view)}
        quality |= all_round(avatar, view, quality["iou"], posed)
    return {name: round(float(value), 4) for name, value in quality.items()}


def silhouette_iou(render: Render, view: PhotoView) -> float:
    """Intersection over union of alpha > 0.5 and the visible mask, hidden pixels left out."""
    known = ~view.hidden
    drawn = (render.alpha[0].numpy() > 0.5) & known
    shown = view.visible & known
    return float((drawn & shown).sum() / max((drawn | shown).sum(), 1))


def masked_psnr(render: Render, view: PhotoView) -> float:
    """Peak signal-to-noise ratio over the visible pixels, the render on black.  # decibels"""
    photo, visible = torch.from_numpy(view.photo), torch.from_numpy(view.visible)
    return float(metrics.masked_psnr(render.color.clamp(0, 1), photo[None], visible[None]))


@dataclass(frozen=True)
class OrbitView:
    """One look at an avatar in the photo's pose from around."""

    colour: np.ndarray  # [H, W, 3] float32 sRGB over black
    alpha: np.ndarray  # [H, W]
    body: np.ndarray  # [H, W] bool: the silhouette of the naked body
    px_per_m: float  # at the middle of the body


def orbit(
    avatar: Avatar, views: int, size: int, first: float = 0.0, posed: Gaussians | None = None
) -> Iterator[OrbitView]:
    """Views from level cameras around the middle of the body, which takes the photo's pose.

    Args:
        avatar: the person.
        views: how many.
        size: pixels a side.
        first: azimuth of the first camera, radians from +z towards +x.
        posed: what pose_avatar gives, where it is at hand.
    """
    gaussians = pose_avatar(avatar) if posed is None else posed
    vertices = pose_body(avatar)
    low, high = vertices.min(0), vertices.max(0)
    radius = _ORBIT_MARGIN * float(np.linalg.norm(high - low)) / np.tan(_FOV / 2)
    cameras = Cameras.orbit((low + high) / 2, radius, views, fov=_FOV, size=size, first=first)
    splats = Splats.from_gaussians(gaussians)
    for index, camera in enumerate(cameras.to_cameras()):
        with torch.no_grad():
            render = rasterize(splats, cameras[index])
        depth, _ = render_mesh_depth(vertices, avatar.body.faces, camera)
        body = np.isfinite(np.asarray(depth))
        yield OrbitView(
            render.color[0].numpy(), render.alpha[0].numpy(), body, camera.K[1, 1] / radius
        )


def coverage(
    avatar: Avatar,
    views: int = ORBIT_VIEWS,
    size: int = _ORBIT_SIZE,
    posed: Gaussians | None = None,
) -> float:
    """Share of the body's silhouette under alpha > 0.9, in the worst of the orbit's views."""
    return min(_covered(view) for view in orbit(avatar, views, size, posed=posed))


def _covered(view: OrbitView) -> float:
    return float((view.alpha[view.body] > _SOLID).mean()) if view.body.any() else 0.0


# All round: what is wrong with an avatar from outside, without the photo's word for it

# Each part is 1 at its second value and better, 0 at its first and worse, linear between. Set on 49
# people of seven photos and the sample, looked at from all sides: docs/architecture.md.
_PARTS = {
    "whole": (0.9, 0.98),  # share of the body's silhouette that is covered, worst view
    "shape": (2.0, 1.45),  # silhouette over the naked body's, worst view: balloons, torn cloth
    "colours": (0.25, 0.05),  # share of pixels unlike their surroundings, beyond the photo's side
    "legs": (
        0.2,
        0.06,
    ),  # share of a leg whose twin is of another material: a thing's, a neighbour's
    "upright": (0.0, 0.75),  # cosine between the trunk and the vertical
    "known": (0.45, 0.85),  # share of the body's outline that the photo shows
    "head": (0.3, 0.9),  # the same of the head
    "free": (0.15, 0.02),  # share of the body where the photo shows that nobody is
    "outline": (0.7, 0.9),  # IoU with the person's mask: low is surely wrong, high says little
}
_ROUND_VIEWS, _ROUND_SIZE = 8, 200  # views; pixels a side
_SPECK, _STANDS_OUT = 7, 0.12  # pixels around, and sRGB from their median, of a pixel unlike them
_TWINS, _OTHER_MATERIAL = 12, 0.3  # Gaussians compared, and how unlike their colours must be
_BRIGHTNESS = 0.5  # what brightness counts then, against hue: a leg may lie in shadow
_CORE = 0.012  # of the body's height: nearer to its outline it may be cloth or a false fit
_LEG_JOINTS, _HEAD_JOINTS = ("hip", "knee"), ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")


def all_round(
    avatar: Avatar, view: PhotoView, iou: float, posed: Gaussians | None = None
) -> dict[str, float]:
    """How much like a person an avatar looks from all sides, 0..1, and the parts of that.

    The score, `all_round`, is the product of the parts (`round_...`), which are 1 where nothing is
    wrong.

    Args:
        avatar: the person in the photo's pose.
        view: the photo around them.
        iou: of the visible mask and the splat silhouette.
        posed: as in orbit.
    """
    toward = view.eye - pose_body(avatar).mean(0)
    # Whole degrees, so that a hair's breadth of the camera changes no score.
    first = float(np.deg2rad(np.round(np.rad2deg(np.arctan2(toward[0], toward[2])))))
    seen = list(orbit(avatar, _ROUND_VIEWS, _ROUND_SIZE, first, posed))
    specks = [_specks(each) for each in seen]
    values = _in_photo(avatar, view) | {
        "whole": min(_covered(each) for each in seen),
        "shape": max((each.alpha > 0.5).sum() / max(each.body.sum(), 1) for each in seen),
        "colours": max(specks[1:]) - specks[0],
        "legs": _unlike_legs(avatar),
        "upright": _upright(avatar),
        "outline": iou,
    }
    parts = {
        name: float(np.clip((values[name] - worst) / (best - worst), 0, 1))
        for name, (worst, best) in _PARTS.items()
    }
    score = float(np.prod(list(parts.values())))
    return {"all_round": score} | {f"round_{name}": part for name, part in parts.items()}


def _specks(view: OrbitView) -> float:
    """Share of a silhouette whose colour jumps out of its surroundings: beads, seams, prints."""
    inside = cv2.erode((view.alpha > 0.5).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    colour = view.colour / np.maximum(view.alpha, 0.5)[..., None]
    picture = np.ascontiguousarray((255 * colour.clip(0, 1)).astype(np.uint8))
    usual = cv2.medianBlur(picture, _SPECK)
    away = np.abs(picture.astype(float) - usual).max(-1) / 255
    return float((away[inside] > _STANDS_OUT).mean()) if inside.any() else 0.0


def _unlike_legs(avatar: Avatar) -> float:
    """Share of the left leg of which the right one's counterpart is of another material."""
    means, colours = avatar.gaussians.means, sh_to_colour(avatar.gaussians.sh)
    grey = colours.mean(1, keepdims=True)
    looks = np.column_stack([_BRIGHTNESS * np.sqrt(3) * grey, colours - grey])
    main = avatar.skin_joints[np.arange(len(means)), avatar.skin_weights.argmax(1)]
    left, right = (
        np.isin(main, [JOINT_INDEX[f"{side}_{joint}"] for joint in _LEG_JOINTS])
        for side in ("left", "right")
    )
    if min(left.sum(), right.sum()) < _TWINS:
        return 0.0
    usual = []
    for leg, mirror in ((left, 1), (right, -1)):
        _, near = cKDTree(means[leg] * (mirror, 1, 1)).query(means[left], k=_TWINS)
        usual.append(np.median(looks[leg][near], axis=1))
    return float((np.linalg.norm(usual[0] - usual[1], axis=1) > _OTHER_MATERIAL).mean())


def _upright(avatar: Avatar) -> float:
    """Cosine between the way from pelvis to neck and the vertical."""
    transforms = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
    ends = [JOINT_INDEX["pelvis"], JOINT_INDEX["neck"]]
    low, high = move_points(transforms[ends, :3], avatar.rest_joints[ends])
    return float((high - low)[1] / max(np.linalg.norm(high - low), 1e-6))


def _in_photo(avatar: Avatar, view: PhotoView) -> dict[str, float]:
    """Shares of body and head that the photo shows, and where it shows that nobody is."""
    vertices, faces = pose_body(avatar), avatar.body.faces
    depth, face = render_mesh_depth(vertices, faces, view.camera)
    body = np.isfinite(np.asarray(depth))
    main = avatar.body.skin_joints[np.arange(len(vertices)), avatar.body.skin_weights.argmax(1)]
    of_head = np.isin(main, [JOINT_INDEX[name] for name in _HEAD_JOINTS])
    head = body & of_head[faces[np.maximum(np.asarray(face), 0), 0]]
    away = view.camera.viewmat[2, :3] @ vertices.mean(0) + view.camera.viewmat[2, 3]
    height_px = np.ptp(avatar.body.vertices[:, 1]) * view.camera.K[1, 1] / max(away, _NEAREST)
    core = cv2.erode(body.astype(np.uint8), disc(max(1.0, _CORE * height_px))) > 0
    return {
        "known": float((view.visible & body).sum() / max(body.sum(), 1)),
        "head": float((view.visible & head).sum() / max(head.sum(), 1)),
        "free": float((core & view.empty).sum() / max(core.sum(), 1)),
    }


def tidied(
    avatar: Avatar,
    tidy_sh: np.ndarray,
    steps: Sequence[np.ndarray],
    view: PhotoView,
    loss_db: float,
) -> np.ndarray:
    """Colours that go to the tidy ones as far as the photo does not suffer.

    Blending is linear in the colours, so the squared error inside the mask is a parabola in the
    share of the way, known from two renders; the picture after a step is known from them, too.

    Args:
        avatar: with colours as the photo shows them.
        tidy_sh: [N, 1, 3] the same with misplaced colours replaced.
        steps: [N] bool each, whose colours may go in this step.
        view: the crop.
        loss_db: how much of the avatar's own signal-to-noise ratio inside the mask a step may cost.

    Returns:
        # [N, 1, 3]
    """
    posed, cameras = pose_avatar(avatar), Cameras.from_cameras(view.camera)

    def draw(sh: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            splats = Splats.from_gaussians(replace(posed, sh=sh))
            return rasterize(splats, cameras).color[0].numpy()

    sh = avatar.gaussians.sh
    drawn = draw(sh)
    for some in steps:
        wanted = np.where(some[:, None, None], tidy_sh, sh)
        changed = draw(wanted)
        share = np.float32(_share(drawn, changed, view, loss_db))
        sh, drawn = sh + share * (wanted - sh), drawn + share * (changed - drawn)
    return sh


def _share(drawn: np.ndarray, changed: np.ndarray, view: PhotoView, loss_db: float) -> float:
    """How far to go from one picture [h, w, 3] to another, 0..1."""
    error = (drawn - view.photo)[view.visible]
    change = (changed - drawn)[view.visible]
    square, cross = (change**2).mean(), (error * change).mean()
    room = (10 ** (loss_db / 10) - 1) * (error**2).mean()
    if square + 2 * cross <= room:
        return 1.0
    return float(np.clip((-cross + np.sqrt(cross**2 + square * room)) / max(square, 1e-12), 0, 1))
