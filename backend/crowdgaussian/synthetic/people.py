# SPDX-License-Identifier: Apache-2.0
"""Made-up people: how they stand, what they wear, how light falls on them."""

import cv2
import numpy as np
from crowdgaussian_shared.geometry.avatar import BodyParams, Gaussians
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.rotations import matrix_to_quat
from crowdgaussian_shared.geometry.sh import colour_to_sh
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX

from ..body import BodyModel
from ..body.model import PosedBody, pose_body
from ..body.parts import ARM, FOOT, LEG, TORSO, Regions
from ..core.mesh import unit, vertex_normals
from ..splat.normals import render_mesh_depth

LIGHT = (0.3, 0.7, 0.65)  # direction to it
_DIRECT = 0.28  # share of the light that comes from there


def draw_parameters(body: BodyModel, rng: np.random.Generator) -> BodyParams:
    """A grown-up who stands about, roughly facing the camera."""
    betas = 0.6 * rng.standard_normal(body.num_betas).clip(-2, 2)
    pose, stride = np.zeros((55, 3)), rng.normal(0, 0.15)
    for side, sign in (("left", -1), ("right", 1)):
        pose[JOINT_INDEX[f"{side}_shoulder"]] = (
            0,
            rng.normal(0, 0.2),
            sign * rng.uniform(0.5, 1.2),
        )
        pose[JOINT_INDEX[f"{side}_elbow"]] = 0, sign * rng.uniform(0, 0.7), 0
        pose[JOINT_INDEX[f"{side}_hip"]] = sign * stride, 0, -sign * rng.uniform(0, 0.15)
        pose[JOINT_INDEX[f"{side}_knee"]] = abs(rng.normal(0, 0.1)), 0, 0
    pose[JOINT_INDEX["head"]] = rng.normal(0, 0.12, 3)
    pose[JOINT_INDEX["spine2"]] = rng.normal(0, 0.06, 3)
    pose[0] = 0, rng.uniform(-0.5, 0.5), 0
    return on_floor(body, betas, pose)


_SEATED, _HANGING = 0.1, 0.6  # of people in everyday poses; of their arms


def everyday_pose(rng: np.random.Generator) -> np.ndarray:
    """Standing, walking or sitting; arms hang, or are lifted and bent.  # [55, 3]"""
    pose, stride = np.zeros((55, 3)), rng.normal(0, 0.22)
    seat = rng.uniform(1.2, 1.6) if rng.random() < _SEATED else 0.0
    for side, sign in (("left", -1), ("right", 1)):
        down = rng.uniform(1.0, 1.4) if rng.random() < _HANGING else rng.uniform(0.1, 1.3)
        bent = rng.uniform(0, 0.5) if rng.random() < 0.6 else rng.uniform(0.5, 1.9)
        shoulder = rng.normal(0, 0.15), rng.normal(0, 0.25), sign * down
        swing = sign * stride + rng.normal(0, 0.05) - seat
        pose[JOINT_INDEX[f"{side}_shoulder"]] = shoulder
        pose[JOINT_INDEX[f"{side}_elbow"]] = 0, sign * bent, 0
        pose[JOINT_INDEX[f"{side}_hip"]] = swing, rng.normal(0, 0.08), -sign * rng.uniform(0, 0.18)
        pose[JOINT_INDEX[f"{side}_knee"]] = abs(rng.normal(0, 0.2)) + seat, 0, 0
    pose[JOINT_INDEX["head"]] = rng.normal(0, 0.15, 3)
    pose[JOINT_INDEX["spine2"]] = rng.normal(0, 0.07, 3)
    pose[JOINT_INDEX["spine1"]] = rng.normal(0, 0.05, 3)
    return pose


def on_floor(body: BodyModel, betas: np.ndarray, pose: np.ndarray) -> BodyParams:
    """A body over the origin whose lowest point touches the floor."""
    transl = np.array([0, 1.0, 0])
    given = BodyParams(
        betas.astype(np.float32), pose.astype(np.float32), transl.astype(np.float32), 1.0
    )
    posed = pose_body(body, given)
    transl[1] -= posed.pose_points(posed.rest)[:, 1].min()
    return BodyParams(given.betas, given.pose, transl.astype(np.float32), 1.0)


def dress(posed: PosedBody, regions: Regions, rng: np.random.Generator) -> np.ndarray:
    """The rest surface with hair and a shirt a little off the skin.  # [V, 3]"""
    cloth = (regions.group == TORSO) | ((regions.group == ARM) & (np.abs(posed.rest[:, 0]) < 0.45))
    off = rng.uniform(0.004, 0.015) * (cloth & ~regions.neck)
    off = off + rng.uniform(0.01, 0.05) * regions.scalp
    return posed.rest + off[:, None] * vertex_normals(posed.rest, posed.faces)


def paint(posed: PosedBody, regions: Regions, rng: np.random.Generator) -> np.ndarray:
    """sRGB of each vertex before light falls on it.  # [V, 3] about 0..1"""
    x, y = posed.rest[:, 0], posed.rest[:, 1]
    skin = np.array([0.86, 0.66, 0.54]) * rng.uniform(0.45, 1.05)
    shirt, stripe, trousers, shoes, hair = (
        rng.uniform(0.1, 0.85) + rng.normal(0, 0.12, 3) for _ in range(5)
    )
    colours = np.tile(skin, (len(posed.rest), 1))
    sleeve = rng.uniform(0.25, 0.75)
    top = ((regions.group == TORSO) & ~regions.neck) | (
        (regions.group == ARM) & (np.abs(x) < sleeve)
    )
    wave = np.sin(y * rng.uniform(30, 90)) > rng.uniform(-0.5, 1.2)
    colours[top] = np.where(wave[top, None], shirt, stripe)
    waist = posed.joints[0, 1] + rng.uniform(-0.02, 0.06)
    legs = (regions.group == LEG) | ((regions.group == TORSO) & (y < waist))
    hem = posed.joints[JOINT_INDEX["left_knee"], 1] * rng.choice([0.8, 3])  # shorts or long
    colours[legs & (y > hem)] = trousers
    colours[regions.group == FOOT] = shoes
    colours[regions.scalp > 0.5] = 0.5 * hair
    return colours


def lit(
    colours: np.ndarray,
    normals: np.ndarray,
    towards: tuple[float, float, float] = LIGHT,
    direct: float = _DIRECT,
) -> np.ndarray:
    """Colours under light from one side and all around.  # [V, 3], [V, 3] -> [V, 3] 0..1"""
    light = 1 - direct + direct * normals @ unit(np.array(towards))
    return (colours * light[:, None]).clip(0, 1)


# Antialiased pictures of painted surfaces

_FINER = 2  # pixels are averages of so many by so many


def render_rgba(
    vertices: np.ndarray, faces: np.ndarray, face_colours: np.ndarray, camera: Camera
) -> np.ndarray:
    """What the camera sees; alpha is how much of a pixel the surface covers.

    Args:
        vertices: scene frame, metres.  # [V, 3]
        faces: [F, 3].
        face_colours: sRGB 0..1 of each face.  # [F, 3]
        camera: where it is seen from.

    Returns:
        # [H, W, 4] uint8
    """
    K = camera.K * np.array([[_FINER], [_FINER], [1]])
    finer = Camera(K, camera.viewmat, camera.width * _FINER, camera.height * _FINER)
    _, face = render_mesh_depth(vertices.astype(np.float32), faces, finer)
    face = np.asarray(face)
    colour = face_colours[np.maximum(face, 0)]
    alpha = (face >= 0)[..., None].astype(np.float64)
    size = (camera.width, camera.height)
    drawn = np.concatenate([colour * alpha, alpha], -1)
    layers = np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.float64)
    layers[..., :3] /= np.maximum(layers[..., 3:], 1e-6)
    return (255 * layers.clip(0, 1)).round().astype(np.uint8)


def on_white(rgba: np.ndarray) -> np.ndarray:
    """[H, W, 4] -> [H, W, 3] uint8"""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)


# Surfaces as Gaussians: points spread evenly on a mesh, each a flat opaque disc

_WIDTH = 0.7  # of a surface Gaussian, in distances between neighbours
_FLAT = 0.1  # its thickness by its width


def spread_points(
    areas: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Random places on a mesh, evenly by area.

    Args:
        areas: of the faces.  # [F]
        count: how many points.
        rng: where they lie.

    Returns:
        Face of each point [N] and the shares of its three corners [N, 3].
    """
    faces = rng.choice(len(areas), count, p=areas / areas.sum())
    u, v = rng.random((2, count))
    root = np.sqrt(u)
    return faces, np.stack([1 - root, root * (1 - v), root * v], 1)


def surface_gaussians(
    points: np.ndarray, normals: np.ndarray, colours: np.ndarray, spacing: float
) -> Gaussians:
    """Flat, opaque Gaussians on a surface.

    # [N, 3], [N, 3] unit, [N, 3] sRGB 0..1, metres between neighbours
    """
    helper = np.where(np.abs(normals[:, :1]) < 0.9, np.eye(3)[0], np.eye(3)[1])
    first = np.cross(normals, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    frames = np.stack([first, np.cross(normals, first), normals], 2)  # [N, 3, 3]
    width = _WIDTH * spacing
    return Gaussians(
        points.astype(np.float32),
        matrix_to_quat(frames).astype(np.float32),
        np.tile(np.array([width, width, _FLAT * width], np.float32), (len(points), 1)),
        np.full(len(points), 0.99, np.float32),
        colour_to_sh(colours).astype(np.float32),
    )
