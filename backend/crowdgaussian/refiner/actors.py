# SPDX-License-Identifier: Apache-2.0
"""The people of a training scene: a coloured surface, and the body that is known to be in it."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.gaussians import Gaussians
from crowdgaussian_shared.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from crowdgaussian_shared.skeleton import JOINT_INDEX

from ..avatar.geometry import face_normals, unit
from ..avatar.posed_body import BodyParameters, pose_body
from ..avatar.regions import find_regions
from ..body import BodyModel
from ..made_up.people import draw_parameters, dress, lit, on_floor, paint
from ..made_up.surfaces import spread_points, surface_gaussians

_LIVELY = 0.5  # of people do more than stand about
_FINE = 0.7  # of the usual width of a surface Gaussian, so that outlines stay where they are
_HIGHEST = 1.15  # sRGB; paint that light may still darken


@dataclass(frozen=True)
class Actor:
    """One person, standing on the floor over the origin."""

    vertices: np.ndarray  # [V, 3] metres
    faces: np.ndarray  # [F, 3]
    face_colours: np.ndarray  # [F, 3] sRGB, before the scene's light where `unlit`
    unlit: bool  # False: light is in the colours already
    body: BodyModel
    parameters: BodyParameters  # of the body in the same place
    body_vertices: np.ndarray  # [Vb, 3] metres


@dataclass(frozen=True)
class Placed:
    """An actor somewhere on the floor."""

    actor: Actor
    yaw: float  # radians about the vertical
    offset: np.ndarray  # [3] metres

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3]"""
        return axis_angle_to_matrix(np.array([0.0, self.yaw, 0.0]))

    def points(self, local: np.ndarray) -> np.ndarray:
        """Points of the actor in the scene.  # [N, 3]"""
        return local @ self.rotation.T + self.offset


def made_up_actor(body: BodyModel, rng: np.random.Generator) -> Actor:
    """Somebody who does not exist."""
    parameters = draw_parameters(body, rng)
    if rng.random() < _LIVELY:
        parameters = on_floor(body, parameters.betas, _lively(parameters.pose, rng))
    posed = pose_body(body, parameters)
    regions = find_regions(body, posed)
    dressed = dress(posed, regions, rng)
    colours = paint(posed, regions, rng).clip(0.02, _HIGHEST)
    return Actor(posed.pose_points(dressed), posed.faces, colours[posed.faces].mean(1), True,
                 body, parameters, posed.pose_points(posed.rest))


def _lively(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Walks, bends, lifts arms."""
    pose = pose.copy()
    for side, sign in (("left", -1), ("right", 1)):
        pose[JOINT_INDEX[f"{side}_shoulder"]] += (0, sign * rng.uniform(0, 0.8),
                                                  sign * rng.uniform(-1.3, 0.3))
        pose[JOINT_INDEX[f"{side}_elbow"]] += 0, sign * rng.uniform(0, 1.3), 0
        pose[JOINT_INDEX[f"{side}_hip"]] += rng.uniform(-0.7, 0.2), 0, 0
        pose[JOINT_INDEX[f"{side}_knee"]] += rng.uniform(0, 0.8), 0, 0
    pose[JOINT_INDEX["spine1"]] += rng.uniform(0, 0.3), rng.normal(0, 0.2), rng.normal(0, 0.1)
    return pose


def moved_body(body: BodyModel, given: BodyParameters, rotation: np.ndarray,
               offset: np.ndarray) -> BodyParameters:
    """The parameters of a body after its points went through rotation [3, 3] and offset [3]."""
    pelvis = pose_body(body, given).joints[0]
    pose = given.pose.astype(np.float64).copy()
    pose[0] = matrix_to_axis_angle(rotation @ axis_angle_to_matrix(pose[0]))
    transl = rotation @ (pelvis + given.transl) + offset - pelvis
    return BodyParameters(given.betas, pose.astype(np.float32), transl.astype(np.float32),
                          given.scale)


def face_light(placed: Placed, light: np.ndarray, direct: float) -> np.ndarray:
    """The colours of a person's faces in the scene's light.  # [F, 3] sRGB 0..1"""
    actor = placed.actor
    if not actor.unlit:
        return actor.face_colours
    normals = unit(face_normals(placed.points(actor.vertices), actor.faces))
    return lit(actor.face_colours, normals, tuple(light), direct)


def clean_gaussians(placed: Placed, colours: np.ndarray, count: int,
                    rng: np.random.Generator) -> Gaussians:
    """Dense Gaussians on a person's surface.

    Args:
        placed: the person.
        colours: of the faces, lit.  # [F, 3]
        count: how many Gaussians.
        rng: where they lie.
    """
    vertices, faces = placed.points(placed.actor.vertices), placed.actor.faces
    normals = face_normals(vertices, faces)
    areas = np.linalg.norm(normals, axis=1) / 2
    chosen, shares = spread_points(areas, count, rng)
    points = np.einsum("nk,nkc->nc", shares, vertices[faces[chosen]])
    return surface_gaussians(points, unit(normals[chosen]), colours[chosen],
                             _FINE * float(np.sqrt(areas.sum() / count)))
