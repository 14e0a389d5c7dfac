# SPDX-License-Identifier: Apache-2.0
"""The avatars of a crowd whose looks are known: clean, damaged, or built from its photo."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.avatar import Avatar, BodyMesh
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.gaussians import Gaussians
from crowdgaussian_shared.rotations import matrix_to_quat, quat_to_matrix
from scipy.spatial import cKDTree

from ..avatar.cloud import dense_weights, top_four
from ..avatar.geometry import face_normals, unit
from ..avatar.posed_body import PosedBody, apply, blend, pose_body
from ..avatar.sampling import sample_surface
from ..avatar.types import AvatarBuilder, CrowdBuilder
from ..made_up.surfaces import surface_gaussians
from ..progress import Report
from ..refiner.actors import Placed, face_light
from ..refiner.coarse import damaged
from ..refiner.crowd_scenes import CrowdScene
from ..refiner.scene_photo import ScenePhoto, placed_body

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
    return _bound(scene, [_even_gaussians(each, face_light(each, scene.light, scene.direct),
                                          points, seed) for each in scene.people])


def damaged_people(scene: CrowdScene, points: int, rng: np.random.Generator) -> People:
    """Everybody after a chain of damage, as in training data."""
    return _bound(scene, damaged(scene, rng, points).gaussians)


def built_people(builder: AvatarBuilder, taken: ScenePhoto, report: Report) -> People:
    """What an appearance stage makes of the scene's photo."""
    avatars, errors = {}, []
    indices = range(len(taken.crowd.people))
    if isinstance(builder, CrowdBuilder):
        builder.expect(indices)
    for index in indices:
        try:
            avatars[index] = builder.reconstruct(taken.photo, taken.crowd, taken.masks, index,
                                                 report)
        except CrowdGaussianError as error:
            errors.append(f"person {index}: {error}")
    return People(avatars, tuple(errors))


def bind(gaussians: Gaussians, placed: Placed) -> Avatar:
    """Gaussians that lie in the scene, as an avatar that the person's body moves.

    Posed as it stands, the avatar shows the same Gaussians again.

    Args:
        gaussians: of degree 0, in the scene.
        placed: whose they are.
    """
    posed = pose_body(placed.actor.body, placed_body(placed))
    joints, weights = _nearby_weights(gaussians.means, posed)
    matrices = blend(posed.transforms, joints, weights)  # [N, 3, 4]
    back = np.linalg.inv(matrices[:, :, :3])
    means = np.einsum("nij,nj->ni", back, gaussians.means - matrices[:, :, 3])
    frames = back @ quat_to_matrix(gaussians.quats.astype(np.float64))
    axes, scales, _ = np.linalg.svd(frames * gaussians.scales[:, None, :])
    axes[:, :, 2] *= np.linalg.det(axes)[:, None]
    canonical = Gaussians(means.astype(np.float32), matrix_to_quat(axes).astype(np.float32),
                          scales.astype(np.float32), gaussians.opacities, gaussians.sh)
    given = posed.parameters
    return Avatar(canonical, joints.astype(np.uint8), weights.astype(np.float32),
                  posed.joints.astype(np.float32), _mesh(posed), given.pose, given.transl,
                  given.betas, float(given.scale))


def _even_gaussians(placed: Placed, colours: np.ndarray, points: int, seed: int) -> Gaussians:
    vertices, faces = placed.points(placed.actor.vertices), placed.actor.faces
    spread = sample_surface(vertices, faces, np.ones(len(faces)), points, seed)
    normals = unit(face_normals(vertices, faces))[spread.face]
    return surface_gaussians(spread.on(vertices, faces), normals, colours[spread.face],
                             _FINE * float(spread.spacing.mean()))


def _bound(scene: CrowdScene, people: list[Gaussians]) -> People:
    return People(dict(enumerate(map(bind, people, scene.people))))


def _nearby_weights(points: np.ndarray, posed: PosedBody) -> tuple[np.ndarray, np.ndarray]:
    """Skin weights of places near the posed body.  # [N, 4], [N, 4]"""
    vertices = apply(posed.matrices, posed.rest)
    far, near = cKDTree(vertices).query(points, k=_NEAREST)
    shares = 1 / (far + 1e-3)
    shares /= shares.sum(1, keepdims=True)
    return top_four(np.einsum("nk,nkj->nj", shares, dense_weights(posed)[near]))


def _mesh(posed: PosedBody) -> BodyMesh:
    return BodyMesh(posed.rest.astype(np.float32), posed.faces.astype(np.int32),
                    posed.skin_joints.astype(np.uint8), posed.skin_weights.astype(np.float32))
