# SPDX-License-Identifier: Apache-2.0
"""What made-up people wear, from the skin outwards: shoes, clothes, hair, hats.

Clothes are cut from the base mesh's helper surfaces, shoes and short hair from the body's surface
moved outwards; MakeHuman's garments are worn as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES

from ..avatar.gaussians import dense_weights
from ..avatar.materials import HAIR, LOWER, OTHER, SHOES, SKIN, UPPER
from ..body import BodyModel
from ..body.model import PosedBody
from ..body.parts import FOOT, Regions, ramp
from .garments import Piece, cut, off, puffed
from .paint import Measures, Paint, cloth, hair, sewn, skin
from .wardrobe import CLOTHES, HEADS, PAIRS, Wardrobe

OUTFITS = {  # how often women and men are drawn in each
    "trousers": (0.27, 0.42),
    "shorts": (0.12, 0.21),
    "skirt": (0.22, 0.0),
    "dress": (0.17, 0.0),
    "jacket": (0.15, 0.27),
    "coat": (0.07, 0.10),
}
HAIRS = {"none": (0.04, 0.18), "short": (0.26, 0.72), "bob": (0.25, 0.04), "long": (0.45, 0.06)}
_READY = 0.25  # of the people wear one of MakeHuman's garments, where the folder has them
_BOUND = 0.35, 0.2  # of women's and men's hair is one of MakeHuman's, where it has them
ARM_JOINTS = [
    k
    for k, name in enumerate(JOINT_NAMES)
    if name.endswith(("shoulder", "elbow", "wrist")) or name[-1].isdigit() and "spine" not in name
]

# Shares of people who have or wear this

_BAREFOOT, _SOCKS, _TIGHTS, _TUCKED = 0.07, 0.5, 0.2, 0.35
_CAP, _BEARD, _SCARF, _SUIT, _V_NECK = 0.06, 0.22, 0.05, 0.25, 0.3
_IN_SHOE = 0.03  # metres below the ankle, where a sock ends that nobody sees
_BOOTS, _BOUND_SHOES, _SHORT = 0.25, 0.4, 0.5

Maker = Callable[[np.random.Generator, np.ndarray], Paint]  # random numbers, colour of the hair


@dataclass(frozen=True)
class Worn:
    """One piece as it is worn."""

    piece: Piece
    material: int  # of avatar.materials
    maker: Maker  # the same for pieces of one cloth
    group: np.ndarray  # [N] int, see Spots
    thin: bool = False  # strands, seen from both sides


@dataclass
class Figure:
    """Somebody being dressed."""

    body: BodyModel
    posed: PosedBody
    regions: Regions
    wardrobe: Wardrobe
    rng: np.random.Generator
    male: bool
    size: Measures
    worn: list[Worn]
    hidden: np.ndarray  # [V] bool: vertices of the body that a garment hides

    def wear(self, piece: Piece, material: int, maker: Maker) -> None:
        self.worn.append(Worn(piece, material, maker, np.zeros(len(piece.vertices), int)))

    def cloth(self, where: str) -> Maker:
        """Makes a cloth for a place, see paint.cloth."""
        return lambda rng, _: cloth(rng, where, self.size)

    def puffed(self, name: str, thickness: float) -> Piece:
        """A helper surface outside itself."""
        return puffed(self.wardrobe.helpers, name, self.posed, thickness, self.rng)

    def shell(self, far: np.ndarray | float, inside: np.ndarray, smoothed: int = 0) -> Piece:
        """The body's surface so far outside itself, cut; evened out in so many steps."""
        rest = self.posed.rest
        piece = Piece("body", rest, self.posed.faces, dense_weights(self.posed))
        points = off(piece, np.broadcast_to(far, len(rest))).vertices
        for _ in range(smoothed):
            points = 0.5 * (points + self.wardrobe.mean @ points)
        return cut(replace(piece, vertices=points), inside)

    def in_eyes(self) -> np.ndarray:
        """The body's vertices from between the eyes, in distances between them.  # [V, 3]"""
        eyes = self.size.eyes
        return (self.posed.rest - eyes.mean(0)) / np.linalg.norm(eyes[0] - eyes[1])


def draw_look(wardrobe: Wardrobe, male: bool, rng: np.random.Generator) -> tuple[str, str]:
    """Names of an outfit and of hair that may be trained on."""
    sex = "male" if male else "female"
    ready = [name for name in wardrobe.names(CLOTHES) if name.startswith(sex)]
    on_men = ("short", "afro") if male else ""
    heads = [name for name in wardrobe.names(HEADS) if name.startswith(on_men)]
    outfit = _drawn(OUTFITS, male, rng)
    if ready and rng.random() < _READY:
        outfit = str(rng.choice(ready))
    head = _drawn(HAIRS, male, rng)
    if heads and rng.random() < _BOUND[male]:
        head = str(rng.choice(heads))
    return outfit, head


def _drawn(shares: dict[str, tuple[float, float]], male: bool, rng: np.random.Generator) -> str:
    chances = np.array([pair[male] for pair in shares.values()])
    return str(rng.choice(list(shares), p=chances / chances.sum()))


def put_on(figure: Figure, outfit: str, head: str) -> None:
    """Dresses somebody: skin, shoes, clothes, hair."""
    rng = figure.rng
    _feet(figure, outfit)
    if outfit in _MADE:
        _MADE[outfit](figure)
    else:
        _ready_made(figure, outfit)
    if rng.random() < _SCARF:
        height, low = figure.posed.rest[:, 1], figure.size.neck - 0.03
        inside = np.minimum(height - low, low + rng.uniform(0.07, 0.12) - height)
        inside = np.minimum(inside, 0.13 - np.abs(figure.posed.rest[:, 0]))
        figure.wear(figure.shell(rng.uniform(0.02, 0.04), inside, 6), UPPER, figure.cloth("skirt"))
    _head(figure, head)
    faces = figure.posed.faces[~figure.hidden[figure.posed.faces].all(1)]
    bare = Piece("body", figure.posed.rest, faces, dense_weights(figure.posed))
    group = np.zeros(len(bare.vertices), int)
    tone = lambda rng, brows: skin(rng, figure.size, brows)  # noqa: E731
    figure.worn.insert(0, Worn(bare, SKIN, tone, group))


# Feet and legs


def _feet(figure: Figure, outfit: str) -> None:
    """Shoes or boots, socks, tights."""
    rng, size = figure.rng, figure.size
    height = figure.posed.rest[:, 1]
    foot = np.where(height < size.knee, 1.0, -1.0)
    bare_legs = outfit in ("skirt", "dress", "shorts", "coat")
    if bare_legs and not figure.male and rng.random() < _TIGHTS:
        figure.wear(figure.shell(0.002, size.waist - height), LOWER, figure.cloth("shoes"))
    elif rng.random() < _SOCKS:
        tall = size.ankle + rng.uniform(0.03, 0.3 if bare_legs else 0.1)
        over = np.minimum(np.minimum(tall - height, foot), height - size.ankle + _IN_SHOE)
        figure.wear(figure.shell(0.003, over), SHOES, figure.cloth("shoes"))
    pairs = figure.wardrobe.names(PAIRS)
    if rng.random() < _BAREFOOT:
        return
    if pairs and rng.random() < _BOUND_SHOES:
        _garment(figure, str(rng.choice(pairs)), PAIRS, SHOES, figure.cloth("shoes"))
        return
    boots = rng.random() > 1 - _BOOTS
    top = size.ankle + (rng.uniform(0.05, 0.3) if boots else rng.uniform(-0.035, 0.03))
    thick = rng.uniform(0.008, 0.016) + 0.006 * (figure.regions.group == FOOT)
    piece = figure.shell(thick, np.minimum(top - height, foot), 10)
    figure.wear(piece, SHOES, figure.cloth("shoes"))


def _legs(figure: Figure, thickness: float, hem: float, maker: Maker) -> None:
    """Trousers or shorts down to hem, metres at rest, straight or wide below the knee."""
    rng, size = figure.rng, figure.size
    piece = figure.puffed("helper-tights", thickness)
    wide = rng.uniform(-0.3, 1.0) * 0.03 * ramp(-piece.vertices[:, 1], -size.knee, -size.ankle)
    piece = off(piece, wide)
    height = piece.vertices[:, 1]
    inside = np.minimum(height - hem, size.waist + rng.uniform(-0.04, 0.03) - height)
    inside[piece.weights[:, ARM_JOINTS].sum(1) > 0.5] = -1
    figure.wear(cut(piece, inside), LOWER, maker)


# Tops, jackets, skirts


def _top(
    figure: Figure, thickness: float, sleeve: float, hem: float, maker: Maker, opening: float = 0
) -> None:
    """A shirt, or a jacket that is open by so many metres to either side in front.

    sleeve: how far down the arm it reaches, 0 shoulder to 1 wrist; hem: metres at rest.
    """
    rng, size = figure.rng, figure.size
    piece = figure.puffed("helper-tights", thickness)
    x, y, z = piece.vertices.T
    on_arm = piece.weights[:, ARM_JOINTS].sum(1) > 0.5
    end = size.shoulder[0] + sleeve * (size.wrist - size.shoulder[0])
    inside = np.where(on_arm, end - np.abs(x), y - hem)
    front = z > size.middle
    collar = size.neck + rng.uniform(-0.03, 0.04) - 0.3 * np.abs(x) * front
    if opening == 0 and rng.random() < _V_NECK:
        collar = collar - front * rng.uniform(0.03, 0.14) * (1 - np.abs(x) / 0.08).clip(0)
    inside = np.minimum(inside, np.where(on_arm, 1, collar - y))
    if opening > 0:
        apart = np.abs(x) - opening * (1 + rng.uniform(0, 1.5) * (y - size.waist))
        inside = np.where(front & ~on_arm, np.minimum(inside, apart), inside)
    figure.wear(cut(piece, inside), UPPER, maker)


def _skirt(
    figure: Figure, hem: float, material: int, maker: Maker, thickness: float, opening: float = 0
) -> None:
    """A skirt of any flare down to hem, or the skirts of a coat."""
    rng, size = figure.rng, figure.size
    piece = figure.puffed("helper-skirt", thickness)
    middle = figure.posed.joints[0] * (1, 0, 1)
    below = ((size.waist - piece.vertices[:, 1]) / 0.8).clip(0, 1)
    widening = 1 + rng.uniform(-0.08, 0.15 if opening else 0.35) * below
    spread = (piece.vertices - middle) * np.stack([widening, widening**0, widening], 1) + middle
    inside = np.minimum(spread[:, 1] - hem, size.waist + 0.03 - spread[:, 1])
    if opening:
        front = spread[:, 2] > size.middle
        inside = np.where(front, np.minimum(inside, np.abs(spread[:, 0]) - opening), inside)
    figure.wear(cut(replace(piece, vertices=spread), inside), material, maker)


def _sleeve(rng: np.random.Generator) -> float:
    """None, short, or long."""
    kinds = (-0.05, 0.08), (0.2, 0.5), (0.6, 0.8), (0.85, 1.0)
    return float(rng.uniform(*kinds[rng.choice(4, p=[0.12, 0.45, 0.08, 0.35])]))


def _trousers_outfit(figure: Figure) -> None:
    rng, size = figure.rng, figure.size
    thickness = rng.choice([rng.uniform(0.003, 0.01), rng.uniform(0.01, 0.03)])
    hem = size.ankle + rng.uniform(-0.05, 0.1)
    _legs(figure, thickness, hem, figure.cloth("legs"))
    _upper(figure, thickness)


def _upper(figure: Figure, below: float) -> None:
    """A T-shirt, shirt or sweater, over what is below or tucked in."""
    rng, size = figure.rng, figure.size
    thickness, hem = rng.uniform(0.004, 0.024), size.waist - rng.uniform(0.06, 0.2)
    if rng.random() < _TUCKED:
        hem = size.waist - rng.uniform(0.045, 0.075)
    else:
        thickness = max(thickness, below + 0.004)
    _top(figure, thickness, _sleeve(rng), hem, figure.cloth("top"))


def _shorts_outfit(figure: Figure) -> None:
    rng, size = figure.rng, figure.size
    thickness = rng.uniform(0.006, 0.03)
    hem = rng.uniform(size.knee - 0.1, size.hip - 0.13)
    _legs(figure, thickness, hem, figure.cloth("legs"))
    _upper(figure, thickness)


def _hem(figure: Figure) -> float:
    """Of a skirt: above the knee, or anywhere down to the ankle."""
    size = figure.size
    if figure.rng.random() < _SHORT:
        return figure.rng.uniform(size.knee - 0.03, size.hip - 0.18)
    return figure.rng.uniform(size.ankle + 0.05, size.knee)


def _skirt_outfit(figure: Figure) -> None:
    rng, size = figure.rng, figure.size
    _skirt(figure, _hem(figure), LOWER, figure.cloth("skirt"), rng.uniform(0, 0.03))
    hem = size.waist - rng.uniform(0.0, 0.14)
    _top(figure, rng.uniform(0.003, 0.016), _sleeve(rng), hem, figure.cloth("top"))


def _dress_outfit(figure: Figure) -> None:
    rng, size, maker = figure.rng, figure.size, figure.cloth("skirt")
    _skirt(figure, _hem(figure), UPPER, maker, rng.uniform(0, 0.02))
    _top(figure, rng.uniform(0.003, 0.012), _sleeve(rng), size.waist - 0.03, maker)


def _jacket_outfit(figure: Figure) -> None:
    rng, size = figure.rng, figure.size
    cloth_over = figure.cloth("over")
    legs = cloth_over if rng.random() < _SUIT else figure.cloth("legs")
    if figure.male or rng.random() < 0.6:
        _legs(figure, rng.uniform(0.004, 0.02), size.ankle + rng.uniform(-0.05, 0.08), legs)
    else:
        _skirt(figure, _hem(figure), LOWER, legs, rng.uniform(0, 0.02))
    hem = size.waist - rng.uniform(0.02, 0.14)
    _top(figure, rng.uniform(0.004, 0.012), _sleeve(rng), hem, figure.cloth("top"))
    opening = rng.choice([0.0, rng.uniform(0.015, 0.11)], p=[0.35, 0.65])
    sleeve = rng.uniform(0.85, 1.0) if rng.random() < 0.9 else -0.03
    over = hem - rng.uniform(-0.05, 0.22)
    _top(figure, rng.uniform(0.024, 0.045), sleeve, over, cloth_over, opening)


def _coat_outfit(figure: Figure) -> None:
    rng, size, maker = figure.rng, figure.size, figure.cloth("over")
    if figure.male or rng.random() < 0.7:
        _legs(figure, rng.uniform(0.004, 0.015), size.ankle, figure.cloth("legs"))
    _top(figure, rng.uniform(0.004, 0.012), _sleeve(rng), size.waist - 0.1, figure.cloth("top"))
    opening = rng.choice([0.0, rng.uniform(0.02, 0.09)])
    thickness = rng.uniform(0.026, 0.045)
    hem = rng.uniform(size.knee - 0.15, size.knee + 0.2)
    _skirt(figure, hem, UPPER, maker, thickness, opening)
    _top(figure, thickness, rng.uniform(0.88, 1.0), size.waist - 0.06, maker, opening)


_MADE = {
    "trousers": _trousers_outfit,
    "shorts": _shorts_outfit,
    "skirt": _skirt_outfit,
    "dress": _dress_outfit,
    "jacket": _jacket_outfit,
    "coat": _coat_outfit,
}


# Garments of the folder


def _garment(figure: Figure, name: str, kind: str, material: int, maker: Maker) -> None:
    """Shoes or hair of MakeHuman's; hair is of strands."""
    garment = figure.wardrobe.garment(name, kind)
    points = figure.wardrobe.helpers.on(garment.helper, figure.posed)
    piece = Piece(name, points, garment.helper.faces, garment.helper.weights)
    figure.worn.append(Worn(piece, material, maker, garment.group, thin=kind == HEADS))


def _ready_made(figure: Figure, name: str) -> None:
    """A whole outfit: what lies mostly over the waist is a top, the rest trousers or skirt."""
    garment, size = figure.wardrobe.garment(name, CLOTHES), figure.size
    points = figure.wardrobe.helpers.on(garment.helper, figure.posed)
    group, height = garment.group, points[:, 1]
    counts = np.bincount(group)
    low, high = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(low, group, height)
    np.maximum.at(high, group, height)
    upper = high - size.waist > size.waist - low
    where = ["top" if up else "legs" for up in upper]
    maker = lambda rng, _: sewn(rng, where, size)  # noqa: E731
    figure.hidden |= garment.hides
    helper = garment.helper
    for label, material in ((True, UPPER), (False, LOWER)):
        faces = helper.faces[upper[group[helper.faces[:, 0]]] == label]
        if len(faces):
            kept, numbered = np.unique(faces, return_inverse=True)
            piece = Piece(name, points[kept], numbered.reshape(-1, 3), helper.weights[kept])
            figure.worn.append(Worn(piece, material, maker, group[kept]))


# Heads


def _head(figure: Figure, name: str) -> None:
    """Hair, a beard, a cap."""
    rng, scalp = figure.rng, figure.regions.scalp
    local = figure.in_eyes()
    if figure.male and rng.random() < _BEARD:
        away = np.hypot(local[:, 0] / 0.45, (local[:, 1] + 1.12) / 0.17) - 1
        inside = np.minimum(-0.72 - local[:, 1] + 0.25 * np.abs(local[:, 0]), away)
        inside = np.minimum(inside, np.minimum(local[:, 2] + 1.0, local[:, 1] + 2.3))
        inside[figure.regions.group != 0] = -1
        figure.wear(figure.shell(rng.uniform(0.001, 0.012), inside), HAIR, hair)
    if name not in ("none", *HAIRS):
        figure.wear(figure.shell(0.004, scalp - 0.5), HAIR, hair)
        _garment(figure, name, HEADS, HAIR, hair)
    elif name != "none":
        thick = rng.uniform(0.002, 0.05) if name == "short" else rng.uniform(0.008, 0.03)
        waves = np.sin(figure.posed.rest @ rng.normal(0, 40, (3, 3))).mean(1)
        far = thick * (1 + 0.25 * waves) * ramp(scalp, 0, 0.8)
        figure.wear(figure.shell(far, scalp - rng.uniform(0.2, 0.55), 2), HAIR, hair)
    if name in ("bob", "long"):
        _long_hair(figure, name == "bob")
    if rng.random() < _CAP and name in ("none", "short"):
        brim = local[:, 1] - rng.uniform(0.55, 0.95) - 0.25 * local[:, 2].clip(-3, 0)
        inside = np.where(figure.regions.group == 0, brim, -1)
        figure.wear(figure.shell(rng.uniform(0.02, 0.035), inside, 6), OTHER, figure.cloth("over"))


def _long_hair(figure: Figure, bob: bool) -> None:
    """Hair down to the chin, or to the small of the back; the face is left free."""
    rng, size, posed = figure.rng, figure.size, figure.posed
    piece = figure.puffed("helper-hair", rng.uniform(0.012, 0.05))
    y, z = piece.vertices[:, 1:].T
    eye = size.eyes.mean(0)
    lowest = size.neck + rng.uniform(-0.02, 0.06) if bob else size.neck - rng.uniform(0.05, 0.38)
    behind = eye[2] - rng.uniform(0.0, 0.06)
    inside = np.minimum(y - lowest, np.where(y < eye[1] + 0.05, behind - z, 1))
    figure.wear(cut(piece, inside), HAIR, hair)
    x, y, z = posed.rest.T  # what lies between the strands, on nape and back
    wide = rng.uniform(0.09, 0.14) * ramp(y, lowest - 0.15, lowest + 0.1)
    inside = np.minimum(y - lowest - 0.02, np.minimum(wide - np.abs(x), eye[2] - 0.06 - z))
    inside[figure.regions.scalp > 0.9] = -1
    inside = np.where(z < size.middle - 0.02 + 0.1 * (y > size.neck), inside, -1)
    figure.wear(figure.shell(rng.uniform(0.028, 0.055), inside, 12), HAIR, hair)
