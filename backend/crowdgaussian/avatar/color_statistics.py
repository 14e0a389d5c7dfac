# SPDX-License-Identifier: Apache-2.0
"""The colours of one material of a person, and the usual colour along each limb.

A palette (skin, a head of hair, a garment) is learnt from what the photo shows of one person and
says how likely another colour is.

Along a limb, a hand in front of a shirt, its shadow, or a neighbour's arm cover a smaller part of a
garment than the garment itself. The median over a wide neighbourhood that reaches far around a limb
and less far along it does not see them, but keeps the hem where it is.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from scipy.spatial import cKDTree

from ..body.parts import ARM, FOOT, HAND, HEAD, LEG, TORSO
from ..core.mesh import unit
from .gaussians import SurfaceGaussians

# Palettes: a few colours, each in light and shade

_SHADE, _HUE = 15.0, 6.0  # CIELAB: spread of a colour from shade to light, and across it
_COLOURS = 4  # of a palette; more follow patterns, and dirt
_PALETTE_SOURCES = 1200  # colours that a palette is learnt from, at most
_ROUNDS = 5  # of the clustering
TELLING = 25  # Gaussians that tell a palette
_INLIER = 0.9  # quantile of the distances at which a further cluster starts; more: at a stray one
_STRAY = 0.02  # share of a material that has any colour
ANY_COLOR = -float(np.log(1e6))  # logarithm of any colour's density: CIELAB has about 10^6 units


@dataclass(frozen=True)
class Palette:
    """A few colours, each in light and shade: along the way to black they may differ more."""

    centres: np.ndarray  # [C, 3] CIELAB
    shares: np.ndarray  # [C] sum to 1
    shade: float = _SHADE
    hue: float = _HUE

    def log_density(self, lab: np.ndarray) -> np.ndarray:
        """How likely colours [N, 3] are.  # [N]"""
        toward = self.centres / (np.linalg.norm(self.centres, axis=1, keepdims=True) + 1e-6)
        along = lab @ toward.T - (self.centres * toward).sum(1)  # [N, C]
        away = np.square(lab).sum(1)[:, None] + np.square(self.centres).sum(1)
        across = away - 2 * lab @ self.centres.T - along**2
        exponent = 0.5 * (along / self.shade) ** 2 + 0.5 * across / self.hue**2
        peak = (1 - _STRAY) * self.shares / ((2 * np.pi) ** 1.5 * self.shade * self.hue**2)
        return np.log(np.exp(-exponent) @ peak + _STRAY * np.exp(ANY_COLOR))

    def like(self, lab: np.ndarray, depth: float) -> np.ndarray:
        """Colours [N, 3] at most so much less likely (logarithm) than the likeliest.  # [N] bool"""
        return self.log_density(lab) > self.log_density(self.centres).max() - depth


def palette_of(lab: np.ndarray, shade: float = _SHADE, hue: float = _HUE) -> Palette:
    """Clusters of colours [N, 3], N > 0; the same on every run."""
    lab = lab[:: max(1, len(lab) // _PALETTE_SOURCES)]
    centres = np.median(lab, axis=0)[None]
    while len(centres) < min(_COLOURS, len(lab)):
        apart = np.square(lab[:, None] - centres).sum(2).min(1)
        far = np.argsort(apart, kind="stable")[int(_INLIER * (len(lab) - 1))]
        centres = np.concatenate([centres, lab[far][None]])
    for _ in range(_ROUNDS):
        mine = np.square(lab[:, None] - centres).sum(2).argmin(1)
        counts = np.bincount(mine, minlength=len(centres))
        sums = np.stack([np.bincount(mine, lab[:, k], len(centres)) for k in range(3)], 1)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return Palette(centres, counts / counts.sum(), shade, hue)


def to_lab(colours: np.ndarray) -> np.ndarray:
    """sRGB 0..1 to CIELAB.  # [N, 3]"""
    rgb = np.clip(colours, 0, 1).astype(np.float32)
    return cv2.cvtColor(rgb[None], cv2.COLOR_RGB2LAB)[0].astype(np.float64)


# Coordinates along and around each limb, and how its front wraps to its back. A limb is a bent tube
# about its bones. The camera sees the part of it that faces it; the rest asks for the colour at the
# same place along the limb, at an angle folded linearly from the back to the flanks of the front:
# not to its middle, where a logo, a tie or an open jacket's shirt are.

_SEEN_ANGLE = np.deg2rad(62)  # up to which the photo's colours are good
_FLANK_ANGLE = np.deg2rad(45)  # what the middle of the back asks; less copies prints
_CHAINS = {
    TORSO: (("pelvis", "spine1", "spine2", "spine3", "neck"),),
    LEG: (("left_hip", "left_knee", "left_ankle"), ("right_hip", "right_knee", "right_ankle")),
    ARM: (
        ("left_shoulder", "left_elbow", "left_wrist"),
        ("right_shoulder", "right_elbow", "right_wrist"),
    ),
    FOOT: (("left_knee", "left_ankle"), ("right_knee", "right_ankle")),  # in rings, as a shoe is
}
_RADIUS = {TORSO: 0.13, LEG: 0.07, ARM: 0.045, FOOT: 0.06}  # metres: what a radian counts
_OTHER_LIMB = 1.0  # metres between the coordinates of two limbs


@dataclass(frozen=True)
class LimbPlaces:
    """Gaussians on trunk, arms and legs in limb coordinates (metres, for nearest neighbours)."""

    on_limb: np.ndarray  # [N] bool: the rest have zeros below
    here: np.ndarray  # [N, 6] where a Gaussian is
    flank: np.ndarray  # [N, 6] where it asks for its colour
    across: np.ndarray  # [N, 6] the same on the limb's other side
    behind: np.ndarray  # [N] 0..1: how far round towards the middle of the side away


def limb_places(cloud: SurfaceGaussians, joints: np.ndarray, toward: np.ndarray) -> LimbPlaces:
    """Limb coordinates of all Gaussians.

    Args:
        cloud: the bound Gaussians.
        joints: [55, 3] at rest, canonical frame.
        toward: [N, 3] unit, canonical frame: from each Gaussian to the camera.
    """
    count = len(cloud)
    on_limb = np.zeros(count, bool)
    here, flank, across = (np.zeros((count, 6)) for _ in range(3))
    behind = np.zeros(count)
    for group, chains in _CHAINS.items():
        for number, chain in enumerate(chains):
            some = cloud.group == group
            if len(chains) == 2:
                some &= (cloud.means[:, 0] > 0) == (number == 0)
            if not some.any():
                continue
            bones = joints[[JOINT_INDEX[name] for name in chain]]
            limb = _OTHER_LIMB * np.array([group == ARM, group == LEG, number + (group == FOOT)])
            on_limb |= some
            here[some], flank[some], across[some], behind[some] = _along_and_around(
                cloud.means[some], bones, toward[some], _RADIUS[group], limb
            )
    return LimbPlaces(on_limb, here, flank, across, behind)


def _along_and_around(
    means: np.ndarray, bones: np.ndarray, toward: np.ndarray, radius: float, limb: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    axis = unit(bones[-1] - bones[0])
    along = (means - bones[0]) @ axis
    knots = (bones - bones[0]) @ axis
    centre = (
        np.stack([np.interp(along, knots, bones[:, k] - knots * axis[k]) for k in range(3)], 1)
        + along[:, None] * axis
    )
    first = unit(toward - (toward @ axis)[:, None] * axis)
    second = np.cross(axis, first)
    out = means - centre
    angle = np.arctan2((out * second).sum(1), (out * first).sum(1))
    behind = np.maximum(np.abs(angle) - _SEEN_ANGLE, 0) / (np.pi - _SEEN_ANGLE)
    folded = _SEEN_ANGLE - (_SEEN_ANGLE - _FLANK_ANGLE) * behind
    fold = np.sign(angle) * np.where(behind > 0, folded, np.abs(angle))

    def places(turn: np.ndarray) -> np.ndarray:
        return np.column_stack(
            [
                along,
                radius * 2 * np.sin(turn / 2),
                radius * np.cos(turn / 2),
                np.broadcast_to(limb, (len(means), 3)),
            ]
        )

    return places(angle), places(fold), places(-fold), behind


# The usual colour

# Hand-tuned; not measured one by one.
_AROUND = 0.3  # how much a distance around a limb counts against one along it
_OTHER_PART = 0.5  # metres between the places of trunk, arms, forearms and legs
_SOURCES = 2400  # of each part, as many as are asked at most
_SHARE = 0.12  # of them that make one median
_LEAST = 40  # seen Gaussians that a part needs for a usual colour
_STEP = 6  # Gaussians between two medians
_LEAST_SPREAD, _MOST_SPREAD = 0.025, 0.2  # of sRGB
_MAD = 1.48  # standard deviation of a normal distribution over its median absolute deviation
_SMOOTHING = 4  # rounds of averaging among neighbours


@dataclass(frozen=True)
class ColorPrior:
    """What a limb looks like around each Gaussian, where anything of the limb is seen."""

    known: np.ndarray  # [N] bool
    colour: np.ndarray  # [N, 3] sRGB
    spread: np.ndarray  # [N] typical distance of real colours from it, in each channel


def color_prior(
    cloud: SurfaceGaussians, colours: np.ndarray, source: np.ndarray, limbs: LimbPlaces
) -> ColorPrior:
    """Medians of what the sources [N] (bool) of the same limb or its twin show."""
    known, spread = np.zeros(len(cloud), bool), np.full(len(cloud), _LEAST_SPREAD)
    usual = colours.copy()
    for group in (TORSO, LEG, ARM):
        part = limbs.on_limb & (cloud.group == group)
        if (part & source).sum() < _LEAST:
            continue
        places = limbs.here[:, :3] * (1, _AROUND, _AROUND)
        places = np.column_stack([places, _OTHER_PART * cloud.forearm])
        usual[part], spread[part] = _medians(
            places[part], places[part & source], colours[part & source]
        )
        known |= part
    return ColorPrior(known, _smooth(cloud, usual, known), spread)


def _medians(
    places: np.ndarray, sources: np.ndarray, source_colours: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Median colour and spread of the sources around each place.  # [P, 3], [P]"""
    thin = slice(None, None, max(1, len(sources) // _SOURCES))
    sources, source_colours, centres = sources[thin], source_colours[thin], places[::_STEP]
    count = max(int(_SHARE * len(sources)), min(_LEAST, len(sources)))
    _, index = cKDTree(sources).query(centres, k=count)
    around = source_colours[index.reshape(len(centres), -1)]  # [C, k, 3]
    middle = np.median(around, axis=1)
    spread = _MAD * np.median(np.abs(around - middle[:, None]).mean(2), axis=1)
    _, nearest = cKDTree(centres).query(places, k=min(4, len(centres)))
    nearest = nearest.reshape(len(places), -1)
    return (middle[nearest].mean(1), np.clip(spread[nearest].mean(1), _LEAST_SPREAD, _MOST_SPREAD))


def _smooth(cloud: SurfaceGaussians, colours: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Averages among neighbours on the surface that have a usual colour.  # [N, 3]"""
    smoothed = colours.copy()
    if not known.any():
        return smoothed
    _, near = cKDTree(cloud.means[known]).query(cloud.means[known], k=min(9, int(known.sum())))
    near = near.reshape(int(known.sum()), -1)
    for _ in range(_SMOOTHING):
        smoothed[known] = smoothed[known][near].mean(1)
    return smoothed


# Which seen colours are in the wrong place: an arm printed on a shirt, a shirt on a hand.
# Hand-tuned; laxer rules leave prints, stricter ones take real patterns away.

_TONE = 0.055  # distance of chromaticities (r, g) / (r + g + b) that may both be this skin
_DARKEST, _BRIGHTEST = 0.3, 2.2  # brightness of skin in shadow and sun, against the face
_ENOUGH = 40  # seen Gaussians that a rule needs
_DRESSED = 0.35  # share of skin under which trunk and legs are dressed
_BARE_HAND, _BARE_FOREARM = 0.05, 0.2  # share of skin over which they are bare
_BELOW_HAIR = 0.3  # share of scalp under which the head shows skin
_REACH = 0.12  # metres from a fitted arm to its print
_ON_FACE, _WELL_SEEN, _SEEN = 0.8, 0.5, 0.3  # shares of face; 0..1 of how well a Gaussian is seen
# Chromaticities of human skin, red and green of the sum; blue is less than green.
_SKIN_RED, _SKIN_GREEN = (0.37, 0.6), (0.24, 0.37)
_SKIN_SPREADS = 20.0, 7.0  # CIELAB, along and across the shade: face, arms and legs differ
_ANY_SKIN = np.array([[72.0, 16, 19], [52, 17, 21], [35, 13, 16]])  # CIELAB, where none is seen
_MOSTLY_FACE = 0.7  # share of face from which a Gaussian tells the palette of skin
# A bald scalp is as the face is: CIELAB across the shade, lightness against it, spread of lightness
_BALD_HUE, _BALD_LIGHT, _BALD_SPREAD = 7.0, (0.9, 1.12), 7.0
# or it mirrors the sky, but is as red: lightness against the face, CIELAB a apart, b above. Two of
# two bald men in the park, none of 25 other heads of six photos; tells nothing of grey photos.
_SHEEN_LIGHT, _SHEEN_RED, _SHEEN_YELLOW = (0.9, 1.5), 4.5, 4.0
_STRANGE, _LEAST_STRANGE = 3.0, 0.12  # spreads, and sRGB, from the usual colour of a print
# A scalp in the shirt's colour, with no skin beside it, is a shirt before a head that is bent
# forward. Of 60 people in eleven photos it is one, a footballer in white. Share of the scalp that
# is like the top (his .82), CIELAB between their medians (his 5), and lightness under which it may
# be hair (black hair over black shirts: up to .97, 10 and 25 of those whose hair it was).
_LIKE_TOP, _NEAR_TOP, _HAIR_LIGHT = 0.7, 12.0, 45.0
_TOP_DEPTH, _NO_SKIN = 2.5, 0.1  # logarithm down to which a colour is the top's; share of skin


def face_colour(
    cloud: SurfaceGaussians, colours: np.ndarray, seen: np.ndarray
) -> np.ndarray | None:
    """The median colour of the seen face, None when there is too little of it.  # [3]"""
    face = (cloud.face > _ON_FACE) & (seen > _WELL_SEEN)
    return np.median(colours[face], axis=0) if face.sum() >= _ENOUGH else None


def skin_colour(
    cloud: SurfaceGaussians, colours: np.ndarray, seen: np.ndarray
) -> np.ndarray | None:
    """The person's skin: of the face, else what arms, neck or legs show of skin tones.  # [3]"""
    face = face_colour(cloud, colours, seen)
    if face is not None:
        return face
    neck = (cloud.group == HEAD) & (cloud.scalp < _BELOW_HAIR)
    for part in ((cloud.group == HAND) | (cloud.group == ARM), neck, cloud.group == LEG):
        bare = part & (seen > _WELL_SEEN) & _may_be_skin(colours)
        if bare.sum() >= _ENOUGH:
            return np.median(colours[bare], axis=0)
    return None


def _may_be_skin(colours: np.ndarray) -> np.ndarray:
    """Whether colours [N, 3] lie where skin of any person lies.  # [N] bool"""
    red, green, blue = (colours / (colours.sum(1, keepdims=True) + 1e-6)).T
    reddish = (red > _SKIN_RED[0]) & (red < _SKIN_RED[1])
    return reddish & (green > _SKIN_GREEN[0]) & (green < _SKIN_GREEN[1]) & (blue < green)


def like_skin(colours: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Whether colours [N, 3] may be skin of this tone in some light.  # [N] bool"""
    total, own = colours.sum(1) + 1e-6, skin.sum() + 1e-6
    tone = np.linalg.norm((colours / total[:, None] - skin / own)[:, :2], axis=1)
    return (tone < _TONE) & (total > _DARKEST * own) & (total < _BRIGHTEST * own)


def is_bald(scalp: np.ndarray, skin: np.ndarray) -> bool:
    """Whether colours of the scalp [n, 3] are of skin [3] in light or sheen; CIELAB."""
    middle = np.median(scalp, axis=0)
    across = np.linalg.norm(middle - skin * (middle @ skin) / (skin @ skin))
    light = middle[0] / skin[0]
    if _BALD_LIGHT[0] < light < _BALD_LIGHT[1] and across < _BALD_HUE:
        if scalp[:, 0].std() < _BALD_SPREAD:
            return True
    red, yellow = (middle - skin)[1:]
    shines = _SHEEN_LIGHT[0] < light < _SHEEN_LIGHT[1]
    return bool(shines and abs(red) < _SHEEN_RED < skin[1] and yellow < _SHEEN_YELLOW)


def skin_palette(cloud: SurfaceGaussians, colours: np.ndarray, seen: np.ndarray) -> Palette:
    """The person's skin as a palette, that of any skin where none is seen.

    Args:
        cloud: the bound Gaussians.
        colours: [N, 3] sRGB.
        seen: [N] 0..1.
    """
    skin = skin_colour(cloud, colours, seen)
    if skin is None:
        return Palette(_ANY_SKIN, np.full(3, 1 / 3), *_SKIN_SPREADS)
    bare = (cloud.face > _MOSTLY_FACE) | (cloud.group == HAND)
    own = bare & (seen > _SEEN) & like_skin(colours, skin)
    told = colours[own] if own.sum() >= TELLING else skin[None]
    return palette_of(to_lab(told), *_SKIN_SPREADS)


def cast_by_occluder(
    cloud: SurfaceGaussians, scene: np.ndarray, colours: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Seen Gaussians whose colour belongs to another part.  # [N] bool

    Args:
        cloud: the bound Gaussians.
        scene: [N, 3] their centres in the photo's pose.
        colours: [N, 3] sRGB.
        seen: [N] 0..1.
    """
    wrong = _shirt_before_head(cloud, colours, seen)
    skin = skin_colour(cloud, colours, seen)
    if skin is None:
        return wrong
    tone, looked = like_skin(colours, skin), seen > _SEEN
    near = _beside_arms(cloud, scene)
    for group in (TORSO, LEG):
        part = (cloud.group == group) & looked
        if part.sum() >= _ENOUGH and tone[part].mean() < _DRESSED:
            wrong |= part & tone & near
    for limb, bare in ((cloud.group == HAND, _BARE_HAND), (cloud.forearm, _BARE_FOREARM)):
        part = limb & looked
        if part.sum() >= _ENOUGH and tone[part].mean() > bare:
            wrong |= part & ~tone
    return wrong


def _shirt_before_head(
    cloud: SurfaceGaussians, colours: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """The whole head where what is seen of it, from behind, is the shirt.  # [N] bool"""
    head, sure = cloud.group == HEAD, seen > _WELL_SEEN
    scalp, top = head & sure & (cloud.scalp > _WELL_SEEN), (cloud.group == TORSO) & sure
    if min(scalp.sum(), top.sum()) < _ENOUGH or (cloud.face > _ON_FACE)[sure].sum() >= _ENOUGH:
        return head & False
    lab = to_lab(colours)
    hood, shirt = np.median(lab[scalp], axis=0), np.median(lab[top], axis=0)
    if hood[0] < _HAIR_LIGHT or np.linalg.norm(hood - shirt) > _NEAR_TOP:
        return head & False
    skin = skin_colour(cloud, colours, seen)
    if skin is not None and like_skin(colours[head & sure], skin).mean() > _NO_SKIN:
        return head & False
    alike = palette_of(lab[top]).like(lab[scalp], _TOP_DEPTH).mean()
    return head & bool(alike > _LIKE_TOP)


def color_outliers(
    cloud: SurfaceGaussians, scene: np.ndarray, colours: np.ndarray, prior: ColorPrior
) -> np.ndarray:
    """Gaussians of trunk and legs beside an arm whose colour the garment has not.  # [N] bool"""
    dressed = prior.known & ((cloud.group == TORSO) | (cloud.group == LEG))
    strange = np.abs(colours - prior.colour).mean(1) > np.maximum(
        _STRANGE * prior.spread, _LEAST_STRANGE
    )
    return dressed & strange & _beside_arms(cloud, scene)


def _beside_arms(cloud: SurfaceGaussians, scene: np.ndarray) -> np.ndarray:
    limbs = (cloud.group == HAND) | cloud.forearm
    near, _ = cKDTree(scene[limbs]).query(scene, distance_upper_bound=_REACH)
    return np.isfinite(near)
