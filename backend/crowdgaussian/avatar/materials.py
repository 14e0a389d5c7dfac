# SPDX-License-Identifier: Apache-2.0
"""What each Gaussian shows: skin, hair, clothes, shoes; told from its place and its colour.

Clothes lie along the body in an order: neck, top, perhaps a bare waist, trousers or skirt, bare
legs, shoes; along an arm a sleeve, then skin. The photo decides where each ends (Viterbi's shortest
path over slices of trunk, legs and arms), with palettes learnt from the person alone, first where a
material usually is, then where the path found it. Each Gaussian weighs its slice against its own
colour, the unseen take the other side's or the front's word, neighbours agree by a mean field.
"""

from dataclasses import dataclass, replace

import numpy as np
from crowdgaussian_shared.geometry.avatar import MATERIALS, Materials
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.special import softmax

from ..body.model import PosedBody
from ..body.parts import ARM, FOOT, HAND, HEAD, LEG, TORSO
from ..core.optim import best_path
from .color_statistics import (
    ANY_COLOR,
    TELLING,
    LimbPlaces,
    Palette,
    is_bald,
    palette_of,
    skin_palette,
    to_lab,
)
from .gaussians import SurfaceGaussians, mean_around
from .visibility import PhotoView, closed_legs

OTHER, SKIN, HAIR, UPPER, LOWER, SHOES = range(len(MATERIALS))

# Slices of trunk and legs, and of the arms

_PER_PART = 12  # slices from neck to hip, hip to knee, knee to ankle, shoulder to elbow, to wrist
_BODY_SLICES = 3 * _PER_PART + 1  # the last one is the feet
_ARM_SLICES = 2 * _PER_PART
_ENOUGH = 12.0  # well seen Gaussians that make a slice's word count in full
_EVIDENCE = 1.5  # what that word counts against the usual places
_CHANGE = 2.5  # cost of one more piece of clothing on the way down
_WORST = -4.0  # of the logarithm of a colour's likelihood against the likeliest material's
_NO_PALETTE = -1.0  # the same of a material of which nothing is known
_RELEARNT = 2  # times that palettes are learnt from where the path found a material

# What may follow from neck to feet, and the logarithm of how usual each is at a height: 0 neck,
# 1 hip, 2 knee, 3 ankle and 3.1 foot. Hand-tuned on photos of the street.
_ON_BODY = (
    (SKIN, (0, 0.1, 0.3, 1.0), (0, -0.2, -2, -5)),
    (UPPER, (0, 0.1, 0.9, 1.05, 2, 3), (-0.5, 0, 0, -0.7, -0.9, -1.5)),
    (SKIN, (0.3, 0.5, 0.9, 1.1), (-5, -1.2, -0.8, -4)),
    (LOWER, (0.6, 0.72, 0.84, 1, 3.0, 3.1), (-6, -2.5, -0.5, 0, -0.3, -5)),
    (SKIN, (0.8, 1.1, 1.3, 3.0, 3.1), (-5, -1, -0.3, -0.3, -4)),
    (SHOES, (1.8, 2.3, 2.9, 3.1), (-5, -1.5, -0.4, 0)),
)
_UPPER_PIECE, _LOWER_PIECE = 1, 3  # of these
_ON_ARM = ((UPPER, (0, 1, 2), (0, 0, -0.1)), (SKIN, (0, 0.4, 2), (-1.2, 0, 0)))


def _height(means: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """0 at the neck, 1 at the hips, 2 at the knees, 3 at the ankles.  # [N]"""
    ends = [joints[JOINT_INDEX[n], 1] for n in ("left_ankle", "left_knee", "left_hip", "neck")]
    return np.interp(means[:, 1], ends, [3.0, 2.0, 1.0, 0.0])


def _reach(means: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """0 at the shoulder, 1 at the elbow, 2 at the wrist.  # [N]"""
    ends = [joints[JOINT_INDEX[f"left_{n}"], 0] for n in ("shoulder", "elbow", "wrist")]
    return np.interp(np.abs(means[:, 0]), ends, [0.0, 1.0, 2.0])


@dataclass(frozen=True)
class _Slices:
    """Gaussians by their place along the body, or along an arm."""

    order: tuple  # _ON_BODY or _ON_ARM
    place: np.ndarray  # [B] height or reach of the slices
    index: np.ndarray  # [N] int, -1 elsewhere

    def labels(self, path: np.ndarray) -> np.ndarray:
        """The material of each slice.  # [B]"""
        return np.array([row[0] for row in self.order])[path]

    def around(self, path: np.ndarray) -> np.ndarray:
        """Logarithm of how usual each material is in each slice, for this path.  # [B, 6]"""
        labels, count = self.labels(path), len(path)
        usual = np.full((count, len(MATERIALS)), _NEVER)
        usual[:, OTHER] = _UNKNOWN
        usual[:, np.unique(labels)] = _STRAYS
        slots = np.arange(count)
        for away, log in reversed(list(enumerate(_SLICE_BLUR))):
            for beside in (slots - away, slots + away):
                inside = (beside >= 0) & (beside < count)
                usual[beside[inside], labels[inside]] = log
        return usual

    def path(self, fits: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """The likeliest piece of each slice, from _fits [N, 6] and 0..1 of how seen [N].  # [B]"""
        mine, count = self.index >= 0, len(self.place)
        total = np.bincount(self.index[mine], seen[mine], count)  # [B]
        trust = _EVIDENCE * np.minimum(total / _ENOUGH, 1) / np.maximum(total, 1e-9)
        gains = np.empty((count, len(self.order)))
        for piece, (label, *_) in enumerate(self.order):
            weighted = seen[mine] * fits[mine, label]
            gains[:, piece] = trust * np.bincount(self.index[mine], weighted, count)
        usual = [np.interp(self.place, *row[1:]) for row in self.order]
        return best_path(gains + np.stack(usual, 1), _CHANGE)


def _slices(cloud: SurfaceGaussians, joints: np.ndarray) -> tuple[_Slices, _Slices]:
    """Of the body and of the arms."""
    height, reach = _height(cloud.means, joints), _reach(cloud.means, joints)
    body = np.clip((height * _PER_PART).astype(int), 0, _BODY_SLICES - 2)
    body[cloud.group == FOOT] = _BODY_SLICES - 1
    body[~np.isin(cloud.group, (TORSO, LEG, FOOT))] = -1
    arm = np.clip((reach * _PER_PART).astype(int), 0, _ARM_SLICES - 1)
    arm[cloud.group != ARM] = -1
    middles = [(np.arange(count) + 0.5) / _PER_PART for count in (_BODY_SLICES - 1, _ARM_SLICES)]
    return (
        _Slices(_ON_BODY, np.append(middles[0], 3.1), body),
        _Slices(_ON_ARM, middles[1], arm),
    )


# A person's palettes

_SEEN = 0.3  # of how well a Gaussian is seen, from which its colour counts
_ON_FACE, _ON_SCALP = 0.7, 0.5  # of a Gaussian's share in face or scalp
_TOP, _LEGS = (0.3, 0.75), (1.2, 2.4)  # heights where the top and what covers the legs usually are
_LIKE = 2.5  # logarithm below a palette's best, down to which a colour is like it
_BARE = 1.2  # the same for legs without anything over most of them
_HIP, _HIPS = 1.0, (1.0, 1.2)  # heights from which a top covers the legs, and of what covers hips
_HAIRY = 2.0  # logarithm by which hair must fit better than the top to be left out of its palette
_DRESSED = 0.2  # share of cloth among what might be cloth, over which the rest is none
_FAR_FROM_FACE = 0.4  # quantile of the scalp's distances from the face, from which it is hair
_HAT_CHROMA, _HAT_HUES = 14.0, (20.0, 100.0)  # CIELAB: hair has less, or a hue between (degrees)


def _crown(
    cloud: SurfaceGaussians, lab: np.ndarray, seen: np.ndarray
) -> tuple[int, Palette | None]:
    """What the scalp shows away from the face: hair, skin or a hat, and its colours."""
    scalp, face = (seen > _SEEN) & (cloud.scalp > _ON_SCALP), cloud.face > _ON_FACE
    if scalp.sum() < TELLING or not face.any():
        return HAIR, None
    away, _ = cKDTree(cloud.means[face]).query(cloud.means[scalp])
    own = lab[scalp][away >= np.quantile(away, _FAR_FROM_FACE)]
    middle, shown = np.median(own, axis=0), face & (seen > _SEEN)
    if shown.sum() >= TELLING:
        if is_bald(own, np.median(lab[shown], axis=0)):
            return SKIN, None
    hue = np.degrees(np.arctan2(middle[2], middle[1]))
    hat = np.hypot(*middle[1:]) > _HAT_CHROMA and not _HAT_HUES[0] < hue < _HAT_HUES[1]
    return OTHER if hat else HAIR, palette_of(own)


def _first_clothes(
    cloud: SurfaceGaussians, lab: np.ndarray, seen: np.ndarray, height: np.ndarray, skin: Palette
) -> dict[int, Palette]:
    """Clothes by where they usually are, without what looks bare, and trousers without the top."""
    trunk = (cloud.group == TORSO) & (height > _TOP[0]) & (height < _TOP[1])
    usual = {
        UPPER: trunk | ((cloud.group == ARM) & ~cloud.forearm),
        LOWER: (cloud.group == LEG) & (height > _LEGS[0]) & (height < _LEGS[1]),
        SHOES: cloud.group == FOOT,
    }
    found: dict[int, Palette] = {}
    hips = np.flatnonzero((height > _HIPS[0]) & (height < _HIPS[1]) & (seen > _SEEN))
    for label, place in usual.items():
        own = np.flatnonzero(place & (seen > _SEEN))
        for other in [skin, found[UPPER]] if label == LOWER and UPPER in found else [skin]:
            rest = own[~other.like(lab[own], _LIKE)]
            own = rest if len(rest) > max(TELLING, _DRESSED * len(own)) else own
        if len(own) >= TELLING and not (label == LOWER and _bare(lab, own, hips, skin)):
            found[label] = palette_of(lab[own])
    return found


def _bare(lab: np.ndarray, legs: np.ndarray, hips: np.ndarray, skin: Palette) -> bool:
    """Whether legs of a skin's colours are bare: something else covers the hips."""
    if min(len(legs), len(hips)) < TELLING or skin.like(lab[legs], _BARE).mean() < 0.5:
        return False
    return bool(palette_of(lab[legs]).like(lab[hips], _LIKE).mean() < 0.5)


def _fits(palettes: dict[int, Palette], lab: np.ndarray) -> np.ndarray:
    """Logarithm of how well each colour fits each material, the best 0.  # [N, 6]"""
    fits = np.full((len(lab), len(MATERIALS)), ANY_COLOR)
    for label, palette in palettes.items():
        fits[:, label] = palette.log_density(lab)
    fits = np.maximum(fits - fits.max(1, keepdims=True), _WORST)
    fits[:, [k for k in range(1, len(MATERIALS)) if k not in palettes]] = _NO_PALETTE
    return fits


def _clothes(
    slices: tuple[_Slices, ...], palettes: dict[int, Palette], lab: np.ndarray, seen: np.ndarray
) -> tuple[list[np.ndarray], dict[int, Palette]]:
    """Where pieces of clothing begin and end, and the palettes as found there."""
    for _ in range(_RELEARNT):
        fits = _fits(palettes, lab)
        paths = [some.path(fits, seen) for some in slices]
        label = np.full(len(lab), OTHER)
        for some, path in zip(slices, paths):
            label[some.index >= 0] = some.labels(path)[some.index[some.index >= 0]]
        own = fits[np.arange(len(lab)), label]
        worn = (seen > _SEEN) & (fits[:, SKIN] < 0) & (fits[:, HAIR] < own + _HAIRY)
        palettes = {k: v for k, v in palettes.items() if k not in (UPPER, LOWER, SHOES)}
        for piece in (UPPER, LOWER, SHOES):
            if (worn & (label == piece)).sum() >= TELLING:
                palettes[piece] = palette_of(lab[worn & (label == piece)])
    return paths, palettes


# A dress, or shirt and trousers of one colour

_ONE_CLOTH = -1.2  # mean logarithm of how well the top's palette fits what covers the legs
_BARE_SLICES = 3  # of bare legs below, which a dress has and a suit has not


def _parted(
    body: _Slices, path: np.ndarray, fits: np.ndarray, seen: np.ndarray, closed: dict[bool, float]
) -> np.ndarray:
    """The path with a dress as one piece, and shirt and trousers of one cloth as two.  # [B]"""
    label = body.labels(path)
    legs = label == LOWER if LOWER in label else (label == UPPER) & (body.place > _HIP)
    own = (body.index >= 0) & legs[body.index] & (seen > _SEEN)
    if UPPER not in label or own.sum() < TELLING or fits[own, UPPER].mean() < _ONE_CLOTH:
        return path
    bare = bool(((path > _UPPER_PIECE) & (label == SKIN)).sum() >= _BARE_SLICES)
    dress = bare if np.isnan(closed[bare]) else closed[bare] > 0.5
    return np.where(legs, _UPPER_PIECE if dress else _LOWER_PIECE, path)


# How usual each material is, on top of the slices

_NEVER, _STRAYS, _UNKNOWN = -7.0, -4.0, -4.5  # logarithms: out of place, of another slice, other
_SLICE_BLUR = (0.0, -0.6, -1.6, -2.8)  # logarithm of a piece as many slices beside its own
_NECKLINE = (0.0, 0.15, 0.45), (-0.7, -1.5, -6.0)  # heights, and logarithms, of skin on the trunk
_LONG_HAIR = (0.1, 0.9), (-1.0, -4.0)  # the same of hair
_NAPE = -2.0  # logarithm: skin is that much rarer behind than in a neckline, hair on the breastbone
_BREASTBONE = 0.04  # metres from the middle
# Shares of other, skin, hair, upper, lower and shoes
_OF_FACE = np.array([0.02, 0.93, 0.05, 0, 0, 0])
_OF_CROWN = np.array([0.02, 0.03, 0.95, 0, 0, 0])
_OF_NECK = np.array([0.02, 0.58, 0.2, 0.2, 0, 0])
_OF_HAND = np.array([0.05, 0.9, 0, 0.05, 0, 0])


def _usual(
    cloud: SurfaceGaussians,
    height: np.ndarray,
    slices: tuple[_Slices, ...],
    paths: list[np.ndarray],
    crown: int,
) -> np.ndarray:
    """Logarithm of how usual each material is where each Gaussian lies.  # [N, 6]"""
    usual = np.full((len(cloud), len(MATERIALS)), _NEVER)
    usual[:, OTHER] = _UNKNOWN
    for some, path in zip(slices, paths):
        mine = some.index >= 0
        usual[mine] = some.around(path)[some.index[mine]]
    trunk = cloud.group == TORSO
    usual[trunk, HAIR] = np.interp(height[trunk], *_LONG_HAIR)
    open_collar = np.interp(height, *_NECKLINE) + _NAPE * (cloud.normals[:, 2] < 0)
    usual[trunk, SKIN] = np.maximum(usual, open_collar[:, None])[trunk, SKIN]
    middle = (np.abs(cloud.means[:, 0]) < _BREASTBONE) & (cloud.normals[:, 2] > 0)
    usual[trunk & middle, HAIR] += _NAPE
    head = cloud.group == HEAD
    face, scalp = cloud.face[head, None], cloud.scalp[head, None]
    neck = np.clip(1 - face - scalp, 0, 1)
    usual[head] = np.log(face * _OF_FACE + scalp * _OF_CROWN + neck * _OF_NECK + np.exp(_NEVER))
    usual[cloud.group == HAND] = np.log(_OF_HAND + np.exp(_NEVER))
    if crown != HAIR:
        worn = cloud.scalp > _ON_SCALP
        usual[worn, crown], usual[:, HAIR] = usual[worn, HAIR], _NEVER
    return usual


# Putting it together

_COLOR = 0.8  # what a Gaussian's own colour counts
_BORROWED = 0.5  # of that, what the colour of the other side or of the front counts
_SURE, _LENDERS = 0.5, 5000  # of how well a Gaussian is seen that lends its colour; how many do
_COUNTERPART = 0.04  # metres: as near the counterpart must be seen
_NEIGHBOURS, _AGREEMENT, _MEAN_FIELD = 8, 4.0, 3  # neighbours, their weight, and rounds
_GUESSED = 0.5  # share of the confidence that needs no eyes
_SHOULDERS = 0.15  # height: hair that hangs free of the neck lies on them
_HANGS = 0.9  # quantile of how wide and low hair falls in front, as far as it hangs behind
_HANGING = 1.5  # logarithm of how usual hair is there


def find_materials(
    cloud: SurfaceGaussians,
    posed: PosedBody,
    colours: np.ndarray,
    seen: np.ndarray,
    limbs: LimbPlaces,
    view: PhotoView,
) -> Materials:
    """Labels of all Gaussians, and how sure each is.

    Args:
        cloud: the bound Gaussians.
        posed: the body in the photo.
        colours: [N, 3] sRGB, read where seen.
        seen: [N] 0..1, how well the photo shows each; 0 where its colour is somebody else's.
        limbs: where unseen ones ask, see limb_places.
        view: tells a dress from shirt and trousers of one colour.
    """
    lab, height = to_lab(colours), _height(cloud.means, posed.joints)
    palettes = {SKIN: skin_palette(cloud, colours, seen)}
    crown, hair = _crown(cloud, lab, seen)
    palettes |= {crown: hair} if hair is not None else {}
    palettes |= _first_clothes(cloud, lab, seen, height, palettes[SKIN])
    slices, asked = _slices(cloud, posed.joints), np.flatnonzero(seen > _SEEN)
    thinned = tuple(replace(some, index=some.index[asked]) for some in slices)
    paths, palettes = _clothes(thinned, palettes, lab[asked], seen[asked])
    fits = _fits(palettes, lab)
    paths[0] = _parted(slices[0], paths[0], fits, seen, closed_legs(posed, view))
    borrowed = _BORROWED * (1 - seen[:, None]) * _borrowed(cloud, fits, seen, limbs)
    unary = _usual(cloud, height, slices, paths, crown)
    unary += _COLOR * (seen[:, None] * fits + borrowed)
    return _agreed(cloud, unary, seen, height)


def _borrowed(
    cloud: SurfaceGaussians, fits: np.ndarray, seen: np.ndarray, limbs: LimbPlaces
) -> np.ndarray:
    """What the other side says, else the front of the same limb; 0 where neither does.  # [N, 6]"""
    lent, asking = np.zeros_like(fits), np.flatnonzero(seen < _SURE)
    lender = np.flatnonzero(seen > _SURE)[:: max(1, int((seen > _SURE).sum()) // _LENDERS)]
    wrapped, front = asking[limbs.on_limb[asking]], lender[limbs.on_limb[lender]]
    if len(front):
        _, index = cKDTree(limbs.here[front]).query(limbs.flank[wrapped])
        lent[wrapped] = fits[front[index]]
    if len(lender):
        distance, index = cKDTree(cloud.mirrored[lender]).query(
            cloud.means[asking], distance_upper_bound=_COUNTERPART
        )
        near = np.isfinite(distance)
        lent[asking[near]] = fits[lender[index[near]]]
    return lent


def _agreed(
    cloud: SurfaceGaussians, unary: np.ndarray, seen: np.ndarray, height: np.ndarray
) -> Materials:
    """Neighbours agree; hair hangs from a head or is none."""
    around = mean_around(cloud.means, _NEIGHBOURS)
    share = _mean_field(unary, softmax(unary, axis=1), around)
    root = (cloud.group == HEAD) | (height < _SHOULDERS)
    rooted = _rooted_hair(root, share.argmax(1), around)
    unary[~rooted & (cloud.scalp < _ON_SCALP), HAIR] = _NEVER
    unary[_hangs_behind(cloud, rooted & (seen > _SEEN), height) & (seen < _SEEN), HAIR] = _HANGING
    share = _mean_field(unary, share, around)
    confidence = share.max(1) * (_GUESSED + (1 - _GUESSED) * (around @ seen))
    return Materials(share.argmax(1).astype(np.uint8), np.clip(confidence, 0, 1).astype(np.float32))


def _mean_field(unary: np.ndarray, share: np.ndarray, around: csr_array) -> np.ndarray:
    """Shares [N, 6] of the labels when each asks its neighbours."""
    for _ in range(_MEAN_FIELD):
        share = softmax(unary + _AGREEMENT * (around @ share), axis=1)
    return share


def _rooted_hair(root: np.ndarray, label: np.ndarray, around: csr_array) -> np.ndarray:
    """Hair that a chain of hair joins to where it may begin.  # [N] bool"""
    hair = np.flatnonzero(label == HAIR)
    _, piece = connected_components(around[hair][:, hair], directed=False)
    rooted = np.zeros(len(label), bool)
    rooted[hair] = np.isin(piece, piece[root[hair]])
    return rooted


def _hangs_behind(cloud: SurfaceGaussians, hair: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Where hair that falls over the shoulders hangs behind, as low and as wide.  # [N] bool"""
    aside, falls = np.abs(cloud.means[:, 0]), hair & (cloud.group == TORSO)
    falls &= cloud.normals[:, 2] > 0
    if falls.sum() < TELLING:
        return falls & False
    behind = (cloud.normals[:, 2] < 0) & np.isin(cloud.group, (HEAD, TORSO))
    behind &= aside < np.quantile(aside[falls], _HANGS)
    return behind & (height < np.quantile(height[falls], _HANGS))
