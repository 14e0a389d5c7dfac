# SPDX-License-Identifier: Apache-2.0
"""Masks by a promptable network (SAM, SAM 2.1, SAM 3), shared out by the fitted bodies."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ...core.crop import Crop
from ...core.device import choose_device
from ...core.landmarks import ARMS, LEGS, TORSO, Landmark
from ...core.progress import Progress, Report, within
from ...people.types import Crowd, Person
from ..silhouettes import SilhouetteSegmenter, body_box, render_vertices
from ..types import BodyLayer, PersonMask, SegmentConfig, sam_path
from .network import NO_POINT, Candidates, Prompts, SamNetwork, load_network

# Which of a network's candidate masks is the person: the one that holds their keypoints


def choose_mask(logits: np.ndarray, scores: np.ndarray, own: np.ndarray, others: np.ndarray) -> int:
    """The index of the best candidate.

    Its score is the network's own, times the part of the person's keypoints inside, minus the
    part of other people's keypoints inside.

    Args:
        logits: [M, h, w]; above 0 is inside.
        scores: [M] the network's guess of each mask's quality, 0..1.
        own: [N, 2] keypoints of the person, mask pixels.
        others: [K, 2] keypoints of other people, mask pixels.
    """
    return int(
        np.argmax(
            [
                score * share_inside(mask, own, 1.0) - share_inside(mask, others, 0.0)
                for mask, score in zip(logits, scores, strict=True)
            ]
        )
    )


def share_inside(logits: np.ndarray, points: np.ndarray, empty: float) -> float:
    """The part of points [N, 2] that lie where logits [h, w] are above 0; empty without points."""
    if not len(points):
        return empty
    height, width = logits.shape
    columns, rows = np.floor(points).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    place = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    return float((inside & (logits[place] > 0)).mean())


# What a promptable network is asked for each person: a box, own points, neighbours' points

OWN_POINTS = 3
_LIMBS = (Landmark.NOSE, *ARMS, *LEGS)
_BOX_MARGIN = 0.02  # of the box: landmarks lie inside the body, the box goes around it
_APART = 0.03  # of the body's height: a neighbour's point nearer to an own one says nothing


@dataclass(frozen=True)
class Evidence:
    """The keypoints that tell about one person's mask, photo pixels."""

    box: np.ndarray  # [4]
    own: np.ndarray  # [N, 2] seen keypoints of the person
    others: np.ndarray  # [M, 2] seen keypoints of other people inside the box
    positive: np.ndarray  # [<= 3, 2] of own, prompts
    negative: np.ndarray  # [K, 2] of others, prompts


def gather_evidence(
    crowd: Crowd, distances: np.ndarray, heights: list[float], config: SegmentConfig
) -> list[Evidence]:
    """What speaks for and against each person's pixels.

    Args:
        crowd: the people.
        distances: [P, P, 33] metres to body q where the photo shows keypoint k of person p; inf
            where q is not. A keypoint behind another body is not seen, however sure it is.
        heights: of the bodies, photo pixels.
        config: from which confidence on a keypoint counts.
    """
    seen = [
        _seen(person, distances[index], index, config.min_confidence)
        for index, person in enumerate(crowd.people)
    ]
    return [_evidence(crowd, seen, index, heights[index]) for index in range(len(seen))]


def make_prompts(evidence: list[Evidence]) -> Prompts:
    """One batch for everybody; rows with fewer points are filled with NO_POINT."""
    most = max((len(one.positive) + len(one.negative) for one in evidence), default=0)
    points = np.zeros((len(evidence), most, 2))
    labels = np.full((len(evidence), most), NO_POINT, np.int32)
    for row, one in enumerate(evidence):
        own, count = len(one.positive), len(one.positive) + len(one.negative)
        points[row, :count] = np.concatenate([one.positive, one.negative])
        labels[row, :own], labels[row, own:count] = 1, 0
    return Prompts(np.stack([one.box for one in evidence]), points, labels)


def _seen(person: Person, distances: np.ndarray, index: int, trusted: float) -> np.ndarray:
    """Which keypoints are sure and not behind another body.  # [33] bool"""
    others = np.delete(distances, index, axis=0)
    covered = (others < distances[index] - 0.1).any(axis=0) if len(others) else False
    behind = covered & np.isfinite(distances[index])
    return (person.keypoints.confidence >= trusted) & ~behind


def _evidence(crowd: Crowd, seen: list[np.ndarray], index: int, height: float) -> Evidence:
    person = crowd.people[index]
    box = _grown(person.box)
    limbs = [k for k in _LIMBS if seen[index][k]]
    own = person.keypoints.xy[limbs].astype(float)
    surest = sorted(
        (k for k in TORSO if seen[index][k]), key=lambda k: -person.keypoints.confidence[k]
    )
    positive = person.keypoints.xy[surest[:OWN_POINTS] or limbs[:1]].astype(float)
    others, negative = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for other, neighbour in enumerate(crowd.people):
        if other != index:
            xy = neighbour.keypoints.xy
            clear = seen[other] & _inside(xy, box) & _away(xy, own, _APART * height)
            others.append(xy[[k for k in _LIMBS if clear[k]]])
            negative.append(xy[[k for k in TORSO if clear[k]]])
    return Evidence(box, own, np.concatenate(others), positive, np.concatenate(negative))


def _grown(box: np.ndarray) -> np.ndarray:
    margin = _BOX_MARGIN * np.tile(box[2:] - box[:2], 2)
    return box + margin * [-1, -1, 1, 1]


def _inside(xy: np.ndarray, box: np.ndarray) -> np.ndarray:
    return np.all((xy >= box[:2]) & (xy <= box[2:]), axis=1)


def _away(xy: np.ndarray, own: np.ndarray, reach: float) -> np.ndarray:
    """Which points [N, 2] are further than reach from all own ones [M, 2]."""
    apart = np.linalg.norm(xy[:, None] - own[None], axis=2)
    return (apart > reach).all(axis=1)


REACH = 0.15  # of a person's box: what the network draws further away is somebody else
_WHOLE = 1 << 20  # crops keep the photo's resolution
_LOOKED = 0.6  # of the stage's time, after which the network has looked; hand-set


@dataclass(frozen=True)
class _Window:
    """The part of the photo in which one person can be, and their body there."""

    crop: Crop
    layer: BodyLayer

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.crop.y0, self.crop.y1), slice(self.crop.x0, self.crop.x1)


class SamSegmenter:
    """A visible mask per person; the photo is encoded once and everybody decoded together.

    What the network says takes the place of the detector's soft masks in the joint assignment of
    pixels. On the sample, with its true masks blurred and shifted as networks do, mean IoU is
    .931 where each pixel goes to the surer mask and .964 by the assignment (.876 and .950 of worse
    masks, .976 and .972 of nearly true ones).
    """

    def __init__(self, config: SegmentConfig, body, network: SamNetwork | None = None) -> None:
        """Loads the network of the settings, unless one is given.

        Raises:
            CrowdGaussianError: its file is missing or damaged.
        """
        self.config, self.body = config, body
        device = choose_device()
        self.network = network or load_network(sam_path(config), device)

    def segment(self, photo: np.ndarray, crowd: Crowd, report: Report) -> list[PersonMask]:
        """See Segmenter; photo: [H, W, 3] uint8 sRGB."""
        people = len(crowd.people)
        if not people:
            return []
        report(Progress("masks", 0.0, None, people, "looking at the photo"))
        seen = replace(crowd, people=self.look(photo, crowd))
        finish = SilhouetteSegmenter(self.config, self.body)
        return finish.segment(photo, seen, within(report, _LOOKED, 1.0))

    def look(self, photo: np.ndarray, crowd: Crowd) -> tuple[Person, ...]:
        """Everybody with the network's soft mask.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            crowd: at least one person.
        """
        windows = [self._window(person, crowd) for person in crowd.people]
        evidence = gather_evidence(
            crowd,
            _distances(crowd, windows),
            [window.layer.height_px for window in windows],
            self.config,
        )
        found = self.network.candidates(photo, make_prompts(evidence))
        people = []
        for index, (one, window) in enumerate(zip(evidence, windows)):
            mask = np.zeros(photo.shape[:2], np.uint8)
            soft = claimed(found, index, one, window.crop)
            mask[window.slices] = np.clip(soft * 255 + 0.5, 0, 255).astype(np.uint8)
            people.append(replace(crowd.people[index], person_mask=mask))
        return tuple(people)

    def _window(self, person: Person, crowd: Crowd) -> _Window:
        """Around the person's body and box, at the photo's own resolution."""
        vertices = self.body.posed(person.params).vertices
        camera = crowd.camera
        boxes = np.stack([body_box(vertices, camera), person.box])
        box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        margin = REACH * float(max(box[2:] - box[:2]))
        crop = Crop.around(box, margin, (camera.width, camera.height), _WHOLE)
        return _Window(crop, render_vertices(self.body, vertices, crop.camera(camera)))


def claimed(found: Candidates, index: int, evidence: Evidence, crop: Crop) -> np.ndarray:
    """A person's best mask in their window, 0 far outside the box.  # [h, w] float32 0..1"""
    scale, masks = found.scale, found.logits[index]
    best = choose_mask(masks, found.scores[index], evidence.own * scale, evidence.others * scale)
    corner = (np.array([crop.x0, crop.y0]) + 0.5) * scale - 0.5
    to_mask = np.column_stack([np.diag(scale), corner])
    size = (crop.width, crop.height)
    logits = cv2.warpAffine(
        masks[best],
        to_mask,
        size,
        borderMode=cv2.BORDER_REPLICATE,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    soft = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    margin = REACH / 2 * np.tile(evidence.box[2:] - evidence.box[:2], 2) * [-1, -1, 1, 1]
    x0, y0, x1, y1 = evidence.box + margin
    rows, columns = (
        np.arange(n) + 0.5 + first for n, first in ((crop.height, crop.y0), (crop.width, crop.x0))
    )
    near = ((rows >= y0) & (rows <= y1))[:, None] & ((columns >= x0) & (columns <= x1))[None]
    return np.where(near, soft, 0).astype(np.float32)


def _distances(crowd: Crowd, windows: list[_Window]) -> np.ndarray:
    """Metres to each body where each keypoint is seen; inf beside it.  # [P, P, 33]"""
    people = len(windows)
    found = np.full((people, people, 33), np.inf, np.float32)
    for index, person in enumerate(crowd.people):
        for other, window in enumerate(windows):
            crop = window.crop
            columns, rows = np.floor(person.keypoints.xy - (crop.x0, crop.y0)).astype(int).T
            inside = (columns >= 0) & (columns < crop.width) & (rows >= 0) & (rows < crop.height)
            found[index, other, inside] = window.layer.depth[rows[inside], columns[inside]]
    return found
