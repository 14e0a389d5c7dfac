# SPDX-License-Identifier: Apache-2.0
"""Which seen colours are in the wrong place: an arm printed on a shirt, a shirt on a hand.

A fitted arm is often a few centimetres beside the arm in the photo. In the photo's own view that
does not show, but a raised arm would leave its print behind. The face tells the skin's colour.
"""

import numpy as np
from scipy.spatial import cKDTree

from .cloud import Cloud
from .regions import ARM, HAND, LEG, TORSO
from .usual import Usual

_TONE = 0.055  # distance of chromaticities (r, g) / (r + g + b) that may both be this skin
_DARKEST, _BRIGHTEST = 0.3, 2.2  # brightness of skin in shadow and sun, against the face
_ENOUGH = 40  # seen Gaussians that a rule needs
_DRESSED = 0.35  # share of skin under which trunk and legs are dressed
_BARE_HAND, _BARE_FOREARM = 0.05, 0.2  # share of skin over which they are bare
_REACH = 0.12  # metres from a fitted arm to its print
_STRANGE, _LEAST_STRANGE = 3.0, 0.12  # spreads, and sRGB, from the usual colour of a print


def face_colour(cloud: Cloud, colours: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    """The median colour of the seen face, None when there is too little of it.  # [3]"""
    face = (cloud.face > 0.8) & (seen > 0.5)
    return np.median(colours[face], axis=0) if face.sum() >= _ENOUGH else None


def skin_colour(cloud: Cloud, colours: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    """The person's skin: of the face, else what hands and arms show of skin tones.  # [3]"""
    face = face_colour(cloud, colours, seen)
    if face is not None:
        return face
    bare = ((cloud.group == HAND) | (cloud.group == ARM)) & (seen > 0.5)
    bare &= _may_be_skin(colours)
    return np.median(colours[bare], axis=0) if bare.sum() >= _ENOUGH else None


def _may_be_skin(colours: np.ndarray) -> np.ndarray:
    """Whether colours [N, 3] lie where skin of any person lies.  # [N] bool"""
    red, green, blue = (colours / (colours.sum(1, keepdims=True) + 1e-6)).T
    return (red > 0.37) & (red < 0.6) & (green > 0.24) & (green < 0.37) & (blue < green)


def like_skin(colours: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """Whether colours [N, 3] may be skin of this tone in some light.  # [N] bool"""
    total, own = colours.sum(1) + 1e-6, skin.sum() + 1e-6
    tone = np.linalg.norm((colours / total[:, None] - skin / own)[:, :2], axis=1)
    return (tone < _TONE) & (total > _DARKEST * own) & (total < _BRIGHTEST * own)


def misplaced(cloud: Cloud, scene: np.ndarray, colours: np.ndarray,
              seen: np.ndarray) -> np.ndarray:
    """Seen Gaussians whose colour belongs to another part.  # [N] bool

    Args:
        cloud: the bound Gaussians.
        scene: [N, 3] their centres in the photo's pose.
        colours: [N, 3] sRGB.
        seen: [N] 0..1.
    """
    wrong = np.zeros(len(cloud), bool)
    skin = skin_colour(cloud, colours, seen)
    if skin is None:
        return wrong
    tone, looked = like_skin(colours, skin), seen > 0.3
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


def printed(cloud: Cloud, scene: np.ndarray, colours: np.ndarray, usual: Usual) -> np.ndarray:
    """Gaussians of trunk and legs beside an arm whose colour the garment has not.  # [N] bool"""
    dressed = usual.known & ((cloud.group == TORSO) | (cloud.group == LEG))
    strange = np.abs(colours - usual.colour).mean(1) > np.maximum(
        _STRANGE * usual.spread, _LEAST_STRANGE)
    return dressed & strange & _beside_arms(cloud, scene)


def _beside_arms(cloud: Cloud, scene: np.ndarray) -> np.ndarray:
    limbs = (cloud.group == HAND) | cloud.forearm
    near, _ = cKDTree(scene[limbs]).query(scene, distance_upper_bound=_REACH)
    return np.isfinite(near)
