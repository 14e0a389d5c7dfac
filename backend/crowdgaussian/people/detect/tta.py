# SPDX-License-Identifier: Apache-2.0
"""Test-time augmentation: predictions in jittered and mirrored crops, fused into one body."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...core.landmarks import NUM_LANDMARKS, TORSO, Landmark
from ...core.landmarks import Landmark as L
from .landmark_net import (
    CIRCLE_SCALE,
    LandmarkPrediction,
    PhotoPyramid,
    PoseNetwork,
    Roi,
    apply,
    compose,
    invert,
    patch_to_photo,
    predict_in_roi,
    warp_mask,
)

MASK_SIDE = 384  # pixels of the square in which a body's mask is kept

# grow, turn (radians), shift (parts of the size), mirrored. Tighter squares follow arms better,
# wider ones keep the feet.
_JITTER = (
    (1.0, 0.0, (0.0, 0.0), False),
    (1.0, 0.0, (0.0, 0.0), True),
    (0.8, 0.0, (0.0, 0.01), False),
    (0.8, 0.0, (0.0, 0.01), True),
    (0.88, 0.05, (0.015, 0.0), False),
    (0.88, -0.05, (-0.015, 0.0), True),
    (0.94, -0.05, (0.0, 0.02), False),
    (0.94, 0.05, (0.0, -0.02), True),
    (1.12, -0.03, (0.0, 0.0), False),
    (1.12, 0.03, (0.0, 0.0), True),
)

# Hand-tuned; not measured one by one.
# How the network is first looked for: growth of the region and whether mirrored, until one answers.
_FIRST_TRIES = ((1.0, False), (1.3, True), (0.8, False), (1.3, False), (1.0, True))
_TRUSTED = (
    0.8  # trust from which no further try is made; higher: slower, finds hard poses more often
)
_SETTLED = 0.02  # of the region: a torso that moves less is found; lower: more steps
_LEAST_PREDICTIONS = 3  # of the jittered ones, below which nobody is there
_LEAST_WEIGHT = 0.05  # of a landmark that nobody sees, when predictions are compared
_AGREEING = 0.06  # of the region, between predictions of one body; higher lets neighbours mix in
_NEAR = 0.025  # of the region: spread of a landmark's densest place; higher averages two guesses
_LEAST_CONFIDENCE = 1e-3  # squared, so that hidden landmarks have a densest place too
_SAME_FACING = 0.6  # cosine between the chests of predictions that face the same way
# The detection score: lower _STEADY drops more hallucinations, and more people who are hard to see.
_STEADY = 0.04  # of the body's height: spread between predictions that costs a factor e
_LEAST_SCORE_WEIGHT = 0.02  # of a landmark that nobody sees


@dataclass(frozen=True)
class Body:
    """One person as most predictions have it."""

    xy: np.ndarray  # [33, 2] float64, photo pixels
    confidence: np.ndarray  # [33] float64, 0..1
    world: np.ndarray  # [33, 3] float64, metres, OpenCV axes, origin mid-hip
    spread: np.ndarray  # [33] float64, disagreement between predictions / body size
    mask: np.ndarray  # [MASK_SIDE, MASK_SIDE] float32, 0..1
    mask_to_photo: np.ndarray  # [2, 3] float64
    roi: Roi
    agreeing: float  # part of the predictions that saw the same body, 0..1
    detector_score: float = 0.0  # score of the detector that led here, 0..1

    @property
    def size(self) -> float:
        """Rough height of the whole body in pixels (the region is larger than the circle)."""
        return self.roi.size / CIRCLE_SCALE


def refine_roi(
    network: PoseNetwork, scout: PoseNetwork, photo: PhotoPyramid, roi: Roi, steps: int = 4
) -> LandmarkPrediction | None:
    """Lets the network centre itself on the person that is seen from a first region.

    Args:
        network: settles on the person.
        scout: sees whether somebody is there; a quicker one does.
        photo: where to look.
        roi: the first region.
        steps: at most so many of the network.
    """
    best: LandmarkPrediction | None = None
    for grow, mirrored in _FIRST_TRIES:
        prediction = predict_in_roi(scout, photo, roi.changed(grow), mirrored)
        if prediction is not None and (best is None or trust(prediction) > trust(best)):
            best = prediction
        if best is not None and trust(best) > _TRUSTED:
            break
    if best is None:
        return None
    for step in range(steps):
        prediction = predict_in_roi(network, photo, best.next_roi, mirrored=step % 2 == 1)
        if prediction is None:
            break
        moved = np.linalg.norm(prediction.xy[TORSO] - best.xy[TORSO], axis=1).mean()
        best = prediction
        if moved < _SETTLED * prediction.next_roi.size:
            break
    return best


def fuse_predictions(
    network: PoseNetwork,
    photo: PhotoPyramid,
    roi: Roi,
    detector_score: float,
    accept: Callable[[LandmarkPrediction], bool] = lambda _: True,
) -> Body | None:
    """Predicts several times around one region and keeps what most predictions share.

    Args:
        network: both networks.
        photo: where to look.
        roi: around which.
        detector_score: of what led here, 0..1.
        accept: which predictions may be of the body that is looked for.
    """
    crops = ((roi.changed(grow, turn, shift), mirrored) for grow, turn, shift, mirrored in _JITTER)
    tried = (predict_in_roi(network, photo, crop, mirrored) for crop, mirrored in crops)
    predictions = [one for one in tried if one is not None and accept(one)]
    if len(predictions) < _LEAST_PREDICTIONS:
        return None
    close = _largest_agreement(predictions, roi.size)
    kept = [one for one, ok in zip(predictions, close, strict=True) if ok]
    weights = _densest(kept, roi.size)  # [predictions, 33]
    faced = weights * _same_facing(kept)[:, None]
    xy = _weighted(weights, [one.xy for one in kept])
    middle = np.median([one.xy for one in kept], axis=0)
    spread = np.median([np.linalg.norm(one.xy - middle, axis=1) for one in kept], axis=0)
    center = np.median([one.next_roi.center for one in kept], axis=0)
    size = float(np.median([one.next_roi.size for one in kept]))
    frame = patch_to_photo(Roi(center, CIRCLE_SCALE * size), side=MASK_SIDE)
    masks = [
        warp_mask(one.mask, compose(invert(frame), one.to_photo), (MASK_SIDE, MASK_SIDE))
        for one in kept
    ]
    turn = float(np.median([one.next_roi.rotation for one in kept]))
    return Body(
        xy=xy,
        confidence=_weighted(weights, [one.confidence for one in kept]),
        world=_weighted(faced, [one.world for one in kept]),
        spread=CIRCLE_SCALE * spread / size,
        mask=np.mean(masks, axis=0),
        mask_to_photo=frame,
        roi=Roi(center, size, turn),
        agreeing=len(kept) / len(_JITTER),
        detector_score=detector_score,
    )


def trust(prediction: LandmarkPrediction) -> float:
    """How surely a single prediction shows somebody, 0..1."""
    return float(prediction.confidence[TORSO].mean() * (0.5 + 0.5 * prediction.confidence.mean()))


def _largest_agreement(predictions: list[LandmarkPrediction], size: float) -> np.ndarray:
    """Which predictions lie near the one that most others lie near.  # [n] bool"""
    xy = np.stack([one.xy for one in predictions])
    weight = np.stack([one.confidence for one in predictions]).mean(axis=0)
    weight = weight + _LEAST_WEIGHT
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=3) @ weight / weight.sum() / size
    near = apart < _AGREEING
    return near[np.argmax(near.sum(axis=1) - apart.mean(axis=1))]


def _densest(predictions: list[LandmarkPrediction], size: float) -> np.ndarray:
    """How much each prediction counts for each landmark: only those near the densest place.

    A hidden wrist may be guessed in two places; the mean of two guesses would be in neither.
    """
    xy = np.stack([one.xy for one in predictions])
    sure = np.stack([one.confidence for one in predictions]) ** 2 + _LEAST_CONFIDENCE
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=3)  # [predictions, predictions, 33]
    near = np.exp(-0.5 * (apart / (_NEAR * size)) ** 2)
    densest = (near * sure[None]).sum(axis=1).argmax(axis=0)  # [33]
    return sure * near[densest, :, np.arange(NUM_LANDMARKS)].T + 1e-9


def _weighted(weights: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
    stacked = np.stack(values)
    weights = weights.reshape(weights.shape + (1,) * (stacked.ndim - 2))
    return (weights * stacked).sum(axis=0) / weights.sum(axis=0)


def _same_facing(predictions: list[LandmarkPrediction]) -> np.ndarray:
    """Which predictions agree with most about which side of the body is in front.  # [n] bool"""
    world = np.stack([one.world for one in predictions])
    across = (world[:, Landmark.LEFT_SHOULDER] - world[:, Landmark.RIGHT_SHOULDER]) + (
        world[:, Landmark.LEFT_HIP] - world[:, Landmark.RIGHT_HIP]
    )
    direction = across[:, [0, 2]] / np.linalg.norm(across[:, [0, 2]], axis=1, keepdims=True)
    near = direction @ direction.T > _SAME_FACING
    return near[near.sum(axis=1).argmax()]


# How much speaks for a body: limbs on its mask, predictions that agree, landmarks that are visible

# Pairs of landmarks; the torso is filled by its four sides and two diagonals.
BODY_EDGES = np.array(
    [
        (L.LEFT_SHOULDER, L.RIGHT_SHOULDER),
        (L.LEFT_HIP, L.RIGHT_HIP),
        (L.LEFT_SHOULDER, L.LEFT_HIP),
        (L.RIGHT_SHOULDER, L.RIGHT_HIP),
        (L.LEFT_SHOULDER, L.RIGHT_HIP),
        (L.RIGHT_SHOULDER, L.LEFT_HIP),
        (L.LEFT_SHOULDER, L.LEFT_ELBOW),
        (L.LEFT_ELBOW, L.LEFT_WRIST),
        (L.RIGHT_SHOULDER, L.RIGHT_ELBOW),
        (L.RIGHT_ELBOW, L.RIGHT_WRIST),
        (L.LEFT_HIP, L.LEFT_KNEE),
        (L.LEFT_KNEE, L.LEFT_ANKLE),
        (L.RIGHT_HIP, L.RIGHT_KNEE),
        (L.RIGHT_KNEE, L.RIGHT_ANKLE),
        (L.LEFT_ANKLE, L.LEFT_FOOT_INDEX),
        (L.RIGHT_ANKLE, L.RIGHT_FOOT_INDEX),
        (L.LEFT_EAR, L.LEFT_SHOULDER),
        (L.RIGHT_EAR, L.RIGHT_SHOULDER),
    ]
)


def limb_points(xy: np.ndarray, confidence: np.ndarray, step: int = 8) -> tuple:
    """Points along the limbs and how sure they are.  # [P, 2], [P]"""
    part = np.linspace(0, 1, step)[:, None, None]
    points = xy[BODY_EDGES[:, 0]] * (1 - part) + xy[BODY_EDGES[:, 1]] * part
    sure = np.minimum(confidence[BODY_EDGES[:, 0]], confidence[BODY_EDGES[:, 1]])
    return points.reshape(-1, 2), np.tile(sure, step)


def limbs_on_mask(points: np.ndarray, weight: np.ndarray, body: Body) -> float:
    """The weighted part of points [P, 2] (photo pixels) that lie on a body's mask."""
    place = np.floor(apply(invert(body.mask_to_photo), points)).astype(int)
    side = body.mask.shape[0]
    inside = ((place >= 0) & (place < side)).all(axis=1)
    place = np.clip(place, 0, side - 1)
    on = inside & (body.mask[place[:, 1], place[:, 0]] > 0.5)
    return float((weight * on).sum() / max(weight.sum(), 1e-9))


def body_score(body: Body) -> float:
    """How surely this is one real body, 0..1: a product, since each sign alone can fool.

    Hallucinated skeletons (patterns, legs taken for a person, faces in a crowd) move between
    crops, leave the mask, or have hardly any visible landmark.
    """
    points, weight = limb_points(body.xy, body.confidence)
    on_mask = limbs_on_mask(points, weight + _LEAST_SCORE_WEIGHT, body)
    spread = np.average(body.spread, weights=body.confidence + _LEAST_SCORE_WEIGHT)
    steady = float(np.exp(-spread / _STEADY))
    return float(
        on_mask
        * steady
        * body.agreeing**0.5
        * body.confidence[TORSO].mean()
        * body.confidence.mean() ** 0.5
    )
