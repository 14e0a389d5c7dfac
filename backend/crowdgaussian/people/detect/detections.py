# SPDX-License-Identifier: Apache-2.0
"""Everybody in a photo, as landmarks, a soft mask and a box; nothing three-dimensional yet."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.errors import InputError

from ...core.landmarks import ARMS, FEET, LEGS, TORSO, Landmark
from ...core.progress import Progress, Report, silent, within
from ..types import Keypoints, PeopleConfig
from .faces import Face, FaceNetwork, head_rotations
from .hands import HandNetwork, Hands, find_hands
from .landmark_net import PhotoPyramid, PoseNetwork, warp_mask
from .residual import PeopleSearch
from .search import bodies_in_boxes, read_boxes
from .tta import Body, body_score

_BODY = np.array([Landmark.NOSE, *ARMS, *LEGS, *FEET])  # landmarks that tell how much is seen
_SMALL = 150.0  # pixels of body height below which the network guesses more than it sees
OUTSIDE = 0.2  # of a landmark's confidence that counts outside the photo
_SEEN = 0.5  # confidence from which a landmark is seen
_HIDDEN_SHARE = 0.8  # of the body's landmarks: fewer seen ones flag a person "hidden"
_HEADS, _HANDS = 0.94, 0.95  # of the time, after which heads, and then hands, are looked at
_MASK = 0.5  # of a soft mask, from which a pixel is the person's
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
    head: np.ndarray | None = None  # [3, 3] how the head is turned, see faces.head_rotation
    hands: Hands = (None, None)  # left and right


@dataclass(frozen=True)
class Detections:
    """Everybody in a photo."""

    people: list[Detection]  # left to right
    missed: tuple[np.ndarray, ...] = ()  # as Crowd.missed
    bodies: tuple[Body, ...] = ()  # what the network saw of each, in the order of people


def detect_people(photo: np.ndarray, config: PeopleConfig, report: Report = silent) -> Detections:
    """Finds everybody in a photo.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        config: limits on how many and how small, or boxes around those who are wanted.
        report: called at every step, from 0 to 1.

    Raises:
        CrowdGaussianError: nobody was found, or people.boxes is wrong.
    """
    network, face_network = PoseNetwork(config.landmarks), FaceNetwork()
    faces: list[Face] = []
    missed: list[Face] = []
    part = within(report, 0.0, _HEADS)
    if config.boxes:
        boxes = read_boxes(config.boxes, photo.shape[:2])
        people = bodies_in_boxes(network, photo, boxes, config.min_score, part)
    else:
        kept, faces, missed = PeopleSearch(network, face_network, config).find(photo, part)
        people = [one.body for one in kept]
    if not people:
        raise InputError(
            "No person was found in the photo; use one in which people are sharp, lit and at "
            "least 60 pixels tall."
        )
    report(Progress("people", _HEADS, None, len(people), "looking where heads look"))
    pyramid = PhotoPyramid(photo)
    heads = head_rotations(face_network, pyramid, people, faces)
    hands: list[Hands] = [(None, None)] * len(people)
    if config.hands:
        report(Progress("people", _HANDS, None, len(people), "looking at hands"))
        hands = find_hands(HandNetwork(), pyramid, people)
    found = [_detection(*one, photo.shape[:2]) for one in zip(people, heads, hands)]
    order = np.argsort([one.keypoints.xy[TORSO, 0].mean() for one in found], kind="stable")
    return Detections(
        [found[index] for index in order],
        tuple(face.box for face in missed),
        tuple(people[index] for index in order),
    )


def _detection(
    body: Body, head: np.ndarray | None, hands: Hands, shape: tuple[int, int]
) -> Detection:
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
        head,
        hands,
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


def seen_share(confidence: np.ndarray) -> float:
    """How many of the body's landmarks are seen, 0..1.

    Args:
        confidence: [33] 0..1.
    """
    return float((confidence[_BODY] > _SEEN).mean())


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
            ("hidden", seen_share(confidence) < _HIDDEN_SHARE),
            ("cut", bool(at_border)),
        )
        if holds
    )
