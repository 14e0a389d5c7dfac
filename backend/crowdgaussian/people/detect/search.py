# SPDX-License-Identifier: Apache-2.0
"""Where in the photo people might be: the detector's windows, or boxes that a user draws."""

from dataclasses import replace

import cv2
import numpy as np
from crowdgaussian_shared.errors import InputError, SettingError

from ...core.landmarks import TORSO
from ...core.progress import Progress, Report, each, silent, within
from ..types import PeopleConfig
from .landmark_net import (
    LandmarkPrediction,
    PhotoPyramid,
    PoseNetwork,
    Roi,
    roi_from_points,
    roi_of_box,
)
from .tta import Body, body_score, fuse_predictions, refine_roi

DETECTOR_SIDE = 224  # pixels, what the detector takes in
SEARCH_SIDE = 1280  # pixels, longer side of the copy in which the detector searches
# Window side as a part of the photo's shorter side, and how many steps a window moves within it.
_WINDOWS = ((1.0, 3), (0.7, 3), (0.5, 3), (0.35, 2))
_LOOKING = Progress("people", 0.0, message="looking for people")
_WINDOWS_SHARE = 0.2  # of the time of the first search; the rest goes into the candidates
# Hand-tuned; not measured one by one.
_SAME_TORSO = 0.06  # of the body's height between like landmarks of one torso; lower: more doubles
_KNOWN_SCORE = 0.3  # score from which a body spares further predictions at its place
_MOST_SIDE = 2.5  # of the photo's longer side: larger regions show nobody
_AT_SIDE = 0.01  # of the photo's width from a side of it: a box that ends there goes on beyond
_OUTWARD = (0.0, 0.5, 1.0)  # of the box's width, to where such a person may be centred
_SAME_PLACE, _SAME_SCALE = 0.15, (0.6, 1.6)  # of the regions' sizes, in which two are one person


def detector_seeds(
    network: PoseNetwork, photo: np.ndarray, report: Report = silent
) -> list[tuple[float, Roi]]:
    """Regions in which the detector saw somebody, best first, doubles merged.

    Every window is seen twice, the second time mirrored, which finds people the first pass misses.

    Args:
        network: has the detector.
        photo: [H, W, 3] uint8 sRGB.
        report: called before each window, from 0 to 1.
    """
    factor = min(1.0, SEARCH_SIDE / max(photo.shape[:2]))
    small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    found, windows = [], list(_windows(width, height))
    for x, y, side in each(windows, report, _LOOKING):
        window = cv2.resize(
            small[y : y + side, x : x + side],
            (DETECTOR_SIDE, DETECTOR_SIDE),
            interpolation=cv2.INTER_AREA,
        )
        to_photo = side / DETECTOR_SIDE / factor
        corner = np.array([x, y]) / factor
        for mirrored in (False, True):
            for seen in network.detect(window[:, ::-1] if mirrored else window):
                points = np.stack([seen.hip, seen.crown])
                if mirrored:
                    points[:, 0] = DETECTOR_SIDE - points[:, 0]
                found.append((seen.score, roi_from_points(*(points * to_photo + corner))))
    return _merge(found)


def find_bodies(
    network: PoseNetwork, scout: PoseNetwork, photo: PhotoPyramid, report: Report = silent
) -> list[Body]:
    """Every body candidate that the detector leads to, doubles and false ones still among them.

    Args:
        network: fits the candidates.
        scout: looks whether somebody is there; a quicker one does.
        photo: where to look.
        report: called before each window and each candidate, from 0 to 1.
    """
    bodies: list[Body] = []
    seeds = detector_seeds(network, photo.levels[0], within(report, 0.0, _WINDOWS_SHARE))
    report = within(report, _WINDOWS_SHARE, 1.0)
    for detector_score, roi in each(seeds, report, _LOOKING):
        if roi.size > _MOST_SIDE * photo.size.max():
            continue
        prediction = refine_roi(network, scout, photo, roi)
        if prediction is None or _is_known(prediction, bodies):
            continue
        body = fuse_predictions(network, photo, prediction.next_roi, detector_score)
        if body is not None:
            bodies.append(body)
    return bodies


def bodies_in_boxes(
    network: PoseNetwork,
    photo: np.ndarray,
    boxes: np.ndarray,
    least: float = 0.0,
    report: Report = silent,
) -> list[Body]:
    """The person in each box that a user drew around somebody.

    Args:
        network: both networks.
        photo: [H, W, 3] uint8 sRGB.
        boxes: [P, 4] x0 y0 x1 y1, pixels.
        least: score below which a body is nobody.
        report: called before each box, from 0 to 1.

    Raises:
        InputError: nobody is recognised in a box.
    """
    pyramid, bodies = PhotoPyramid(photo), []
    for number, box in enumerate(each(list(boxes), report, _LOOKING), start=1):
        beyond = np.array([_cut_off(box, photo.shape[1]), 0.0])
        wide = box + np.concatenate([np.minimum(beyond, 0), np.maximum(beyond, 0)])
        first, seen = roi_of_box(box), []
        for share in _OUTWARD if beyond.any() else _OUTWARD[:1]:
            roi = replace(first, center=first.center + share * beyond)
            prediction = refine_roi(network, network, pyramid, roi)
            starts = (roi,) if prediction is None else (prediction.next_roi, roi)
            seen += [fuse_predictions(network, pyramid, start, 1.0) for start in starts]
        inside = [
            body
            for body in seen
            if body is not None and _within(body, wide) and body_score(body) >= least
        ]
        if not inside:
            raise InputError(
                f"Nobody was recognised in box {number} of people.boxes; draw it around all of the "
                "person that the photo shows, or leave it out."
            )
        bodies.append(
            max(inside, key=lambda body: body_score(body) * _fits(body, box, photo.shape))
        )
    return bodies


def _fits(body: Body, box: np.ndarray, shape: tuple[int, ...]) -> float:
    """Intersection over union of a box and the landmarks' own, inside of the photo."""
    seen = np.clip(body.xy, 0, (shape[1], shape[0]))
    return overlap(np.concatenate([seen.min(axis=0), seen.max(axis=0)]), box)


def _cut_off(box: np.ndarray, width: int) -> float:
    """How far beyond the photo's side half a person may reach: the box's width, < 0 to the left."""
    across = float(box[2] - box[0])
    left, right = box[0] < _AT_SIDE * width, box[2] > (1 - _AT_SIDE) * width
    return across * (int(right) - int(left))


def _within(body: Body, box: np.ndarray) -> bool:
    middle = body.xy[TORSO].mean(axis=0)
    return bool((middle > box[:2]).all() and (middle < box[2:]).all())


def _is_known(prediction: LandmarkPrediction, bodies: list[Body]) -> bool:
    """Whether a prediction shows a torso that is among the bodies already."""
    return any(
        np.linalg.norm(prediction.xy[TORSO] - body.xy[TORSO], axis=1).mean()
        < _SAME_TORSO * body.size
        and body_score(body) > _KNOWN_SCORE
        for body in bodies
    )


def _windows(width: int, height: int):
    for part, steps in _WINDOWS:
        side = int(min(width, height) * part)
        for y in _starts(height, side, steps):
            for x in _starts(width, side, steps):
                yield x, y, side


def _starts(length: int, side: int, steps: int) -> np.ndarray:
    count = int(np.ceil((length - side) / (side / steps))) + 1
    return np.linspace(0, length - side, count).astype(int)


def _merge(found: list[tuple[float, Roi]]) -> list[tuple[float, Roi]]:
    kept: list[tuple[float, Roi]] = []
    for score, roi in sorted(found, key=lambda item: -item[0]):
        if not any(same_place(roi, other) for _, other in kept):
            kept.append((score, roi))
    return kept


def same_place(roi: Roi, other: Roi) -> bool:
    """Whether two regions are around one person."""
    apart = float(np.linalg.norm(roi.center - other.center))
    near = apart < _SAME_PLACE * min(roi.size, other.size)
    return near and _SAME_SCALE[0] < roi.size / other.size < _SAME_SCALE[1]


# Boxes around people: those that a user gives, and which of a detector's stay

_SAME = 0.8  # intersection over union from which two boxes are one person; lower: huggers merge
_SURE = 0.6  # score from which a box tells how large the photo's people are; hand-tuned
_USUAL_QUANTILE = 0.7  # of their heights; higher: more people are called background
_LEAST = 8  # pixels a side


def read_boxes(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The setting people.boxes.  # [P, 4] float64, cut to the photo

    Args:
        text: "x0,y0,x1,y1;x0,y0,x1,y1" in pixels of the working photo.
        shape: height and width of the photo.

    Raises:
        SettingError: it is not a list of boxes, or a box lies outside the photo.
    """
    try:
        rows = [
            [float(value) for value in part.split(",")] for part in text.split(";") if part.strip()
        ]
        boxes = np.array(rows).reshape(len(rows), 4)
    except ValueError as error:
        raise SettingError(
            f"people.boxes is '{text}', which is no list of boxes; write x0,y0,x1,y1 for each "
            "and a semicolon between two."
        ) from error
    size = np.array([shape[1], shape[0]], float)
    cut = np.clip(boxes, 0, np.tile(size, 2))
    small = ~((cut[:, 2:] - cut[:, :2]) >= _LEAST).all(axis=1)
    if small.any():
        raise SettingError(
            f"Box {int(np.argmax(small)) + 1} of people.boxes has less than {_LEAST} pixels inside "
            f"the photo, which is {shape[1]} x {shape[0]}; give x0,y0,x1,y1 with x0 < x1, y0 < y1."
        )
    return cut


def choose_boxes(boxes: np.ndarray, scores: np.ndarray, config: PeopleConfig) -> np.ndarray:
    """Indices of the boxes [N, 4] that are people of the photo, the surest first.

    Doubles and people much smaller than the usual ones of this photo are left out.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= config.detector_score]
    if not len(order):
        return order
    heights = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    sure = order[scores[order] >= _SURE]
    usual = float(np.quantile(heights[sure if len(sure) else order], _USUAL_QUANTILE))
    kept: list[int] = []
    for index in order:
        large = heights[index] >= config.min_relative_size * usual
        if large and all(overlap(boxes[index], boxes[other]) < _SAME for other in kept):
            kept.append(int(index))
    return np.array(kept[: config.max_people], int)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4]."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.clip(sides, 0, None)))
    both = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / max(both, 1e-9)
