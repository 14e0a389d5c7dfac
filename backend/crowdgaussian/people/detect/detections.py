# SPDX-License-Identifier: Apache-2.0
"""Everybody in a photo, as landmarks, a soft mask and a box; nothing three-dimensional yet."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

from ...core.landmarks import ARMS, FEET, LEGS, MIRROR, NUM_LANDMARKS, TORSO, Landmark
from ..config import PeopleConfig
from ..types import Keypoints
from .landmark_net import PoseNetwork
from .roi import compose, invert, warp_mask
from .search import bodies_in_boxes, find_bodies, read_boxes
from .tta import Body, body_score

# Non-maximum suppression: which body candidates are people of the photo. Hand-tuned; not measured.

_LIMB_LANDMARKS = np.arange(Landmark.LEFT_SHOULDER, Landmark.RIGHT_ANKLE + 1)
_SURE = 0.45  # score from which a body helps to tell the usual size; lower: strangers count too
_USUAL_QUANTILE = 0.7  # of the sure bodies' sizes; higher: more people are called background
# Relative sizes and the score a body of each needs, min_score above the last; higher scores drop
# more spectators, and more people who really are far away.
_SIZE_KNOTS = (0.25, 0.45, 0.7, 0.85)
_SCORE_KNOTS = (0.7, 0.6, 0.42)
# Two candidates are one person when their limbs lie this close, in parts of the smaller body; when
# they lie a little further apart but the masks share much; or when one mask holds the other.
# Higher distances and lower shares merge people who hug, the opposite keeps doubles.
_SAME_LIMBS = 0.07
_NEAR_LIMBS, _NEAR_SHARE = 0.16, 0.35
_CONTAINED, _CONTAINED_EASED = 0.75, 0.2  # share of the mask, less by the second for a part
_PART_SIZE = 0.7  # of the larger body, below which a candidate may be a part of it
_LEAST_LIMB_WEIGHT = 0.05  # of a landmark nobody sees: limbs all hidden still have a distance
_MOST_LIMB_DISTANCE = 0.5  # of the smaller body: one limb far off is not worse than this
_MASK = 0.5  # of a soft mask, from which a pixel is the person's


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
        if not any(is_duplicate(body, other) for other in kept):
            kept.append(body)
    return kept[: config.max_people]


def usual_size(sizes: list[float], scores: list[float]) -> float:
    """The size in pixels of the people the photo is about: a high quantile of the sure ones."""
    sure = [size for size, score in zip(sizes, scores, strict=True) if score > _SURE]
    return float(np.quantile(sure or sizes or [1.0], _USUAL_QUANTILE))


def needed_score(ratio: float, config: PeopleConfig) -> float:
    """How sure a body of this relative size must be; spectators look small and unsteady."""
    return float(np.interp(ratio, _SIZE_KNOTS, (*_SCORE_KNOTS, config.min_score)))


def is_duplicate(body: Body, other: Body) -> bool:
    """Whether two candidates are one person, or one of them is a part of the other.

    Compares limbs and masks, not boxes: people who hug share a box, but not their elbows.
    """
    apart = limb_distance(body, other)
    shared = mask_containment(body, other)
    smaller = min(body.size, other.size) / max(body.size, other.size)
    contained = _CONTAINED - _CONTAINED_EASED * (smaller < _PART_SIZE)
    return (
        apart < _SAME_LIMBS or (apart < _NEAR_LIMBS and shared > _NEAR_SHARE) or shared > contained
    )


def limb_distance(body: Body, other: Body) -> float:
    """Mean distance of like landmarks in parts of the smaller body, left-right swaps allowed."""
    size = min(body.size, other.size)
    distances = []
    for order in (np.arange(NUM_LANDMARKS), MIRROR):
        weight = np.minimum(body.confidence, other.confidence[order])[_LIMB_LANDMARKS]
        weight = weight + _LEAST_LIMB_WEIGHT
        apart = np.linalg.norm(body.xy - other.xy[order], axis=1)[_LIMB_LANDMARKS] / size
        distances.append(np.average(np.minimum(apart, _MOST_LIMB_DISTANCE), weights=weight))
    return float(min(distances))


def mask_containment(body: Body, other: Body) -> float:
    """The part of the smaller mask that lies on the larger one, 0..1."""
    small, large = sorted((body, other), key=_mask_pixels)
    moved = warp_mask(
        large.mask, compose(invert(small.mask_to_photo), large.mask_to_photo), small.mask.shape
    )
    inside = small.mask > _MASK
    return float((inside & (moved > _MASK)).sum() / max(inside.sum(), 1))


def _mask_pixels(body: Body) -> float:
    return float((body.mask > _MASK).sum() * abs(np.linalg.det(body.mask_to_photo[:, :2])))


_BODY = np.array([Landmark.NOSE, *ARMS, *LEGS, *FEET])  # landmarks that tell how much is seen
_SMALL = 150.0  # pixels of body height below which the network guesses more than it sees
OUTSIDE = 0.2  # of a landmark's confidence that counts outside the photo
_SEEN = 0.5  # confidence from which a landmark is seen
_HIDDEN_SHARE = 0.8  # of the body's landmarks: fewer seen ones flag a person "hidden"
_BORDER = 0.01  # of the body's height: a box this near the photo's border is "cut"


@dataclass(frozen=True)
class Detection:
    """One person as the photo shows them."""

    keypoints: Keypoints
    box: np.ndarray  # [4] float32, x0 y0 x1 y1 photo pixels, around what is visible
    score: float  # 0..1
    person_mask: np.ndarray  # [H, W] uint8, soft mask of the detector, not resolved
    size: float  # rough height of the whole body, pixels
    flags: tuple[str, ...]  # of "small", "hidden", "cut"


def detect_people(photo: np.ndarray, config: PeopleConfig) -> list[Detection]:
    """Finds everybody in a photo, left to right.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        config: limits on how many and how small, or boxes around those who are wanted.

    Raises:
        CrowdGaussianError: nobody was found, or people.boxes is wrong.
    """
    network = PoseNetwork()
    if config.boxes:
        boxes = read_boxes(config.boxes, photo.shape[:2])
        people = bodies_in_boxes(network, photo, boxes)
    else:
        people = choose_people(find_bodies(network, photo), config)
    if not people:
        raise CrowdGaussianError(
            "No person was found in the photo; use one in which people are sharp, lit and at "
            "least 60 pixels tall."
        )
    found = [_detection(body, photo.shape[:2]) for body in people]
    return sorted(found, key=lambda one: float(one.keypoints.xy[TORSO, 0].mean()))


def _detection(body: Body, shape: tuple[int, int]) -> Detection:
    mask = warp_mask(body.mask, body.mask_to_photo, shape)
    height, width = shape
    inside = ((body.xy >= 0) & (body.xy < [width, height])).all(axis=1)
    confidence = body.confidence * np.where(inside, 1.0, OUTSIDE)
    box = visible_box(body.xy, confidence, mask)
    flags = detection_flags(body.size, confidence, box, shape)
    keypoints = Keypoints(
        body.xy.astype(np.float32), confidence.astype(np.float32), body.world.astype(np.float32)
    )
    return Detection(
        keypoints,
        box,
        body_score(body),
        np.clip(mask * 255 + 0.5, 0, 255).astype(np.uint8),
        body.size,
        flags,
    )


def visible_box(xy: np.ndarray, confidence: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The box around a person's mask and sure landmarks, within the photo.  # [4] float32"""
    height, width = mask.shape
    rows, columns = (np.flatnonzero((mask > _MASK).any(axis=axis)) for axis in (1, 0))
    points = xy[confidence > _SEEN]
    if len(rows):
        corners = [[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]
        points = np.concatenate([points, corners])
    if not len(points):
        points = xy
    points = np.clip(points, 0, [width, height])
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def detection_flags(
    size: float, confidence: np.ndarray, box: np.ndarray, shape: tuple[int, int]
) -> tuple[str, ...]:
    """What makes a person hard: too few pixels, limbs not seen, the photo's border."""
    height, width = shape
    margin = _BORDER * size
    at_border = (
        box[0] <= margin
        or box[1] <= margin
        or box[2] >= width - margin
        or box[3] >= height - margin
    )
    return tuple(
        name
        for name, holds in (
            ("small", size < _SMALL),
            ("hidden", float((confidence[_BODY] > _SEEN).mean()) < _HIDDEN_SHARE),
            ("cut", bool(at_border)),
        )
        if holds
    )
