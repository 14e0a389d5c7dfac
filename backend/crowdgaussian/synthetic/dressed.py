# SPDX-License-Identifier: Apache-2.0
"""Dressed made-up people: skirts, dresses, shorts, jackets and long hair over the open body.

Their clothes are surfaces of their own (garments.py), so outlines and backs are those of cloth and
hair. Colours and patterns are painted here; nothing is read but MakeHuman's base mesh.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX, JOINT_NAMES
from crowdgaussian_shared.geometry.skinning import blend_transforms, move_points

from ..avatar.gaussians import dense_weights
from ..body import BodyModel
from ..body.model import PosedBody, pose_body
from ..body.parts import FOOT, find_regions
from ..core.mesh import vertex_normals
from .garments import Helpers, Piece, cut, join, load_helpers, puffed
from .people import on_floor
from .scenes import Actor

OUTFITS = ("skirt", "shorts", "jacket")
_ARM_JOINTS = [
    k
    for k, name in enumerate(JOINT_NAMES)
    if name.endswith(("shoulder", "elbow", "wrist")) or name[-1].isdigit() and "spine" not in name
]
_HAIR_COLOURS = np.array(
    [
        [0.06, 0.05, 0.05],
        [0.13, 0.08, 0.06],
        [0.24, 0.15, 0.09],
        [0.38, 0.24, 0.14],
        [0.58, 0.42, 0.25],
        [0.76, 0.63, 0.42],
        [0.45, 0.18, 0.10],
        [0.70, 0.69, 0.67],
    ]
)
_SKIN = np.array([0.88, 0.68, 0.56])
_LONG_HAIR = 0.33  # of the people whose hair is not named


@dataclass(frozen=True)
class Look:
    """What somebody wears."""

    outfit: str  # of OUTFITS
    long_hair: bool


@dataclass
class _Figure:
    """Somebody being dressed."""

    posed: PosedBody
    helpers: Helpers
    rng: np.random.Generator
    pieces: list[Piece]
    colours: list[np.ndarray]
    hair_colour: np.ndarray  # [3] sRGB

    def height(self, joint: str) -> float:
        """Of a joint at rest, metres."""
        return float(self.posed.joints[JOINT_INDEX[joint], 1])

    def wear(self, piece: Piece, colours: np.ndarray) -> None:
        self.pieces.append(piece)
        self.colours.append(colours)


def dressed_actor(
    body: BodyModel, folder: Path, rng: np.random.Generator, look: Look | None = None
) -> Actor:
    """Somebody who does not exist, in clothes.

    Args:
        body: the open body.
        folder: holds MakeHuman's base mesh, see load_helpers.
        rng: decides everything else.
        look: None draws one.

    Raises:
        CrowdGaussianError: there is no base mesh.
    """
    if look is None:
        look = Look(str(rng.choice(OUTFITS)), bool(rng.random() < _LONG_HAIR))
    given = on_floor(body, 0.7 * rng.standard_normal(body.num_betas).clip(-2, 2), _pose(rng))
    posed = pose_body(body, given)
    helpers = load_helpers(folder, body)
    figure = _Figure(posed, helpers, rng, [], [], _hair_colour(rng))
    _body(figure, body, look)
    outfits = {"skirt": _skirt_outfit, "shorts": _shorts_outfit, "jacket": _jacket_outfit}
    outfits[look.outfit](figure)
    if look.long_hair:
        _long_hair(figure)
    vertices, faces, joints, weights = join(figure.pieces)
    affines = blend_transforms(joints, weights, posed.transforms)
    return Actor(
        move_points(affines, vertices),
        faces,
        np.concatenate(figure.colours)[faces].mean(1),
        True,
        body,
        given,
        posed.pose_points(posed.rest),
    )


def _pose(rng: np.random.Generator) -> np.ndarray:
    """Standing or walking, arms at the side or bent.  # [55, 3]"""
    pose, stride = np.zeros((55, 3)), rng.normal(0, 0.22)
    for side, sign in (("left", -1), ("right", 1)):
        bent = rng.uniform(0, 0.5) if rng.random() < 0.6 else rng.uniform(0.5, 1.9)
        pose[JOINT_INDEX[f"{side}_shoulder"]] = (
            rng.normal(0, 0.15),
            rng.normal(0, 0.25),
            sign * rng.uniform(0.45, 1.25),
        )
        pose[JOINT_INDEX[f"{side}_elbow"]] = 0, sign * bent, 0
        pose[JOINT_INDEX[f"{side}_hip"]] = (
            sign * stride + rng.normal(0, 0.05),
            rng.normal(0, 0.08),
            -sign * rng.uniform(-0.02, 0.18),
        )
        pose[JOINT_INDEX[f"{side}_knee"]] = abs(rng.normal(0, 0.2)), 0, 0
    pose[JOINT_INDEX["head"]] = rng.normal(0, 0.15, 3)
    pose[JOINT_INDEX["spine2"]] = rng.normal(0, 0.07, 3)
    pose[JOINT_INDEX["spine1"]] = rng.normal(0, 0.05, 3)
    return pose


# Colours: functions of places at rest, [N, 3] -> [N, 3] sRGB


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Of a cloth; a third are greys.  # [3]"""
    grey = rng.random() < 0.3
    saturation = rng.uniform(0, 0.12) if grey else rng.beta(1.2, 1.6)
    hsv = np.array([rng.uniform(0, 180), 255 * saturation, 255 * rng.beta(1.6, 1.3)])
    return cv2.cvtColor(hsv.astype(np.uint8)[None, None], cv2.COLOR_HSV2RGB)[0, 0] / 255.0


def _pattern(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """Plain cloth as a rule, else stripes, checks or blocks."""
    first, second = _colour(rng), _colour(rng)
    kind = rng.choice(["plain", "rows", "columns", "check", "block"], p=[0.55, 0.15, 0.1, 0.1, 0.1])
    fine, phase, share = rng.uniform(25, 90), rng.uniform(0, 6, 3), rng.uniform(-0.6, 0.6)
    folds = rng.normal(0, 25, (3, 3))

    def paint(places: np.ndarray) -> np.ndarray:
        rows = np.sin(places[:, 1] * fine + phase[0]) > share
        columns = np.sin(places[:, 0] * fine + phase[1]) > share
        second_there = {
            "plain": np.zeros(len(places), bool),
            "rows": rows,
            "columns": columns,
            "check": rows ^ columns,
            "block": places[:, 1] > 0.5 * share,
        }[kind]
        shade = 1 + 0.04 * np.sin(places @ folds.T + phase).sum(1)
        return (np.where(second_there[:, None], second, first) * shade[:, None]).clip(0.02, 1)

    return paint


def _hair_colour(rng: np.random.Generator) -> np.ndarray:
    return _HAIR_COLOURS[rng.integers(len(_HAIR_COLOURS))] * rng.uniform(0.8, 1.2)


# The pieces


def _body(figure: _Figure, body: BodyModel, look: Look) -> None:
    """Skin, short hair, and shoes a little off the feet."""
    posed, rng = figure.posed, figure.rng
    regions = find_regions(body, posed)
    shoes = regions.group == FOOT
    off = rng.uniform(0.006, 0.014) * shoes + rng.uniform(0.005, 0.03) * regions.scalp
    points = posed.rest + off[:, None] * vertex_normals(posed.rest, posed.faces)
    colours = np.tile(_SKIN * rng.uniform(0.4, 1.05), (len(points), 1))
    colours[shoes] = _colour(rng)
    colours[regions.scalp > 0.5] = figure.hair_colour
    figure.wear(Piece("body", points, posed.faces, dense_weights(posed)), colours)


def _top(figure: _Figure, thickness: float, sleeve: float, hem: float, opening: float) -> None:
    """A shirt, or a jacket that is open by so many metres to either side in front.

    sleeve: how far down the arm it reaches, 0 shoulder to 1 wrist; hem: metres at rest.
    """
    rng, joints = figure.rng, figure.posed.joints
    piece = puffed(figure.helpers, "helper-tights", figure.posed, thickness, rng)
    places = piece.vertices
    shoulder, wrist, neck = (
        joints[JOINT_INDEX[name]] for name in ("left_shoulder", "left_wrist", "neck")
    )
    on_arm = piece.weights[:, _ARM_JOINTS].sum(1) > 0.5
    end = shoulder[0] + sleeve * (wrist[0] - shoulder[0])
    inside = np.where(on_arm, end - np.abs(places[:, 0]), places[:, 1] - hem)
    front = places[:, 2] > neck[2]
    collar = neck[1] + rng.uniform(-0.03, 0.04) - 0.3 * np.abs(places[:, 0]) * front
    inside = np.minimum(inside, np.where(on_arm, 1, collar - places[:, 1]))
    if opening > 0:
        apart = np.abs(places[:, 0]) - opening
        inside = np.where(front & ~on_arm, np.minimum(inside, apart), inside)
    piece = cut(piece, inside)
    figure.wear(piece, _pattern(rng)(piece.vertices))


def _legs(figure: _Figure, thickness: float, hem: float) -> None:
    """Trousers or shorts down to hem, metres at rest."""
    piece = puffed(figure.helpers, "helper-tights", figure.posed, thickness, figure.rng)
    height = piece.vertices[:, 1]
    inside = np.minimum(height - hem, figure.height("pelvis") + 0.06 - height)
    inside[piece.weights[:, _ARM_JOINTS].sum(1) > 0.5] = -1
    piece = cut(piece, inside)
    figure.wear(piece, _pattern(figure.rng)(piece.vertices))


def _skirt_outfit(figure: _Figure) -> None:
    """A top over a skirt, or a dress of one cloth, of any length and flare."""
    rng, waist = figure.rng, figure.height("pelvis") + 0.06
    knee, hip = figure.height("left_knee"), figure.height("left_hip")
    lowest = figure.height("left_ankle") + 0.08 if rng.random() < 0.5 else knee - 0.05
    hem, flare = rng.uniform(lowest, hip - 0.2), rng.uniform(-0.05, 0.3)
    piece = puffed(figure.helpers, "helper-skirt", figure.posed, rng.uniform(0, 0.03), rng)
    middle = figure.posed.joints[0] * (1, 0, 1)
    widening = 1 + flare * ((waist - piece.vertices[:, 1]) / 0.8).clip(0, 1)
    spread = (piece.vertices - middle) * np.stack([widening, widening**0, widening], 1) + middle
    piece = replace(piece, vertices=spread)
    piece = cut(piece, np.minimum(spread[:, 1] - hem, waist + 0.04 - spread[:, 1]))
    seed = int(rng.integers(1 << 30))
    figure.wear(piece, _pattern(np.random.default_rng(seed))(piece.vertices))
    sleeve = rng.choice([rng.uniform(-0.05, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.8, 1)])
    _top(figure, rng.uniform(0.003, 0.014), sleeve, waist - rng.uniform(0.02, 0.12), 0)
    if rng.random() < 0.5:  # a dress
        figure.colours[-1] = _pattern(np.random.default_rng(seed))(figure.pieces[-1].vertices)


def _shorts_outfit(figure: _Figure) -> None:
    rng, knee, hip = figure.rng, figure.height("left_knee"), figure.height("left_hip")
    _legs(figure, rng.uniform(0.006, 0.03), rng.uniform(knee - 0.08, hip - 0.15))
    hem = figure.height("pelvis") - rng.uniform(0.0, 0.16)
    _top(figure, rng.uniform(0.006, 0.022), rng.uniform(0.2, 0.5), hem, 0)


def _jacket_outfit(figure: _Figure) -> None:
    rng, ankle = figure.rng, figure.height("left_ankle")
    _legs(figure, rng.uniform(0.004, 0.025), rng.uniform(ankle - 0.02, ankle + 0.08))
    hem = figure.height("pelvis") - rng.uniform(0.0, 0.1)
    _top(figure, rng.uniform(0.004, 0.012), rng.uniform(0.3, 1), hem, 0)
    _top(
        figure,
        rng.uniform(0.022, 0.045),
        rng.uniform(0.85, 1.0),
        hem - rng.uniform(0, 0.3),
        rng.choice([0, 0.03, 0.06, 0.09]),
    )


def _long_hair(figure: _Figure) -> None:
    """Hair down to somewhere between chin and the small of the back, the face left free."""
    rng, joints = figure.rng, figure.posed.joints
    piece = puffed(figure.helpers, "helper-hair", figure.posed, rng.uniform(0.015, 0.05), rng)
    places, head = piece.vertices, joints[JOINT_INDEX["head"]]
    eyes = joints[[JOINT_INDEX["left_eye_smplhf"], JOINT_INDEX["right_eye_smplhf"]]]
    inside = places[:, 1] - rng.uniform(places[:, 1].min() + 0.02, head[1] - 0.06)
    behind_face = head[2] + rng.uniform(0.05, 0.1) - places[:, 2]
    inside = np.minimum(inside, np.where(places[:, 1] < eyes[:, 1].mean() + 0.05, behind_face, 1))
    piece = cut(piece, inside)
    strands = 1 + 0.08 * np.sin(piece.vertices @ np.array([300.0, 20, 250]))
    figure.wear(piece, (figure.hair_colour * strands[:, None]).clip(0.02, 1))
