# SPDX-License-Identifier: Apache-2.0
"""Everybody in a photo, as landmarks, a soft mask and a box; nothing three-dimensional yet."""

from dataclasses import dataclass

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError

from .boxes import read_boxes
from .config import PeopleConfig
from .consensus import Body
from .evidence import body_score
from .looking import warp_mask
from .pose_network import PoseNetwork
from .search import bodies_in_boxes, find_bodies
from .selection import choose_people
from .types import Keypoints

_BODY = np.array([0, *range(11, 17), *range(23, 33)])  # landmarks that tell how much is seen
_SMALL = 150.0  # pixels of body height below which the network guesses more than it sees


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
            "least 60 pixels tall.")
    found = [_detection(body, photo.shape[:2]) for body in people]
    return sorted(found, key=lambda one: float(one.keypoints.xy[[11, 12, 23, 24], 0].mean()))


def _detection(body: Body, shape: tuple[int, int]) -> Detection:
    mask = warp_mask(body.mask, body.mask_to_photo, shape)
    height, width = shape
    inside = ((body.xy >= 0) & (body.xy < [width, height])).all(axis=1)
    confidence = body.confidence * np.where(inside, 1.0, 0.2)
    box = visible_box(body.xy, confidence, mask)
    flags = detection_flags(body.size, confidence, box, shape)
    keypoints = Keypoints(body.xy.astype(np.float32), confidence.astype(np.float32),
                          body.world.astype(np.float32))
    return Detection(keypoints, box, body_score(body),
                     np.clip(mask * 255 + 0.5, 0, 255).astype(np.uint8), body.size, flags)


def visible_box(xy: np.ndarray, confidence: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The box around a person's mask and sure landmarks, within the photo.  # [4] float32"""
    height, width = mask.shape
    rows, columns = (np.flatnonzero((mask > 0.5).any(axis=axis)) for axis in (1, 0))
    points = xy[confidence > 0.5]
    if len(rows):
        corners = [[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]
        points = np.concatenate([points, corners])
    if not len(points):
        points = xy
    points = np.clip(points, 0, [width, height])
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def detection_flags(size: float, confidence: np.ndarray, box: np.ndarray,
                    shape: tuple[int, int]) -> tuple[str, ...]:
    """What makes a person hard: too few pixels, limbs not seen, the photo's border."""
    height, width = shape
    margin = 0.01 * size
    at_border = (box[0] <= margin or box[1] <= margin or box[2] >= width - margin
                 or box[3] >= height - margin)
    return tuple(name for name, holds in (
        ("small", size < _SMALL),
        ("hidden", float((confidence[_BODY] > 0.5).mean()) < 0.8),
        ("cut", bool(at_border)),
    ) if holds)
