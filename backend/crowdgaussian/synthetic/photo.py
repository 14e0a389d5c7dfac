# SPDX-License-Identifier: Apache-2.0
"""The photo of a training scene, with the people and masks that stages 1 and 2 would find in it.

So a stage-1 avatar can be built of people whose looks from everywhere are known.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import Avatar, BodyParams, Gaussians
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skinning import pose_avatar, pose_body

from ..avatar.types import AvatarBuilder
from ..core.progress import silent
from ..people.types import Crowd, person_from_parameters
from ..segment.types import CrowdView, PersonMask
from ..splat.cameras import Cameras
from ..splat.normals import render_mesh_depth
from .degradations import degrade, draw_chain
from .people import render_rgba
from .scenes import MARGIN, CrowdScene, PlacedActor, clean_gaussians, face_light, moved_body

_FOV = 0.7  # radians, of a usual lens, before the camera is framed
_AWAY = 2.2  # times half the crowd's extent that the lens would need
_ELEVATIONS = 0.02, 0.14  # radians above the crowd's middle
_WALL, _FLOOR = (0.35, 0.85), (0.25, 0.6)  # sRGB of what is behind


def scene_photo(scene: CrowdScene, rng: np.random.Generator, size: int = 640) -> CrowdView:
    """A photo of everybody from about eye height, before a plain wall and floor.

    With it come the true bodies, in the scene's own frame, in the order of scene.people.

    Args:
        scene: the people.
        rng: from which side, and what is behind.
        size: pixels a side.
    """
    camera = _camera(scene, rng, size)
    meshes = [each.points(each.actor.vertices).astype(np.float32) for each in scene.people]
    colours = [face_light(each, scene.light, scene.direct) for each in scene.people]
    starts = np.cumsum([0, *(len(mesh) for mesh in meshes)])
    faces = [each.actor.faces + start for each, start in zip(scene.people, starts)]
    seen = render_rgba(
        np.concatenate(meshes), np.concatenate(faces), np.concatenate(colours), camera
    )
    alpha = seen[..., 3:] / 255
    photo = seen[..., :3] * alpha + _behind(camera, rng) * (1 - alpha)
    masks = _masks(meshes, [each.actor.faces for each in scene.people], camera)
    people = []
    for placed, mask in zip(scene.people, masks):
        people.append(person_from_parameters(placed_body(placed), mask.visible))
    crowd = Crowd(tuple(people), camera, "option", (True,) * len(people))
    return CrowdView(photo.round().astype(np.uint8), crowd, masks)


def placed_body(placed: PlacedActor) -> BodyParams:
    """The parameters of an actor's body where it stands in the scene."""
    actor = placed.actor
    return moved_body(actor.body, actor.params, placed.rotation, placed.offset)


def _camera(scene: CrowdScene, rng: np.random.Generator, size: int) -> Camera:
    points = np.concatenate([each.points(each.actor.vertices) for each in scene.people])
    low, high = points.min(0), points.max(0)
    away = _AWAY * 0.5 * float(np.linalg.norm(high - low)) / np.tan(_FOV / 2)
    ring = Cameras.orbit((low + high) / 2, away, 36, rng.uniform(*_ELEVATIONS), _FOV, size)
    one = ring[int(rng.integers(len(ring)))]
    return one.framed(torch.from_numpy(points).float(), MARGIN).to_cameras()[0]


def _behind(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A wall that gets darker to one side, and the floor below.  # [H, W, 3] 0..255"""
    wall, floor = (
        rng.uniform(*_WALL) + rng.normal(0, 0.05, 3),
        rng.uniform(*_FLOOR) + rng.normal(0, 0.05, 3),
    )
    shade = np.linspace(1, rng.uniform(0.7, 1), camera.width)[None, :, None]
    edge = int(camera.height * rng.uniform(0.6, 0.85))
    rows = np.arange(camera.height)[:, None, None]
    return 255 * (np.where(rows < edge, wall, floor) * shade).clip(0, 1)


def _masks(meshes: list[np.ndarray], faces: list[np.ndarray], camera: Camera) -> list[PersonMask]:
    """What is seen of each, and what would be without the others."""
    depths = np.stack(
        [np.asarray(render_mesh_depth(mesh, part, camera)[0]) for mesh, part in zip(meshes, faces)]
    )
    nearest = depths.argmin(0)
    masks = []
    for index, depth in enumerate(depths):
        amodal = np.isfinite(depth)
        visible = amodal & (nearest == index)
        masks.append(PersonMask(visible, amodal, 1 - visible.sum() / max(1, amodal.sum())))
    return masks


# What refinement starts from: a scene's people damaged, or rebuilt from a photo by stage 1

_PHOTOS = 6  # tries for one that shows everybody
_ENOUGH = 0.25  # of everybody is shown: such a photo is taken at once
_LEAST_PX = 150  # of a person; who shows less in every photo is left out of the scene


@dataclass(frozen=True)
class CoarseCrowd:
    """A scene's people as they are known before refinement."""

    gaussians: list[Gaussians]  # of each, in the scene
    bodies: np.ndarray  # [B, V, 3] metres, as the reconstruction has them
    faces: np.ndarray  # [F, 3] of a body
    chain: tuple[str, ...] = ()  # the damage


def clean_people(scene: CrowdScene, rng: np.random.Generator, points: int) -> list[Gaussians]:
    """Dense Gaussians of everybody."""
    return [
        clean_gaussians(each, face_light(each, scene.light, scene.direct), points, rng)
        for each in scene.people
    ]


def damaged(scene: CrowdScene, rng: np.random.Generator, points: int) -> CoarseCrowd:
    """What a chain of damage leaves of everybody's clean Gaussians."""
    clean = clean_people(scene, rng, points)
    chain = draw_chain(rng)
    bodies = np.stack([each.points(each.actor.body_vertices) for each in scene.people])
    faces = scene.people[0].actor.body.faces.numpy()
    return CoarseCrowd(degrade(clean, scene.people, chain, rng), bodies, faces, chain)


def rebuilt(
    scene: CrowdScene, builder: AvatarBuilder, rng: np.random.Generator, size: int
) -> tuple[CrowdScene, CoarseCrowd]:
    """Everybody reconstructed from one photo of the scene, as the pipeline does it.

    Args:
        scene: the people.
        builder: the appearance stage.
        rng: which photo.
        size: of the photo, pixels.

    Returns:
        The scene without those whom no photo shows, and the others' reconstructions.

    Raises:
        CrowdGaussianError: the builder refuses a person.
    """
    photo, shown = _photo(scene, rng, size)
    indices = [int(index) for index in np.flatnonzero(shown)]
    avatars = [outcome.result() for outcome in builder.reconstruct(photo, indices, silent)]
    kept = replace(scene, people=tuple(scene.people[index] for index in indices))
    return kept, _crowd(avatars)


def _crowd(avatars: list[Avatar]) -> CoarseCrowd:
    return CoarseCrowd(
        [pose_avatar(avatar) for avatar in avatars],
        np.stack([pose_body(avatar) for avatar in avatars]),
        avatars[0].body.faces,
    )


def _least_share(photo: CrowdView) -> float:
    return min(1 - mask.occlusion for mask in photo.masks)


def _photo(scene: CrowdScene, rng: np.random.Generator, size: int) -> tuple[CrowdView, np.ndarray]:
    """The photo that shows most of whom it shows least, and who is in it.  # [B] bool"""
    best = scene_photo(scene, rng, size)
    for _ in range(_PHOTOS - 1):
        if _least_share(best) >= _ENOUGH:
            break
        photo = scene_photo(scene, rng, size)
        if _least_share(photo) > _least_share(best):
            best = photo
    shown = np.array([mask.visible.sum() >= _LEAST_PX for mask in best.masks])
    if not shown.any():
        raise InputError("Nobody can be made out in the photo of a scene; make it of fewer people.")
    return best, shown
