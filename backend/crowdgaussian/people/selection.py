# SPDX-License-Identifier: Apache-2.0
"""Which body candidates are people of the photo: no doubles, no parts, no background crowd."""

import numpy as np

from .config import PeopleConfig
from .consensus import Body
from .evidence import body_score
from .looking import MIRRORED, compose, invert, warp_mask

_LIMB_LANDMARKS = np.arange(11, 29)
_SURE = 0.45  # from this score on a body helps to tell how large the photo's people are


def choose_people(bodies: list[Body], config: PeopleConfig) -> list[Body]:
    """The best candidate of every real person, best first.

    A greedy pass from the surest body down: a body is dropped when it is small against the
    photo's people and not sure enough for that, or when its limbs or its mask are those of a
    body kept before.
    """
    scores = {id(body): body_score(body) for body in bodies}
    tall = usual_size([body.size for body in bodies], [scores[id(body)] for body in bodies])
    kept: list[Body] = []
    for body in sorted(bodies, key=lambda body: -scores[id(body)] * min(body.size / tall, 1.0)):
        ratio = body.size / tall
        if ratio < config.min_relative_size or scores[id(body)] < needed_score(ratio, config):
            continue
        if not any(same_person(body, other) for other in kept):
            kept.append(body)
    return kept[:config.max_people]


def usual_size(sizes: list[float], scores: list[float]) -> float:
    """The size in pixels of the people the photo is about: a high quantile of the sure ones."""
    sure = [size for size, score in zip(sizes, scores, strict=True) if score > _SURE]
    return float(np.quantile(sure or sizes or [1.0], 0.7))


def needed_score(ratio: float, config: PeopleConfig) -> float:
    """How sure a body of this relative size must be; spectators look small and unsteady."""
    return float(np.interp(ratio, (0.25, 0.45, 0.7, 0.85), (0.7, 0.6, 0.42, config.min_score)))


def same_person(body: Body, other: Body) -> bool:
    """Whether two candidates are one person, or one of them is a part of the other.

    Compares limbs and masks, not boxes: people who hug share a box, but not their elbows.
    """
    apart = limb_distance(body, other)
    shared = mask_containment(body, other)
    smaller = min(body.size, other.size) / max(body.size, other.size)
    return apart < 0.07 or (apart < 0.16 and shared > 0.35) or shared > 0.75 - 0.2 * (
        smaller < 0.7)


def limb_distance(body: Body, other: Body) -> float:
    """Mean distance of like landmarks in parts of the smaller body, left-right swaps allowed."""
    size = min(body.size, other.size)
    distances = []
    for order in (np.arange(33), MIRRORED):
        weight = np.minimum(body.confidence, other.confidence[order])[_LIMB_LANDMARKS] + 0.05
        apart = np.linalg.norm(body.xy - other.xy[order], axis=1)[_LIMB_LANDMARKS] / size
        distances.append(np.average(np.minimum(apart, 0.5), weights=weight))
    return float(min(distances))


def mask_containment(body: Body, other: Body) -> float:
    """The part of the smaller mask that lies on the larger one, 0..1."""
    small, large = sorted((body, other), key=_mask_pixels)
    moved = warp_mask(large.mask, compose(invert(small.mask_to_photo), large.mask_to_photo),
                      small.mask.shape)
    inside = small.mask > 0.5
    return float((inside & (moved > 0.5)).sum() / max(inside.sum(), 1))


def _mask_pixels(body: Body) -> float:
    return float((body.mask > 0.5).sum() * abs(np.linalg.det(body.mask_to_photo[:, :2])))
