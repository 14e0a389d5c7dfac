# SPDX-License-Identifier: Apache-2.0
"""The photo of a training scene, with the people and masks that stages 1 and 2 would find in it.

So a stage-1 avatar can be built of people whose looks from everywhere are known.
"""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.camera import Camera

from ..avatar.posed_body import BodyParameters
from ..made_up.pictures import render_rgba
from ..people.known import known_person
from ..people.types import Crowd
from ..segment.types import PersonMask
from ..splat.cameras import Cameras
from ..splat.normals import render_mesh_depth
from .actors import Placed, face_light, moved_body
from .crowd_scenes import MARGIN, CrowdScene

_FOV = 0.7  # radians, of a usual lens, before the camera is framed
_AWAY = 2.2  # times half the crowd's extent that the lens would need
_ELEVATIONS = 0.02, 0.14  # radians above the crowd's middle
_WALL, _FLOOR = (0.35, 0.85), (0.25, 0.6)  # sRGB of what is behind


@dataclass(frozen=True)
class ScenePhoto:
    """One photo of a scene and the truth about it."""

    photo: np.ndarray  # [H, W, 3] uint8 sRGB
    crowd: Crowd  # the true bodies, in the scene's own frame, in the order of scene.people
    masks: list[PersonMask]


def scene_photo(scene: CrowdScene, rng: np.random.Generator, size: int = 640) -> ScenePhoto:
    """A photo of everybody from about eye height, before a plain wall and floor.

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
    seen = render_rgba(np.concatenate(meshes), np.concatenate(faces), np.concatenate(colours),
                       camera)
    alpha = seen[..., 3:] / 255
    photo = seen[..., :3] * alpha + _behind(camera, rng) * (1 - alpha)
    masks = _masks(meshes, [each.actor.faces for each in scene.people], camera)
    people = []
    for placed, mask in zip(scene.people, masks):
        given = placed_body(placed)
        people.append(known_person(given.betas, given.pose, given.transl, given.scale,
                                   mask.visible))
    crowd = Crowd(tuple(people), camera, "option", (True,) * len(people))
    return ScenePhoto(photo.round().astype(np.uint8), crowd, masks)


def placed_body(placed: Placed) -> BodyParameters:
    """The parameters of an actor's body where it stands in the scene."""
    actor = placed.actor
    return moved_body(actor.body, actor.parameters, placed.rotation, placed.offset)


def _camera(scene: CrowdScene, rng: np.random.Generator, size: int) -> Camera:
    points = np.concatenate([each.points(each.actor.vertices) for each in scene.people])
    low, high = points.min(0), points.max(0)
    away = _AWAY * 0.5 * float(np.linalg.norm(high - low)) / np.tan(_FOV / 2)
    ring = Cameras.orbit((low + high) / 2, away, 36, rng.uniform(*_ELEVATIONS), _FOV, size)
    one = ring[int(rng.integers(len(ring)))]
    return one.framed(torch.from_numpy(points).float(), MARGIN).to_cameras()[0]


def _behind(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """A wall that gets darker to one side, and the floor below.  # [H, W, 3] 0..255"""
    wall, floor = (rng.uniform(*_WALL) + rng.normal(0, 0.05, 3), rng.uniform(*_FLOOR)
                   + rng.normal(0, 0.05, 3))
    shade = np.linspace(1, rng.uniform(0.7, 1), camera.width)[None, :, None]
    edge = int(camera.height * rng.uniform(0.6, 0.85))
    rows = np.arange(camera.height)[:, None, None]
    return 255 * (np.where(rows < edge, wall, floor) * shade).clip(0, 1)


def _masks(meshes: list[np.ndarray], faces: list[np.ndarray],
           camera: Camera) -> list[PersonMask]:
    """What is seen of each, and what would be without the others."""
    depths = np.stack([np.asarray(render_mesh_depth(mesh, part, camera)[0])
                       for mesh, part in zip(meshes, faces)])
    nearest = depths.argmin(0)
    masks = []
    for index, depth in enumerate(depths):
        amodal = np.isfinite(depth)
        visible = amodal & (nearest == index)
        masks.append(PersonMask(visible, amodal, 1 - visible.sum() / max(1, amodal.sum())))
    return masks
