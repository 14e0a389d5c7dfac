# SPDX-License-Identifier: Apache-2.0
"""Dressed made-up people: skirts, coats, shorts, jackets and long hair over the open body.

Their clothes are surfaces of their own (garments.py, wardrobe.py), put on by outfits.py and painted
by formula (paint.py), so outlines and backs are those of cloth and hair, and one person has any
number of looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.skinning import blend_transforms, move_points

from ..body import BodyModel
from ..body.model import PosedBody, pose_body
from ..body.parts import find_regions
from .garments import join
from .outfits import ARM_JOINTS, OUTFITS, Figure, Maker, Worn, draw_look, put_on
from .paint import Paint, Spots, hair_colour, measure
from .people import everyday_pose
from .scenes import Actor
from .wardrobe import Wardrobe

_CHILDREN = 0.12  # of the people
_AGES = (5, 16), (17, 80)  # years, of children and of the others
_LONGEST, _SPLITS = 0.012, 2  # metres, of an edge of a face that has one colour; halvings
_ODD = 0.35  # of betas beside those that age and build tell


@dataclass(frozen=True)
class Look:
    """What somebody wears."""

    outfit: str  # of OUTFITS, or one of MakeHuman's garments
    hair: str  # of HAIRS, or MakeHuman's


_HELD_OUT = (  # outfits and their hair, none of which training sees
    ("female_elegantsuit01", ("long01", "bob01")),
    ("female_casualsuit02", ("bob01", "long01")),
    ("male_casualsuit05", ("short02", "short02")),
    ("male_elegantsuit01", ("short02", "bob01")),
)


def held_out_look(index: int) -> Look:
    """What person number index wears of those whom training never sees; in turns."""
    outfit, heads = _HELD_OUT[index % len(_HELD_OUT)]
    return Look(outfit, heads[index // len(_HELD_OUT) % 3 == 2])


@dataclass(frozen=True)
class Dressed:
    """Somebody dressed, at rest: all pieces as one mesh of N vertices and F faces."""

    posed: PosedBody  # the body inside
    look: Look
    vertices: np.ndarray  # [N, 3] metres, canonical
    faces: np.ndarray  # [F, 3]
    joints: np.ndarray  # [N, 4]
    weights: np.ndarray  # [N, 4]
    arm: np.ndarray  # [N] 0..1: on a sleeve
    eye: np.ndarray  # [N] 0..1: on an eyeball
    group: np.ndarray  # [N] int, see Spots
    piece: np.ndarray  # [F] int
    thin: np.ndarray  # [F] bool: strands, seen from both sides
    materials: np.ndarray  # [pieces], of avatar.materials
    makers: tuple[Maker, ...]  # of each piece

    def paints(self, rng: np.random.Generator) -> tuple[Paint, ...]:
        """New colours for all pieces."""
        colour = hair_colour(rng)
        different = {id(maker): maker for maker in self.makers}
        new = {key: maker(rng, colour) for key, maker in different.items()}
        return tuple(new[id(maker)] for maker in self.makers)

    def spots(self, face: np.ndarray, bary: np.ndarray) -> dict[int, tuple[np.ndarray, Spots]]:
        """Places [P] faces, [P, 3] barycentric, by piece: which of them it has, and where."""
        piece, found = self.piece[face], {}
        for k in np.unique(piece):
            own = np.flatnonzero(piece == k)
            at, share = self.faces[face[own]], bary[own]
            spots = Spots(
                np.einsum("nk,nkc->nc", share, self.vertices[at]),
                (share * self.arm[at]).sum(1),
                self.group[at[:, 0]],
                (share * self.eye[at]).sum(1),
            )
            found[int(k)] = own, spots
        return found

    def stood(self, body: BodyModel, pose: np.ndarray) -> PosedBody:
        """The body in a pose [55, 3], on the floor."""
        given = self.posed.params
        posed = pose_body(body, replace(given, pose=pose.astype(np.float32)))
        transl = np.array([0, -posed.pose_points(posed.rest)[:, 1].min(), 0])
        transforms = posed.transforms.copy()
        transforms[:, :3, 3] += transl
        given = replace(posed.params, transl=transl.astype(np.float32))
        return replace(posed, params=given, transforms=transforms)

    def posed_as(self, posed: PosedBody) -> np.ndarray:
        """All vertices where the same body is posed so.  # [N, 3] metres"""
        affines = blend_transforms(self.joints, self.weights, posed.transforms)
        return move_points(affines, self.vertices)


def colours_of(spots: dict[int, tuple[np.ndarray, Spots]], paints: Sequence[Paint]) -> np.ndarray:
    """sRGB without light at the places of Dressed.spots.  # [P, 3] 0..1"""
    colours = np.zeros((sum(len(own) for own, _ in spots.values()), 3))
    for piece, (own, places) in spots.items():
        colours[own] = paints[piece](places)
    return colours


@lru_cache(maxsize=2)
def _wardrobe(folder: Path, body: BodyModel) -> Wardrobe:
    return Wardrobe(folder, body)


def dress_person(
    body: BodyModel, folder: Path, rng: np.random.Generator, look: Look | None = None
) -> Dressed:
    """Somebody who does not exist, in clothes.

    Args:
        body: the open body.
        folder: holds MakeHuman's base mesh and perhaps its garments, see Wardrobe.
        rng: decides everything else.
        look: None draws one, without what is held out from training.

    Raises:
        CrowdGaussianError: there is no base mesh, or no such garment.
    """
    wardrobe = _wardrobe(folder, body)
    male = bool(rng.random() < 0.5)
    if look is not None and look.outfit in OUTFITS:
        male = bool(rng.random() * sum(OUTFITS[look.outfit]) > OUTFITS[look.outfit][0])
    elif look is not None:
        male = look.outfit.startswith("male")
    look = look or Look(*draw_look(wardrobe, male, rng))
    at_rest = np.zeros((55, 3), np.float32), np.zeros(3, np.float32), 1.0
    posed = pose_body(body, BodyParams(_betas(body, male, rng), *at_rest))
    hidden, regions = np.zeros(len(posed.rest), bool), find_regions(body, posed)
    figure = Figure(body, posed, regions, wardrobe, rng, male, measure(posed), [], hidden)
    put_on(figure, look.outfit, look.hair)
    return _joined(posed, look, figure.worn, np.asarray(body.eyes, float))


def _betas(body: BodyModel, male: bool, rng: np.random.Generator) -> np.ndarray:
    """Of somebody of any age and build.  # [B] float32"""
    lowest, highest = _AGES[int(rng.random() >= _CHILDREN)]
    described = body.betas_from(
        sex=float(np.clip((not male) + rng.normal(0, 0.12), 0, 1)),
        age=float(rng.uniform(lowest, highest)),
        weight=float(rng.beta(2.2, 2.2)),
        height=float(rng.beta(2.5, 2.5)),
        muscle=float(rng.beta(2.2, 2.2)),
    ).numpy()
    return (described + _ODD * rng.standard_normal(body.num_betas).clip(-2, 2)).astype(np.float32)


def _joined(posed: PosedBody, look: Look, worn: list[Worn], eyes: np.ndarray) -> Dressed:
    """All pieces, the skin first."""
    pieces = [each.piece for each in worn]
    vertices, faces, joints, weights = join(pieces)
    arm = np.concatenate([piece.weights[:, ARM_JOINTS].sum(1) for piece in pieces])
    eye = np.zeros(len(vertices))
    eye[: len(eyes)] = eyes
    counts = [len(piece.faces) for piece in pieces]
    return Dressed(
        posed,
        look,
        vertices,
        faces,
        joints,
        weights,
        arm,
        eye,
        np.concatenate([each.group for each in worn]),
        np.repeat(np.arange(len(worn)), counts),
        np.repeat([each.thin for each in worn], counts),
        np.array([each.material for each in worn]),
        tuple(each.maker for each in worn),
    )


def dressed_actor(
    body: BodyModel, folder: Path, rng: np.random.Generator, look: Look | None = None
) -> Actor:
    """A dressed person who stands, walks or sits somewhere; see dress_person."""
    person = dress_person(body, folder, rng, look)
    posed = person.stood(body, everyday_pose(rng))
    face, corners = _finer(person)
    colours = colours_of(person.spots(face, corners.mean(1)), person.paints(rng))
    worn = person.posed_as(posed)[person.faces[face]]
    vertices = np.einsum("fkb,fbc->fkc", corners, worn).reshape(-1, 3)
    faces, surface = np.arange(len(vertices)).reshape(-1, 3), posed.pose_points(posed.rest)
    return Actor(vertices, faces, colours, True, body, posed.params, surface)


def _finer(person: Dressed) -> tuple[np.ndarray, np.ndarray]:
    """Faces split until a colour each shows stripes: whose [F'], and corners there [F', 3, 3]."""
    face = np.arange(len(person.faces))
    corners = np.tile(np.eye(3), (len(face), 1, 1))
    for _ in range(_SPLITS):
        places = np.einsum("fkb,fbc->fkc", corners, person.vertices[person.faces[face]])
        edges = np.linalg.norm(places - np.roll(places, 1, axis=1), axis=2)
        long = edges.max(1) > _LONGEST
        middles = 0.5 * (corners[long] + np.roll(corners[long], -1, axis=1))  # after each corner
        parts = [corners[~long], middles]
        for k in range(3):
            around = corners[long][:, k], middles[:, k], middles[:, k - 1]
            parts.append(np.stack(around, 1))
        corners = np.concatenate(parts)
        face = np.concatenate([face[~long], np.tile(face[long], 4)])
    return face, corners
