# SPDX-License-Identifier: Apache-2.0
"""The avatars of a crowd whose looks are known: clean, damaged, or built from its photo."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, Gaussians
from crowdgaussian_shared.geometry.rotations import matrix_to_quat, quat_to_matrix
from crowdgaussian_shared.geometry.skinning import (
    blend_transforms,
    join_gaussians,
    move_points,
    pose_avatar,
)
from crowdgaussian_shared.geometry.skinning import pose_body as pose_avatar_body
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import max_pool2d

from ...avatar.gaussians import dense_weights, top_four
from ...avatar.types import AvatarBuilder
from ...body.model import PosedBody, pose_body
from ...body.parts import sample_surface
from ...core.device import choose_device
from ...core.mesh import face_normals, unit
from ...core.metrics import Lpips, masked_psnr
from ...core.progress import Report
from ...refiner.networks.tiling import VIEWS, normal_input
from ...refiner.training.dataset import render_truth
from ...refiner.types import Refiner
from ...segment.types import CrowdView
from ...splat.cameras import Cameras
from ...splat.normals import render_normals
from ...splat.rasterize import rasterize
from ...splat.splats import Splats
from ...synthetic.people import surface_gaussians
from ...synthetic.photo import damaged, placed_body
from ...synthetic.scenes import CrowdScene, PlacedActor, face_light, hemisphere_views
from ..report import Views, render_views, score

_FINE = 0.8  # of the usual width of a surface Gaussian: evenly spread ones leave no holes
_NEAREST = 3  # vertices of the body that a Gaussian moves with


@dataclass(frozen=True)
class People:
    """The avatars of a scene by index, and why others have none."""

    avatars: dict[int, Avatar]
    errors: tuple[str, ...] = ()


def clean_people(scene: CrowdScene, points: int, seed: int) -> People:
    """Everybody as Gaussians spread evenly over their true surface, without holes.

    Args:
        scene: the people.
        points: Gaussians of each, about.
        seed: where they lie.
    """
    return _bound(
        scene,
        [
            _even_gaussians(each, face_light(each, scene.light, scene.direct), points, seed)
            for each in scene.people
        ],
    )


def damaged_people(scene: CrowdScene, points: int, rng: np.random.Generator) -> People:
    """Everybody after a chain of damage, as in training data."""
    return _bound(scene, damaged(scene, rng, points).gaussians)


def built_people(builder: AvatarBuilder, taken: CrowdView, report: Report) -> People:
    """What an appearance stage makes of the scene's photo."""
    avatars, errors = {}, []
    for outcome in builder.reconstruct(taken, range(len(taken)), report):
        try:
            avatars[outcome.index] = outcome.result()
        except CrowdGaussianError as error:
            errors.append(f"person {outcome.index}: {error}")
    return People(avatars, tuple(errors))


def bind(gaussians: Gaussians, placed: PlacedActor) -> Avatar:
    """Gaussians that lie in the scene, as an avatar that the person's body moves.

    Posed as it stands, the avatar shows the same Gaussians again.

    Args:
        gaussians: of degree 0, in the scene.
        placed: whose they are.
    """
    posed = pose_body(placed.actor.body, placed_body(placed))
    joints, weights = _nearby_weights(gaussians.means, posed)
    matrices = blend_transforms(joints, weights, posed.transforms)  # [N, 3, 4]
    back = np.linalg.inv(matrices[:, :, :3])
    means = np.einsum("nij,nj->ni", back, gaussians.means - matrices[:, :, 3])
    frames = back @ quat_to_matrix(gaussians.quats.astype(np.float64))
    axes, scales, _ = np.linalg.svd(frames * gaussians.scales[:, None, :])
    axes[:, :, 2] *= np.linalg.det(axes)[:, None]
    canonical = Gaussians(
        means.astype(np.float32),
        matrix_to_quat(axes).astype(np.float32),
        scales.astype(np.float32),
        gaussians.opacities,
        gaussians.sh,
    )
    return Avatar(
        canonical,
        joints.astype(np.uint8),
        weights.astype(np.float32),
        posed.joints.astype(np.float32),
        _mesh(posed),
        posed.params,
    )


def _even_gaussians(placed: PlacedActor, colours: np.ndarray, points: int, seed: int) -> Gaussians:
    vertices, faces = placed.points(placed.actor.vertices), placed.actor.faces
    spread = sample_surface(vertices, faces, np.ones(len(faces)), points, seed)
    normals = unit(face_normals(vertices, faces))[spread.face]
    return surface_gaussians(
        spread.on(vertices, faces),
        normals,
        colours[spread.face],
        _FINE * float(spread.spacing.mean()),
    )


def _bound(scene: CrowdScene, people: list[Gaussians]) -> People:
    return People(dict(enumerate(map(bind, people, scene.people))))


def _nearby_weights(points: np.ndarray, posed: PosedBody) -> tuple[np.ndarray, np.ndarray]:
    """Skin weights of places near the posed body.  # [N, 4], [N, 4]"""
    vertices = move_points(posed.matrices, posed.rest)
    far, near = cKDTree(vertices).query(points, k=_NEAREST)
    shares = 1 / (far + 1e-3)
    shares /= shares.sum(1, keepdims=True)
    return top_four(np.einsum("nk,nkj->nj", shares, dense_weights(posed)[near]))


def _mesh(posed: PosedBody) -> BodyMesh:
    return BodyMesh(
        posed.rest.astype(np.float32),
        posed.faces.astype(np.int32),
        posed.skin_joints.astype(np.uint8),
        posed.skin_weights.astype(np.float32),
    )


# Views of a crowd that its refinement has not seen: the truth, and what avatars show in them

AROUND = 7  # pixels: the window in which somebody counts as near
INSIDE = 5  # pixels: the window that must show somebody everywhere
SCORES = ("psnr", "masked_psnr", "inside_psnr", "ssim", "masked_ssim", "lpips", "masked_lpips")


@dataclass(frozen=True)
class HeldOut:
    """What is really seen, on white."""

    cameras: Cameras
    views: Views


def held_out(scene: CrowdScene, views: int, size: int, only: int | None = None) -> HeldOut:
    """The truth from a hemisphere of cameras, framed on everybody or on one person alone.

    Args:
        scene: the people.
        views: how many.
        size: pixels a side.
        only: this person, as if nobody else were there; None: everybody.
    """
    if only is not None:
        scene = replace(scene, people=(scene.people[only],))
    cameras = hemisphere_views(scene, views, size)
    layers = torch.from_numpy(render_truth(scene, cameras)).float() / 255
    alpha = layers[..., 3:]
    return HeldOut(cameras, Views(layers[..., :3] * alpha + 1 - alpha, alpha[..., 0]))


def shown(avatars: Iterable[Avatar], cameras: Cameras) -> Views:
    """What avatars show, on white."""
    return render_views(_splats(avatars).to(choose_device()), cameras, VIEWS)


def refined_in_2d(
    coarse: Views, avatars: Iterable[Avatar], cameras: Cameras, refiner: Refiner
) -> Views:
    """The same views after the refiner, which is given the normals of the avatars' bodies."""
    some = list(avatars)
    maps = render_normals(
        np.stack([pose_avatar_body(each) for each in some]), some[0].body.faces, cameras
    )
    normals, pictures = normal_input(maps), coarse.colour.movedim(-1, 1)
    fine = torch.cat(
        [
            refine_on_device(refiner, pictures[i : i + 1], normals[i : i + 1])
            for i in range(len(cameras))
        ]
    )
    return replace(coarse, colour=((255 * fine).round() / 255).movedim(1, -1))


def refine_on_device(refiner: Refiner, images: Tensor, normals: Tensor) -> Tensor:
    """What a refiner that lies on the best device makes of tensors on the CPU; back there."""
    device = choose_device()
    return refiner.refine(images.to(device), normals.to(device)).cpu()


def near(*alphas: Tensor) -> Tensor:
    """Where somebody is, or is wrongly shown, and a little around.  # [C, H, W] -> bool"""
    widest = torch.stack(alphas).amax(0)[:, None]
    return max_pool2d(widest, AROUND, stride=1, padding=AROUND // 2)[:, 0] > 0.5


def score_views(views: Views, truth: Views, mask: Tensor, lpips: Lpips | None) -> dict[str, float]:
    """Means over the views of SCORES, without LPIPS where that is None.  # mask [C, H, W] bool"""
    values = score(views, truth.colour, mask, lpips)
    beside = max_pool2d(1 - truth.alpha[:, None], INSIDE, stride=1, padding=INSIDE // 2)[:, 0]
    inside = masked_psnr(views.colour, truth.colour, beside < 0.5)
    values["inside_psnr"] = float(inside.nanmean())
    return {name: values[name] for name in SCORES if name in values}


def photo_psnr(avatars: Iterable[Avatar], taken: CrowdView) -> float:
    """Masked PSNR where the photo shows somebody, dB; what lies behind is taken from the photo's
    own median there."""
    seen = np.logical_or.reduce([mask.visible for mask in taken.masks])
    photo = torch.from_numpy(taken.photo).float()[None] / 255
    splats, camera = _splats(avatars), Cameras.from_cameras(taken.crowd.camera)
    behind = photo[0][torch.from_numpy(~seen)].median(0).values
    with torch.no_grad():
        render = rasterize(splats, camera, behind, config=VIEWS).color.clamp(0, 1)
    return float(masked_psnr(render, photo, torch.from_numpy(seen)[None]))


def _splats(avatars: Iterable[Avatar]) -> Splats:
    return Splats.from_gaussians(join_gaussians([pose_avatar(each) for each in avatars]))
