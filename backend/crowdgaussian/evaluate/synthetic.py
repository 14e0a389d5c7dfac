# SPDX-License-Identifier: Apache-2.0
"""Made-up people with known looks: the open body in painted clothes, rendered from all around.

They show that an evaluation runs, and compare methods on the same footing. They are no people:
there is no loose cloth, and their surface is the body model's.
"""

import math
from pathlib import Path

import cv2
import numpy as np
from crowdgaussian_shared.camera import Camera
from crowdgaussian_shared.skeleton import JOINT_INDEX

from ..avatar.geometry import unit, vertex_normals
from ..avatar.posed_body import BodyParameters, PosedBody, pose_body
from ..avatar.regions import ARM, FOOT, LEG, TORSO, Regions, find_regions
from ..body import BodyModel
from ..people.types import Crowd
from ..splat.cameras import Cameras
from ..splat.normals import render_mesh_depth
from .subjects import Subject, make_person, write_subject

VIEWS = 24
_FOV = 0.6  # radians, vertical
_FINER = 2  # pixels are averages of so many by so many


def write_people(folder: str | Path, body: BodyModel, count: int, size: int = 256,
                 seed: int = 0) -> list[Path]:
    """Writes made-up people as a data set.

    Args:
        folder: where NAME/ folders go.
        body: the open body.
        count: how many.
        size: side of the views in pixels; the input image has twice that.
        seed: the same seed makes the same people.

    Returns:
        The folder of each.
    """
    return [write_person(Path(folder) / f"made_up_{index:03d}", body, size,
                         np.random.default_rng([seed, index])) for index in range(count)]


def write_person(folder: Path, body: BodyModel, size: int, rng: np.random.Generator) -> Path:
    """One made-up person."""
    parameters = draw_parameters(body, rng)
    posed = pose_body(body, parameters)
    regions = find_regions(body, posed)
    dressed = _dress(posed, regions, rng)
    colours = _paint(posed, regions, rng)
    vertices = posed.pose_points(dressed)
    middle = (vertices.min(0) + vertices.max(0)) / 2
    reach = 0.56 * np.linalg.norm(np.ptp(vertices, axis=0)) / math.tan(_FOV / 2)
    views = Cameras.orbit(middle, reach, VIEWS, fov=_FOV, size=size)
    front = Cameras.orbit(middle, reach, 1, fov=_FOV, size=2 * size).to_cameras()[0]
    image = _render(vertices, posed.faces, colours, front)
    mask = image[..., 3] >= 128
    pictures = np.stack([_render(vertices, posed.faces, colours, camera)
                         for camera in views.to_cameras()])
    person = make_person(parameters.betas, parameters.pose, parameters.transl, parameters.scale,
                         mask)
    crowd = Crowd((person,), front, "option", (True,))
    subject = Subject(folder.name, _on_white(image), mask, body.name, crowd, views, ())
    write_subject(folder, subject, pictures)
    return folder


def draw_parameters(body: BodyModel, rng: np.random.Generator) -> BodyParameters:
    """A grown-up who stands about, roughly facing the camera."""
    betas = 0.6 * rng.standard_normal(body.num_betas).clip(-2, 2)
    pose, stride = np.zeros((55, 3)), rng.normal(0, 0.15)
    for side, sign in (("left", -1), ("right", 1)):
        pose[JOINT_INDEX[f"{side}_shoulder"]] = (0, rng.normal(0, 0.2),
                                                 sign * rng.uniform(0.5, 1.2))
        pose[JOINT_INDEX[f"{side}_elbow"]] = 0, sign * rng.uniform(0, 0.7), 0
        pose[JOINT_INDEX[f"{side}_hip"]] = sign * stride, 0, -sign * rng.uniform(0, 0.15)
        pose[JOINT_INDEX[f"{side}_knee"]] = abs(rng.normal(0, 0.1)), 0, 0
    pose[JOINT_INDEX["head"]] = rng.normal(0, 0.12, 3)
    pose[JOINT_INDEX["spine2"]] = rng.normal(0, 0.06, 3)
    pose[0] = 0, rng.uniform(-0.5, 0.5), 0
    transl = np.array([0, 1.0, 0])
    given = BodyParameters(betas.astype(np.float32), pose.astype(np.float32),
                           transl.astype(np.float32), 1.0)
    posed = pose_body(body, given)
    transl[1] -= posed.pose_points(posed.rest)[:, 1].min()
    return BodyParameters(given.betas, given.pose, transl.astype(np.float32), 1.0)


def _dress(posed: PosedBody, regions: Regions, rng: np.random.Generator) -> np.ndarray:
    """The rest surface with hair and a shirt a little off the skin.  # [V, 3]"""
    cloth = (regions.group == TORSO) | ((regions.group == ARM) & (np.abs(posed.rest[:, 0]) < 0.45))
    off = rng.uniform(0.004, 0.015) * (cloth & ~regions.neck)
    off = off + rng.uniform(0.01, 0.05) * regions.scalp
    return posed.rest + off[:, None] * vertex_normals(posed.rest, posed.faces)


def _paint(posed: PosedBody, regions: Regions, rng: np.random.Generator) -> np.ndarray:
    """sRGB of each vertex with light from above the front.  # [V, 3] 0..1"""
    x, y = posed.rest[:, 0], posed.rest[:, 1]
    skin = np.array([0.86, 0.66, 0.54]) * rng.uniform(0.45, 1.05)
    shirt, stripe, trousers, shoes, hair = (
        rng.uniform(0.1, 0.85) + rng.normal(0, 0.12, 3) for _ in range(5))
    colours = np.tile(skin, (len(posed.rest), 1))
    sleeve = rng.uniform(0.25, 0.75)
    top = ((regions.group == TORSO) & ~regions.neck) | (
        (regions.group == ARM) & (np.abs(x) < sleeve))
    wave = np.sin(y * rng.uniform(30, 90)) > rng.uniform(-0.5, 1.2)
    colours[top] = np.where(wave[top, None], shirt, stripe)
    waist = posed.joints[0, 1] + rng.uniform(-0.02, 0.06)
    legs = (regions.group == LEG) | ((regions.group == TORSO) & (y < waist))
    hem = posed.joints[JOINT_INDEX["left_knee"], 1] * rng.choice([0.8, 3])  # shorts or long
    colours[legs & (y > hem)] = trousers
    colours[regions.group == FOOT] = shoes
    colours[regions.scalp > 0.5] = 0.5 * hair
    normals = vertex_normals(posed.rest, posed.faces)
    light = 0.72 + 0.28 * normals @ unit(np.array([0.3, 0.7, 0.65]))
    return (colours * light[:, None]).clip(0, 1)


def _render(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray,
            camera: Camera) -> np.ndarray:
    """What the camera sees, antialiased.  # [H, W, 4] uint8 RGBA"""
    K = camera.K * np.array([[_FINER], [_FINER], [1]])
    finer = Camera(K, camera.viewmat, camera.width * _FINER, camera.height * _FINER)
    _, face = render_mesh_depth(vertices.astype(np.float32), faces, finer)
    face = np.asarray(face)
    colour = colours[faces].mean(1)[np.maximum(face, 0)]
    alpha = (face >= 0)[..., None].astype(np.float64)
    size = (camera.width, camera.height)
    layers = cv2.resize(np.concatenate([colour * alpha, alpha], -1), size,
                        interpolation=cv2.INTER_AREA)
    layers[..., :3] /= np.maximum(layers[..., 3:], 1e-6)
    return (255 * layers.clip(0, 1)).round().astype(np.uint8)


def _on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
