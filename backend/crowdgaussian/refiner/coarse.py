# SPDX-License-Identifier: Apache-2.0
"""What refinement starts from: a scene's people damaged, or rebuilt from a photo by stage 1."""

from dataclasses import dataclass, replace

import numpy as np
from crowdgaussian_shared.avatar import Avatar
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.gaussians import Gaussians
from crowdgaussian_shared.skinning import pose_avatar, pose_body

from ..avatar.types import AvatarBuilder, CrowdBuilder
from ..progress import silent
from .actors import clean_gaussians, face_light
from .crowd_scenes import CrowdScene
from .degrade import degrade, draw_chain
from .scene_photo import ScenePhoto, scene_photo

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
    return [clean_gaussians(each, face_light(each, scene.light, scene.direct), points, rng)
            for each in scene.people]


def damaged(scene: CrowdScene, rng: np.random.Generator, points: int) -> CoarseCrowd:
    """What a chain of damage leaves of everybody's clean Gaussians."""
    clean = clean_people(scene, rng, points)
    chain = draw_chain(rng)
    bodies = np.stack([each.points(each.actor.body_vertices) for each in scene.people])
    return CoarseCrowd(degrade(clean, scene.people, chain, rng), bodies,
                       scene.people[0].actor.body.faces, chain)


def rebuilt(scene: CrowdScene, builder: AvatarBuilder, rng: np.random.Generator,
            size: int) -> tuple[CrowdScene, CoarseCrowd]:
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
    if isinstance(builder, CrowdBuilder):
        builder.expect(indices)
    avatars = [builder.reconstruct(photo.photo, photo.crowd, photo.masks, index, silent)
               for index in indices]
    kept = replace(scene, people=tuple(scene.people[index] for index in indices))
    return kept, _crowd(avatars)


def _crowd(avatars: list[Avatar]) -> CoarseCrowd:
    return CoarseCrowd([pose_avatar(avatar) for avatar in avatars],
                       np.stack([pose_body(avatar) for avatar in avatars]), avatars[0].body.faces)


def _photo(scene: CrowdScene, rng: np.random.Generator,
           size: int) -> tuple[ScenePhoto, np.ndarray]:
    """The photo that shows most of whom it shows least, and who is in it.  # [B] bool"""
    best, best_share = None, -1.0
    for _ in range(_PHOTOS):
        photo = scene_photo(scene, rng, size)
        share = min(1 - mask.occlusion for mask in photo.masks)
        if share > best_share:
            best, best_share = photo, share
        if share >= _ENOUGH:
            break
    shown = np.array([mask.visible.sum() >= _LEAST_PX for mask in best.masks])
    if not shown.any():
        raise CrowdGaussianError("Nobody can be made out in the photo of a scene; make it of fewer "
                                 "people.")
    return best, shown
