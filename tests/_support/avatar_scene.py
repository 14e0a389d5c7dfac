# SPDX-License-Identifier: Apache-2.0
"""A painted person rendered on a busy background: a photo whose truth is known."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian.body.model import PosedBody, pose_body
from crowdgaussian.body.parts import ARM, FOOT, LEG, TORSO, find_regions
from crowdgaussian.core.mesh import unit, vertex_normals
from crowdgaussian.people.types import Crowd, Keypoints, Person
from crowdgaussian.segment.types import CrowdView, PersonMask
from crowdgaussian.splat.normals import render_mesh_depth
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

SHIRT, TROUSERS, SKIN, HAIR = (
    (0.8, 0.15, 0.1),
    (0.2, 0.25, 0.5),
    (0.8, 0.6, 0.5),
    (0.12, 0.08, 0.05),
)


@dataclass(frozen=True)
class PaintedScene:
    """What the camera saw and what was there."""

    photo: np.ndarray  # [H, W, 3] uint8
    camera: Camera
    mask: np.ndarray  # [H, W] bool
    parameters: BodyParams
    posed: PosedBody
    clothed: np.ndarray  # [V, 3] canonical surface with clothes and hair


def photo_camera(width: int, height: int, focal: float) -> Camera:
    """A level camera 1.2 m above the ground that looks along -z."""
    viewmat = np.diag([1.0, -1.0, -1.0, 1.0])
    viewmat[1, 3] = 1.2
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    return Camera(K, viewmat, width, height)


def standing(body) -> BodyParams:
    """Arms half lowered, one leg forward, turned a little."""
    pose = np.zeros((55, 3), np.float32)
    pose[JOINT_INDEX["left_shoulder"]] = 0, 0, -1.0
    pose[JOINT_INDEX["right_shoulder"]] = 0, 0, 0.9
    pose[JOINT_INDEX["left_hip"]] = -0.2, 0, 0.1
    pose[0] = 0, 0.2, 0
    return BodyParams(
        np.zeros(body.num_betas, np.float32), pose, np.array([0.05, 0.98, -3.0], np.float32), 1.0
    )


def paint(
    body, width: int = 240, height: int = 320, shirt: float = 0.02, hair: float = 0.06
) -> PaintedScene:
    """Renders the standing person with a loose shirt and hair, metres off the skin."""
    camera, parameters = photo_camera(width, height, 1.25 * height), standing(body)
    posed = pose_body(body, parameters)
    regions = find_regions(body, posed)
    dressed = ((regions.group == TORSO) & ~regions.neck) | (
        (regions.group == ARM) & (np.abs(posed.rest[:, 0]) < 0.45)
    )
    offset = shirt * dressed + hair * regions.scalp
    clothed = posed.rest + offset[:, None] * vertex_normals(posed.rest, posed.faces)
    colours = np.tile(SKIN, (len(clothed), 1))
    colours[dressed] = SHIRT
    colours[
        np.isin(regions.group, (LEG, FOOT)) | ((regions.group == TORSO) & (posed.rest[:, 1] < -0.1))
    ] = TROUSERS
    colours[regions.scalp > 0.5] = HAIR
    scene = posed.pose_points(clothed)
    _, face = render_mesh_depth(scene.astype(np.float32), posed.faces, camera)
    mask = np.asarray(face) >= 0
    shade = 0.75 + 0.25 * np.clip(
        vertex_normals(scene, posed.faces) @ unit(np.array([0.4, 0.7, 0.6])), -1, 1
    )
    lit = (colours * shade[:, None])[posed.faces].mean(1)
    noise = np.random.default_rng(0).random((height, width, 3)) * (0.4, 0.8, 0.3)
    image = np.where(mask[..., None], lit[np.maximum(face, 0)], noise)
    return PaintedScene((image * 255).astype(np.uint8), camera, mask, parameters, posed, clothed)


def person_of(parameters: BodyParams, soft: np.ndarray) -> Person:
    """A fitted person without keypoints."""
    keypoints = Keypoints(
        np.zeros((33, 2), np.float32), np.zeros(33, np.float32), np.zeros((33, 3), np.float32)
    )
    return Person(
        parameters, keypoints, np.zeros(4, np.float32), 1.0, (soft * 255).astype(np.uint8)
    )


def crowd_of(scene: PaintedScene, parameters: BodyParams | None = None) -> Crowd:
    """The painted person as the people stage would hand it on."""
    person = person_of(parameters or scene.parameters, scene.mask)
    return Crowd((person,), scene.camera, "default", (True,))


def view_of(scene: PaintedScene) -> CrowdView:
    return CrowdView(scene.photo, crowd_of(scene), masks_of(scene))


def masks_of(scene: PaintedScene) -> list[PersonMask]:
    return [PersonMask(scene.mask, scene.mask, 0.0)]
