# SPDX-License-Identifier: Apache-2.0
"""Colours for what the photo does not show: from the other side, then from the same part.

The body's left-right counterpart answers first where it is seen. Else trunk, arms and legs wrap
their front around (see wrap); on head, hands and feet the nearest seen place answers, the face
only for the face, and the back of the head asks where hair grows.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..body.parts import ARM, HAND, HEAD, TORSO
from .color_statistics import LimbPlaces, color_prior, like_skin, skin_colour
from .gaussians import SurfaceGaussians

# Hand-tuned by eye on bodies seen from the other side; not measured one by one.
_SURE = 0.5  # how well a Gaussian must be seen to be a source of colour
_COUNTERPART = 0.04  # metres: as near the counterpart must be seen
_OTHER_GROUP = 0.3  # metres: rather as far away than from another part of the body
_FACE, _SCALP = 0.6, 0.5  # metres between face, scalp and the rest of the head
_DEPTH = 0.6  # how much a distance from front to back counts
_SOURCES = 6
_ALIKE = 0.15  # distance of two sRGB colours that may be the same material
_BLOT_STEP, _BLOT_SIZE = 12, 900  # sources between and within neighbourhoods
_CONTRAST = 0.13  # of sRGB, that a filled colour may have in its neighbourhood
_LEAST_HEAD = 60  # well seen Gaussians below which a head is not known
_SKIN = np.array([0.68, 0.51, 0.42])  # sRGB of a person of whom no skin is seen
_GLOSSY = 0.6  # quantile of the scalp's brightness above which it is shine
_MEAN_SHARE = 0.6  # of the sources' mean against one of them; less keeps texture and adds noise
_LIMB_SHARPNESS = 0.006  # metres farther on a limb that cost a source a factor e; more blurs
_LIMB_REACH = 0.15  # metres to a source on the limb, from which nearby sources take over
_ON_SCALP, _ON_FACE = 0.3, 0.8  # of a Gaussian's share in scalp or face
_LEAST_SOURCES = 3  # for the counterpart
_LEAST_PART = 30  # well seen Gaussians of a part below which its colour is not known
_LEAST_HAIR = 20  # the same for scalp and face
_FAR_FROM_FACE = 0.5  # quantile of the scalp's distances from the face beyond which it is hair
_FOREHEAD = 0.4  # of the way from hair to skin from which a colour is forehead; more lets skin grow
_SMOOTH, _SMOOTH_HEAD = 0.4, 0.5  # of the neighbours' mean in a filled colour


@dataclass(frozen=True)
class ObservedColors:
    """What the photo showed of a cloud."""

    colours: np.ndarray  # [N, 3] sRGB, trusted as far as seen says
    seen: np.ndarray  # [N] 0..1


def fill_colours(
    cloud: SurfaceGaussians, observed: ObservedColors, limbs: LimbPlaces, seed: int = 1
) -> np.ndarray:
    """Colours of all Gaussians; well seen ones keep theirs.  # [N, 3] sRGB"""
    sure = observed.seen >= _SURE
    if not sure.any():
        return np.where(observed.seen[:, None] > 0, observed.colours, 0.5)
    source = sure & ~_not_hair(cloud, observed) & ~_collar(cloud, observed, sure)
    filled = _from_nearby(cloud, observed.colours, source, np.random.default_rng(seed))
    _from_same_limb(filled, observed.colours, source, limbs)
    _from_counterpart(filled, cloud, observed.colours, source)
    _bare_skin(filled, cloud, observed)
    filled = color_prior(cloud, observed.colours, source, limbs).clamp_to_prior(filled)
    trust = np.clip(observed.seen / _SURE, 0, 1)[:, None]
    return trust * observed.colours + (1 - trust) * _smooth(cloud, filled)


def _from_nearby(
    cloud: SurfaceGaussians, colours: np.ndarray, source: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """One of the nearest sources at random, mixed with their mean: keeps some texture."""
    places = _places(cloud)
    tree = cKDTree(np.concatenate([places[source], _mirrored(places, cloud)[source]]))
    source_colours = np.concatenate([colours[source], colours[source]])
    _, index = tree.query(places, k=min(_SOURCES, len(source_colours)))
    index = index.reshape(len(cloud), -1)
    one = source_colours[index[np.arange(len(cloud)), rng.integers(0, index.shape[1], len(cloud))]]
    return _MEAN_SHARE * source_colours[index].mean(1) + (1 - _MEAN_SHARE) * one


def _from_same_limb(
    filled: np.ndarray, colours: np.ndarray, source: np.ndarray, limbs: LimbPlaces
) -> None:
    sources = source & limbs.on_limb
    if not sources.any():
        return
    asking, source_colours = limbs.on_limb, _without_blots(limbs.here[sources], colours[sources])
    count = min(3, int(sources.sum()))
    distance, index = cKDTree(limbs.here[sources]).query(limbs.mirrored_query[asking], k=count)
    distance, index = distance.reshape(asking.sum(), -1), index.reshape(asking.sum(), -1)
    weight = np.exp(-distance / _LIMB_SHARPNESS + distance[:, :1] / _LIMB_SHARPNESS)[..., None]
    found = (weight * source_colours[index]).sum(1) / weight.sum(1)
    close = np.clip(2 - distance[:, :1] / _LIMB_REACH, 0, 1)
    filled[asking] = close * found + (1 - close) * filled[asking]


def _without_blots(places: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Colours kept near what is usual around them: no shadow of an arm on the back.  # [L, 3]"""
    centres = places[::_BLOT_STEP]
    _, around = cKDTree(places).query(centres, k=min(_BLOT_SIZE, len(places)))
    usual = np.median(colours[around.reshape(len(centres), -1)], axis=1)
    _, nearest = cKDTree(centres).query(places, k=min(4, len(centres)))
    middle = usual[nearest.reshape(len(places), -1)].mean(1)
    return middle + np.clip(colours - middle, -_CONTRAST, _CONTRAST)


def _from_counterpart(
    filled: np.ndarray, cloud: SurfaceGaussians, colours: np.ndarray, source: np.ndarray
) -> None:
    if source.sum() < _LEAST_SOURCES:
        return
    distance, index = cKDTree(cloud.mirrored[source]).query(cloud.means, k=_LEAST_SOURCES)
    close = np.clip(2 - distance[:, :1] / _COUNTERPART, 0, 1)
    filled += close * (colours[source][index].mean(1) - filled)


def _bare_skin(filled: np.ndarray, cloud: SurfaceGaussians, observed: ObservedColors) -> None:
    """Hands, or a head, of which nothing is seen take the person's own skin."""
    sure = observed.seen >= _SURE
    skin = skin_colour(cloud, observed.colours, observed.seen)
    hands, head = cloud.group == HAND, cloud.group == HEAD
    above_neck = head & (np.maximum(cloud.face, cloud.scalp) > _ON_SCALP)
    if (above_neck & sure).sum() < _LEAST_HEAD:
        filled[head] = _SKIN if skin is None else skin
    if skin is None or (hands & sure).sum() >= _LEAST_PART:
        return
    arms = (cloud.group == ARM) & sure & like_skin(observed.colours, skin)
    filled[hands] = np.median(observed.colours[arms], axis=0) if arms.sum() >= _LEAST_PART else skin


def _collar(cloud: SurfaceGaussians, observed: ObservedColors, sure: np.ndarray) -> np.ndarray:
    """Neck and jaw that show the shirt rather than skin: no colour for the nape.  # [N] bool"""
    collar = np.zeros(len(cloud), bool)
    skin = skin_colour(cloud, observed.colours, observed.seen)
    neck = sure & (cloud.group == HEAD) & (cloud.scalp < _ON_SCALP)
    chest = sure & (cloud.group == TORSO)
    if skin is None or chest.sum() < _LEAST_PART:
        return collar
    if (neck & like_skin(observed.colours, skin)).sum() < _LEAST_PART:
        return collar
    shirt = np.median(observed.colours[chest], axis=0)
    nearer = [np.linalg.norm(observed.colours - colour, axis=1) for colour in (shirt, skin)]
    collar[neck] = ((nearer[0] < nearer[1]) & ~like_skin(observed.colours, skin))[neck]
    return collar


def _places(cloud: SurfaceGaussians) -> np.ndarray:
    """Where Gaussians stand when colours are filled; a larger distance is a worse source."""
    groups = _OTHER_GROUP / np.sqrt(2) * np.eye(6)[cloud.group]
    return np.column_stack(
        [cloud.means * (1, 1, _DEPTH), groups, _FACE * cloud.face, _SCALP * cloud.scalp]
    )


def _mirrored(places: np.ndarray, cloud: SurfaceGaussians) -> np.ndarray:
    return np.column_stack([cloud.mirrored * (1, 1, _DEPTH), places[:, 3:]])


def _not_hair(cloud: SurfaceGaussians, observed: ObservedColors) -> np.ndarray:
    """Seen Gaussians of the scalp that show shine or forehead: no colour for the back.  # [N]

    Hair is what the scalp shows away from the face; where it looks like the face (a bald head)
    only the shine is held back.
    """
    scalp = (observed.seen >= _SURE) & (cloud.scalp > _ON_SCALP)
    face = (observed.seen >= _SURE) & (cloud.face > _ON_FACE)
    held_back = np.zeros(len(cloud), bool)
    if scalp.sum() < _LEAST_HAIR or face.sum() < _LEAST_HAIR:
        return held_back
    colours = observed.colours[scalp]
    shine = colours.sum(1) > np.quantile(colours.sum(1), _GLOSSY)
    away, _ = cKDTree(cloud.means[cloud.face > 0.5]).query(cloud.means[scalp])
    far = away >= np.quantile(away[~shine], _FAR_FROM_FACE)
    hair = np.median(colours[far & ~shine], axis=0)
    skin = np.median(observed.colours[face], axis=0)
    along = (colours - hair) @ (skin - hair) / max(np.sum((skin - hair) ** 2), 1e-6)
    forehead = (along > _FOREHEAD) & (np.linalg.norm(hair - skin) > _ALIKE)
    held_back[scalp] = shine | forehead
    return held_back


def _smooth(cloud: SurfaceGaussians, colours: np.ndarray) -> np.ndarray:
    """Blurs filled colours a little, so that a change of source leaves no hard line."""
    _, near = cKDTree(cloud.means).query(cloud.means, k=min(7, len(cloud)))
    blurred = colours[near].mean(1)
    head = (cloud.group == HEAD)[:, None]
    share = np.where(head, _SMOOTH_HEAD, _SMOOTH)
    return (1 - share) * colours + share * blurred
