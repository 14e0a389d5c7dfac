# SPDX-License-Identifier: Apache-2.0
"""Made-up people: how they stand, what they wear, how light falls on them."""

import numpy as np
from crowdgaussian_shared.skeleton import JOINT_INDEX

from ..avatar.geometry import unit, vertex_normals
from ..avatar.posed_body import BodyParameters, PosedBody, pose_body
from ..avatar.regions import ARM, FOOT, LEG, TORSO, Regions
from ..body import BodyModel

LIGHT = (0.3, 0.7, 0.65)  # direction to it
_DIRECT = 0.28  # share of the light that comes from there


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
    return on_floor(body, betas, pose)


def on_floor(body: BodyModel, betas: np.ndarray, pose: np.ndarray) -> BodyParameters:
    """A body over the origin whose lowest point touches the floor."""
    transl = np.array([0, 1.0, 0])
    given = BodyParameters(betas.astype(np.float32), pose.astype(np.float32),
                           transl.astype(np.float32), 1.0)
    posed = pose_body(body, given)
    transl[1] -= posed.pose_points(posed.rest)[:, 1].min()
    return BodyParameters(given.betas, given.pose, transl.astype(np.float32), 1.0)


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
    return colours


def lit(colours: np.ndarray, normals: np.ndarray, towards: tuple[float, float, float] = LIGHT,
        direct: float = _DIRECT) -> np.ndarray:
    """Colours under light from one side and all around.  # [V, 3], [V, 3] -> [V, 3] 0..1"""
    light = 1 - direct + direct * normals @ unit(np.array(towards))
    return (colours * light[:, None]).clip(0, 1)
