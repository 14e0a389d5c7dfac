# SPDX-License-Identifier: Apache-2.0
"""Colours for what the photo does not show: from the other side, then from the same part.

The body's left-right counterpart answers first where it is seen. Else trunk, arms, legs and feet
ask their flanks what is worn there; on head and hands the nearest seen place answers, the face only
for the face, and the back of the head asks where hair grows.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial import cKDTree

from ..body.parts import ARM, HAND, HEAD, TORSO
from .color_statistics import LimbPlaces, like_skin, skin_colour
from .gaussians import SurfaceGaussians, mean_around
from .materials import HAIR, SKIN

# Hand-tuned by eye on bodies seen from the other side; not measured one by one, but for _MAJORITY
# and _FLANK_ANGLE: on 12 made-up people in loud patterns, dB where unseen: 1 and 28 degrees 16.69
# (mixes materials at hems; not looked at); 3 and 0, 28, 45 degrees 16.22, 16.37, 16.44; 2 and 45
# degrees 16.57. One median over all materials, as before, had 16.61.
FULLY_SEEN = 0.5  # how well a Gaussian must be seen to be a source of colour, and to keep its own
_COUNTERPART = 0.04  # metres: as near the counterpart must be seen
_OTHER_GROUP = 0.3  # metres: rather as far away than from another part of the body
_FACE, _SCALP = 0.6, 0.5  # metres between face, scalp and the rest of the head
_DEPTH = 0.6  # how much a distance from front to back counts
_SOURCES = 6
_ALIKE = 0.15  # distance of two sRGB colours that may be the same material
_SHADE, _TINT = 0.6, 1.5  # how much brightness and hue count when colours are told apart
_CELL, _LEAST_CELL = 0.06, 0.004  # of these colours; share of the sources under which they mix
_ALONG_FIRST = (1, 0.3, 0.3, 1, 1, 1)  # a distance around a limb counts less than one along it
_VOTERS, _HEM = 24, 0.006  # sources asked, and metres farther that cost a vote a factor e
_STRANGER = 0.05  # of a vote of those who show another material: skin, hair, upper, lower, shoes
_HEM_NEIGHBOURS, _HEM_ROUNDS = 8, 1  # of a vote's sharing; more straightens hems
_MAJORITY = 2  # power of votes: 1 mixes materials by their shares, more gives all to the first
_LEAST_SHARE = 0.02  # of a colour, under which a material is left out
_FINE, _WIDE = 24, 60  # sources around a texture, and around a usual colour; more: calmer backs
_CONTRAST = 0.05  # of sRGB, that a texture may add to the usual colour
_LEAST_HEAD = 60  # well seen Gaussians below which a head is not known
_SKIN = np.array([0.68, 0.51, 0.42])  # sRGB of a person of whom no skin is seen
_HAIR = np.array([0.17, 0.13, 0.11])  # sRGB of hair behind a shirt: most people's is dark
_GLOSSY = 0.6  # quantile of the scalp's brightness above which it is shine
_MEAN_SHARE = 0.6  # of the sources' mean against one of them; less keeps texture and adds noise
_LIMB_REACH = 0.15  # metres to a source on the limb, from which nearby sources take over
_ON_SCALP, _ON_FACE = 0.3, 0.8  # of a Gaussian's share in scalp or face
_LEAST_SOURCES = 3  # for the counterpart
_LEAST_PART = 30  # well seen Gaussians of a part below which its colour is not known
_LEAST_HAIR = 20  # the same for scalp and face
_FAR_FROM_FACE = 0.5  # quantile of the scalp's distances from the face beyond which it is hair
_BALD = 0.5  # share of skin there; 1.00 of two bald heads, at most 0.03 of five others
_FOREHEAD = 0.4  # of the way from hair to skin from which a colour is forehead; more lets skin grow
_SMOOTH_NEIGHBOURS = 6
_SMOOTH, _SMOOTH_HEAD = 0.4, 0.5  # of the neighbours' mean in a filled colour


@dataclass(frozen=True)
class ObservedColors:
    """What the photo showed of a cloud."""

    colours: np.ndarray  # [N, 3] sRGB, trusted as far as seen says
    seen: np.ndarray  # [N] 0..1


class Completion(Protocol):
    """What knows more of unseen colours than rules do."""

    def complete(
        self,
        cloud: SurfaceGaussians,
        observed: ObservedColors,
        material: np.ndarray,
        offset: np.ndarray,
        filled: np.ndarray,
    ) -> np.ndarray:
        """Colours of all Gaussians; well seen ones keep theirs.

        Args:
            cloud: the person.
            observed: what the photo showed of it.
            material: [N] what each shows, as materials.find_materials has it.
            offset: [N] metres from the naked body along its normal.
            filled: [N, 3] sRGB, as fill_colours has them.

        Returns:
            # [N, 3] sRGB
        """
        ...


def fill_colours(
    cloud: SurfaceGaussians,
    observed: ObservedColors,
    limbs: LimbPlaces,
    material: np.ndarray,
    seed: int = 1,
) -> np.ndarray:
    """Colours of all Gaussians; well seen ones keep theirs.

    Args:
        cloud: the person.
        observed: what the photo showed of it.
        limbs: who asks whom.
        material: [N] what each shows, as materials.find_materials has it.
        seed: of the sources that lend their texture.

    Returns:
        # [N, 3] sRGB
    """
    sure = observed.seen >= FULLY_SEEN
    if not sure.any():
        return np.where(observed.seen[:, None] > 0, observed.colours, 0.5)
    source = sure & ~_not_hair(cloud, observed, material) & ~_collar(cloud, observed, sure)
    filled = _from_nearby(cloud, observed.colours, source, np.random.default_rng(seed))
    _from_same_limb(filled, observed.colours, source, cloud, limbs, material)
    _from_counterpart(filled, cloud, observed.colours, source)
    _bare_skin(filled, cloud, observed)
    return _as_trusted(observed, _smooth(cloud, filled))


def bent_head(
    filled: np.ndarray, cloud: SurfaceGaussians, wrong: np.ndarray, material: np.ndarray
) -> np.ndarray:
    """Colours [N, 3] with hair on a head that lies behind the shirt.

    Somebody seen from behind shows hair. A head of which nothing is known keeps the skin: dark hair
    on it costs 0.6 and 1.3 dB of unseen surface on the two of twelve made-up people who have one.

    Args:
        filled: [N, 3] sRGB, as fill_colours has them.
        cloud: the person.
        wrong: [N] bool of color_statistics.cast_by_occluder.
        material: [N] what each shows.
    """
    hair = wrong & (cloud.group == HEAD) & (cloud.scalp > _ON_SCALP) & (material == HAIR)
    return np.where(hair[:, None], _HAIR, filled)


def first_colours(cloud: SurfaceGaussians, observed: ObservedColors, seed: int = 1) -> np.ndarray:
    """Colours to start a fit from: what nobody saw borrows from what is near.  # [N, 3] sRGB"""
    sure = observed.seen >= FULLY_SEEN
    if not sure.any():
        return np.where(observed.seen[:, None] > 0, observed.colours, 0.5)
    filled = _from_nearby(cloud, observed.colours, sure, np.random.default_rng(seed))
    return _as_trusted(observed, filled)


def _as_trusted(observed: ObservedColors, filled: np.ndarray) -> np.ndarray:
    """What was seen as far as it is sure, else what was filled in.  # [N, 3]"""
    trust = np.clip(observed.seen / FULLY_SEEN, 0, 1)[:, None]
    return trust * observed.colours + (1 - trust) * filled


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
    filled: np.ndarray,
    colours: np.ndarray,
    source: np.ndarray,
    cloud: SurfaceGaussians,
    limbs: LimbPlaces,
    material: np.ndarray,
) -> None:
    """First which of the person's materials a place wears, then how that looks thereabouts."""
    sources, asking = np.flatnonzero(source & limbs.on_limb), limbs.on_limb
    if len(sources) < _LEAST_SOURCES:
        return
    label = _materials(colours[sources])
    votes, far = _votes(limbs, sources, label, material)
    shares = _agreed(cloud.means[asking], votes[asking]) ** _MAJORITY
    shares /= shares.sum(1, keepdims=True)
    found = np.zeros((len(shares), 3))
    for each, share in enumerate(shares.T):
        wears = share > _LEAST_SHARE
        own = sources[label == each]
        look = _look(limbs, own, colours[own], np.flatnonzero(asking)[wears])
        found[wears] += share[wears, None] * look
    found /= np.where(shares > _LEAST_SHARE, shares, 0).sum(1, keepdims=True)
    close = np.clip(2 - far[asking, None] / _LIMB_REACH, 0, 1)
    filled[asking] = close * found + (1 - close) * filled[asking]


def _materials(colours: np.ndarray) -> np.ndarray:
    """Numbers 0..M-1 of groups of alike colours [S, 3], light and shade together.  # [S] int"""
    grey = colours.mean(1, keepdims=True)
    looks = np.column_stack([_SHADE * np.sqrt(3) * grey, _TINT * (colours - grey)])
    _, cell, count = np.unique(
        np.floor(looks / _CELL).astype(int), axis=0, return_inverse=True, return_counts=True
    )
    centres = np.stack([np.bincount(cell.ravel(), each) / count for each in looks.T], 1)
    centres = centres[count >= _LEAST_CELL * len(looks)]
    if len(centres) < 2:
        return np.zeros(len(looks), int)
    group = fcluster(linkage(centres, "average"), _ALIKE, "distance")
    _, nearest = cKDTree(centres).query(looks)
    return np.unique(group[nearest], return_inverse=True)[1]


def _votes(
    limbs: LimbPlaces, sources: np.ndarray, label: np.ndarray, material: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the seen places of a limb say of what others wear; arms before a shirt say little of it.

    Returns:
        # [N, M] sums to one for those on limbs; [N] metres to the nearest of those who say it
    """
    tree = cKDTree(limbs.here[sources] * _ALONG_FIRST)
    count = min(_VOTERS, len(sources))
    one_hot = np.eye(label.max() + 1)[label]
    votes, far = np.zeros((len(limbs.here), one_hot.shape[1])), np.full(len(limbs.here), np.inf)
    for query, share in ((limbs.flank, 1 - limbs.behind / 2), (limbs.across, limbs.behind / 2)):
        distance, index = tree.query(query * _ALONG_FIRST, k=count)
        distance, index = distance.reshape(len(query), -1), index.reshape(len(query), -1)
        weight = np.exp((distance[:, :1] - distance) / _HEM)
        weight[material[sources][index] != material[:, None]] *= _STRANGER
        weight *= (share / weight.sum(1))[:, None]
        votes += np.einsum("nk,nkm->nm", weight, one_hot[index])
        far = np.minimum(far, distance[:, 0])
    return votes, far


def _agreed(means: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Votes shared among neighbours, so that hems are smooth lines.  # [A, M]"""
    around = mean_around(means, _HEM_NEIGHBOURS)
    for _ in range(_HEM_ROUNDS):
        votes = around @ votes
    return votes


def _look(limbs: LimbPlaces, own: np.ndarray, colours: np.ndarray, some: np.ndarray) -> np.ndarray:
    """One material at some places: its usual colour thereabouts and a little of its texture.

    Args:
        limbs: coordinates.
        own: [S] indices of the material's sources.
        colours: [S, 3] theirs.
        some: [A] indices of those who ask.

    Returns:
        # [A, 3]
    """
    tree = cKDTree(limbs.here[own] * _ALONG_FIRST)
    if not len(some):
        return np.zeros((0, 3))
    _, around = tree.query(limbs.here[own] * _ALONG_FIRST, k=min(_FINE, len(own)))
    texture = colours - colours[around.reshape(len(own), -1)].mean(1)
    usual, share = np.zeros((len(some), 3)), limbs.behind[some, None] / 2
    for query, weight in ((limbs.flank, 1 - share), (limbs.across, share)):
        _, near = tree.query(query[some] * _ALONG_FIRST, k=min(_WIDE, len(own)))
        usual += weight * np.median(colours[near.reshape(len(some), -1)], axis=1)
    _, nearest = cKDTree(limbs.here[own]).query(limbs.flank[some])
    return usual + np.clip(texture[nearest], -_CONTRAST, _CONTRAST)


def _from_counterpart(
    filled: np.ndarray, cloud: SurfaceGaussians, colours: np.ndarray, source: np.ndarray
) -> None:
    if source.sum() < _LEAST_SOURCES:
        return
    distance, index = cKDTree(cloud.mirrored[source]).query(cloud.means, k=_LEAST_SOURCES)
    close = np.clip(2 - distance[:, :1] / _COUNTERPART, 0, 1)
    filled += close * (colours[source][index].mean(1) - filled)


def _bare_skin(filled: np.ndarray, cloud: SurfaceGaussians, observed: ObservedColors) -> None:
    """Hands, a face or a head of which nothing is seen take the person's own skin."""
    sure = observed.seen >= FULLY_SEEN
    skin = skin_colour(cloud, observed.colours, observed.seen)
    hands, head = cloud.group == HAND, cloud.group == HEAD
    above_neck = head & (np.maximum(cloud.face, cloud.scalp) > _ON_SCALP)
    if (above_neck & sure).sum() < _LEAST_HEAD:
        filled[head] = _SKIN if skin is None else skin
    if ((cloud.face > _ON_FACE) & sure).sum() < _LEAST_HAIR:  # seen from behind: a plain face
        front = cloud.face[:, None]
        filled += front * ((_SKIN if skin is None else skin) - filled)
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


def _not_hair(
    cloud: SurfaceGaussians, observed: ObservedColors, material: np.ndarray
) -> np.ndarray:
    """Seen Gaussians of the scalp that show shine or forehead: no colour for the back.  # [N]

    Hair is what the scalp shows away from the face. A bald one mirrors the sky at its rim, which
    is all that a photo shows of it: its colour is the face's.
    """
    scalp = (observed.seen >= FULLY_SEEN) & (cloud.scalp > _ON_SCALP)
    face = (observed.seen >= FULLY_SEEN) & (cloud.face > _ON_FACE)
    held_back = np.zeros(len(cloud), bool)
    if scalp.sum() < _LEAST_HAIR or face.sum() < _LEAST_HAIR:
        return held_back
    colours = observed.colours[scalp]
    shine = colours.sum(1) > np.quantile(colours.sum(1), _GLOSSY)
    away, _ = cKDTree(cloud.means[cloud.face > 0.5]).query(cloud.means[scalp])
    far = away >= np.quantile(away[~shine], _FAR_FROM_FACE)
    hair = np.median(colours[far & ~shine], axis=0)
    skin = np.median(observed.colours[face], axis=0)
    if (material[scalp][far] == SKIN).mean() > _BALD:
        held_back[scalp] = True
        return held_back
    along = (colours - hair) @ (skin - hair) / max(np.sum((skin - hair) ** 2), 1e-6)
    forehead = (along > _FOREHEAD) & (np.linalg.norm(hair - skin) > _ALIKE)
    held_back[scalp] = shine | forehead
    return held_back


def _smooth(cloud: SurfaceGaussians, colours: np.ndarray) -> np.ndarray:
    """Blurs filled colours a little, so that a change of source leaves no hard line."""
    blurred = mean_around(cloud.means, _SMOOTH_NEIGHBOURS) @ colours
    head = (cloud.group == HEAD)[:, None]
    share = np.where(head, _SMOOTH_HEAD, _SMOOTH)
    return (1 - share) * colours + share * blurred
