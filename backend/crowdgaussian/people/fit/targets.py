# SPDX-License-Identifier: Apache-2.0
"""What the photo says about each body, as tensors a fit can be compared with."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from crowdgaussian_shared.geometry.axes import OPENCV_FROM_SCENE, SCENE_FROM_OPENCV
from crowdgaussian_shared.geometry.camera import pixel_rays, turn_to_ray
from torch import Tensor

from ...core.device import float_tensor
from ...core.landmarks import ANKLES, HEAD, HIPS, KNEES, SHOULDERS, TORSO
from ...core.landmarks import Landmark as L
from ..detect.detections import Detection

# How much each landmark counts: joints most, the network's fingers and ears least.
LANDMARK_WEIGHT = torch.tensor(
    [1.0, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.8, 0.8, 0.3, 0.3, 1.5, 1.5, 1.2, 1.2, 1.2, 1.2]
    + [0.2] * 6
    + [1.0, 1.0, 1.2, 1.2, 1.5, 1.5, 1.0, 1.0, 1.0, 1.0]
)
# Segments whose direction in space the network's metric landmarks tell, and how far to trust it.
SEGMENTS = torch.tensor(
    [
        (L.RIGHT_SHOULDER, L.LEFT_SHOULDER),
        (L.RIGHT_HIP, L.LEFT_HIP),
        (L.LEFT_HIP, L.LEFT_SHOULDER),
        (L.RIGHT_HIP, L.RIGHT_SHOULDER),
        (L.LEFT_SHOULDER, L.LEFT_ELBOW),
        (L.LEFT_ELBOW, L.LEFT_WRIST),
        (L.RIGHT_SHOULDER, L.RIGHT_ELBOW),
        (L.RIGHT_ELBOW, L.RIGHT_WRIST),
        (L.LEFT_HIP, L.LEFT_KNEE),
        (L.LEFT_KNEE, L.LEFT_ANKLE),
        (L.RIGHT_HIP, L.RIGHT_KNEE),
        (L.RIGHT_KNEE, L.RIGHT_ANKLE),
        (L.LEFT_HEEL, L.LEFT_FOOT_INDEX),
        (L.RIGHT_HEEL, L.RIGHT_FOOT_INDEX),
        (L.RIGHT_EAR, L.LEFT_EAR),
        (L.LEFT_WRIST, L.LEFT_INDEX),
        (L.RIGHT_WRIST, L.RIGHT_INDEX),
    ]
)
SEGMENT_WEIGHT = torch.tensor([2.0, 2.0, 1.5, 1.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 1, 0.2, 0.2])
CONTOUR = 160  # contour points a person
_FIELD = 192  # longer side of a person's distance field, samples
# Hand-tuned; not measured one by one.
_LEAST_SEGMENT = 0.15  # how much a limb counts that is hidden; more follows guesses
# The mask counts fully from the sum of these scores on, and never less than the last; more trust
# gives better limbs where the detector is right, and worse ones where two people share a mask.
_MASK_FROM, _MASK_RANGE, _LEAST_MASK = 0.15, 0.4, 0.25
# Nor fully of somebody bent: their outline hardly tells how wide they are. From the sum of the
# first two on it counts, at the first hardly.
_BENT, _BENT_RANGE, _LEAST_BENT = 0.88, 0.08, 0.1
# Radius of the circle of hair: of the way from the middle of the face to the neck, of the height.
_HAIR_NECK, _HAIR_SIZE = 0.9, 0.16
_HAIR_WEIGHT = 0.1  # of the outline within the circle
_FIELD_MARGIN = 0.25  # of the body's height around the mask
_LEAST_PART = 0.03  # of the body's height squared: smaller parts of a mask have no outline
_BORDER = 0.02  # of the body's height: an outline this near another person may be theirs


@dataclass(frozen=True)
class Targets:
    """Measurements of P people; pixels are photo pixels, directions scene axes of the camera."""

    xy: Tensor  # [P, 33, 2]
    weight: Tensor  # [P, 33] confidence x landmark weight
    size: Tensor  # [P] body height, pixels
    segments: Tensor  # [P, 17, 3] unit directions, y up, z towards the camera
    segment_weight: Tensor  # [P, 17]
    face: Tensor  # [P, 3] unit direction in which the face looks
    head: Tensor  # [P, 3, 3] how the head is turned against one that looks along z
    head_weight: Tensor  # [P] 1 where a face tells that, 0 where `face` has to do
    contour: Tensor  # [P, CONTOUR, 2]
    contour_weight: Tensor  # [P, CONTOUR] 0 where another body or the border makes the edge
    mask_trust: Tensor  # [P] 0..1, how much the mask counts
    outside: Tensor  # [P, 1, F, F] distance to the mask in body sizes; 0 inside and where hidden
    field_center: Tensor  # [P, 2]
    field_half: Tensor  # [P] half side of the field, pixels

    def select(self, index: Tensor) -> "Targets":
        """The targets of some of the people, in that order."""
        return Targets(**{name: value[index] for name, value in vars(self).items()})


def make_targets(people: list[Detection], K: np.ndarray) -> Targets:
    """Measurements of all people of a photo."""
    masks = [person.person_mask > 127 for person in people]
    rows = [_one_person(person, index, masks, K) for index, person in enumerate(people)]
    return Targets(
        **{name: float_tensor(np.stack([row[name] for row in rows])) for name in rows[0]}
    )


def turned(targets: Targets, turn: np.ndarray) -> Targets:
    """Targets whose directions are told in turned axes."""
    rotation = float_tensor(turn)
    return replace(
        targets,
        segments=targets.segments @ rotation.T,
        face=targets.face @ rotation.T,
        head=rotation @ targets.head,
    )


def scene_world(person: Detection, K: np.ndarray) -> np.ndarray:
    """The metric landmarks turned to where the person is seen, scene axes.  # [33, 3]"""
    return person.keypoints.world @ _seen_turn(person.keypoints.xy[TORSO], K).T


def _seen_turn(xy: np.ndarray, K: np.ndarray) -> np.ndarray:
    """From OpenCV axes along the viewing ray of landmarks [N, 2] to scene axes.  # [3, 3]"""
    return SCENE_FROM_OPENCV @ turn_to_ray(pixel_rays(xy.mean(axis=0), K))


def _one_person(person: Detection, index: int, masks: list[np.ndarray], K: np.ndarray) -> dict:
    keypoints = person.keypoints
    world = scene_world(person, K)
    ends = world[SEGMENTS.numpy()]
    directions = ends[:, 1] - ends[:, 0]
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    sure = keypoints.confidence[SEGMENTS.numpy()].min(axis=1)
    face = world[L.NOSE] - (world[L.LEFT_EAR] + world[L.RIGHT_EAR]) / 2
    others = np.any(
        [m for k, m in enumerate(masks) if k != index] or [np.zeros_like(masks[0])], axis=0
    )
    return {
        "xy": keypoints.xy,
        "weight": keypoints.confidence * LANDMARK_WEIGHT.numpy(),
        "size": person.size,
        "segments": directions / np.maximum(lengths, 1e-6),
        "segment_weight": (_LEAST_SEGMENT + (1 - _LEAST_SEGMENT) * sure) * SEGMENT_WEIGHT.numpy(),
        "face": face / max(np.linalg.norm(face), 1e-6),
        "head": np.eye(3) if person.head is None else _head(person.head, keypoints.xy, K),
        "head_weight": float(person.head is not None),
        "mask_trust": np.clip((person.score - _MASK_FROM) / _MASK_RANGE, _LEAST_MASK, 1.0)
        * np.clip((straightness(keypoints.xy) - _BENT) / _BENT_RANGE, _LEAST_BENT, 1.0),
        **_outline(masks[index], others, person.size, _hair(keypoints.xy, person.size)),
    }


def straightness(xy: np.ndarray) -> float:
    """How straight somebody stands in the picture: nose to ankles over the way along the body.

    About 1 for those who stand, .87 for somebody who leans on their knees.

    Args:
        xy: [33, 2] landmarks, pixels.
    """
    way = np.array([xy[part].mean(axis=0) for part in ([L.NOSE], SHOULDERS, HIPS, KNEES, ANKLES)])
    along = float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())
    return float(np.linalg.norm(way[-1] - way[0])) / max(along, 1e-6)


def _head(head: np.ndarray, xy: np.ndarray, K: np.ndarray) -> np.ndarray:
    """A head's rotation as it is seen straight on, told in scene axes.  # [3, 3]"""
    return _seen_turn(xy[HEAD], K) @ OPENCV_FROM_SCENE @ head


def _hair(xy: np.ndarray, size: float) -> tuple[np.ndarray, float]:
    """A circle around the head in which hair and hats, not the body, make the edge."""
    middle = (xy[L.LEFT_EAR] + xy[L.RIGHT_EAR] + xy[L.NOSE]) / 3
    neck = float(np.linalg.norm(middle - (xy[L.LEFT_SHOULDER] + xy[L.RIGHT_SHOULDER]) / 2))
    return middle, max(_HAIR_NECK * neck, _HAIR_SIZE * size)


def _outline(
    mask: np.ndarray, others: np.ndarray, size: float, hair: tuple[np.ndarray, float]
) -> dict:
    """Contour and distance field of a mask, blind where others may hide the person."""
    height, width = mask.shape
    contour, weight = _contour(mask, others, size)
    weight = weight * np.where(
        np.linalg.norm(contour - hair[0], axis=1) < hair[1], _HAIR_WEIGHT, 1.0
    )
    rows, columns = np.nonzero(mask)
    if len(rows):
        low, high = (np.array([f(columns), f(rows)], dtype=float) for f in (np.min, np.max))
    else:
        low, high = np.zeros(2), np.array([width, height], dtype=float)
    center, half = (low + high) / 2, 0.5 * float((high - low).max()) + _FIELD_MARGIN * size
    steps = (np.arange(_FIELD) + 0.5) / _FIELD * 2 - 1
    x = np.floor(center[0] + half * steps).astype(int)
    y = np.floor(center[1] + half * steps).astype(int)
    beyond = ((y < 0) | (y >= height))[:, None] | ((x < 0) | (x >= width))[None]
    place = np.ix_(np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))
    free = mask[place] | others[place] | beyond
    field = cv2.distanceTransform((~free).astype(np.uint8), cv2.DIST_L2, 5)
    field = field * (2 * half / _FIELD) / size
    return {
        "contour": contour,
        "contour_weight": weight,
        "outside": field[None],
        "field_center": center,
        "field_half": half,
    }


def _contour(mask: np.ndarray, others: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spread points of a mask's outer edges, and whether the edge is the person's own."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = [c[:, 0] for c in found if cv2.contourArea(c) > (_LEAST_PART * size) ** 2]
    if not points:
        return np.zeros((CONTOUR, 2)), np.zeros(CONTOUR)
    joined = np.concatenate(points)
    chosen = joined[np.linspace(0, len(joined) - 1, CONTOUR).astype(int)]
    height, width = mask.shape
    margin = max(2, round(_BORDER * size))
    near_other = cv2.dilate(others.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8))
    own = near_other[chosen[:, 1], chosen[:, 0]] == 0
    own &= (chosen >= 2).all(axis=1) & (chosen < [width - 3, height - 3]).all(axis=1)
    return chosen + 0.5, own.astype(np.float64)
