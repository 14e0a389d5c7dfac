# SPDX-License-Identifier: Apache-2.0
"""Bodies that were found against annotated people: OKS, who is right, mask IoU, and AP.

AP is pycocotools'; everything else is counted here. Each body is right for one person at most, the
most alike pair first, whereas AP goes by the bodies' scores.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .annotations import SIGMAS, AnnotatedPhoto, Annotation, DataSet
from .report import LIMB_JOINTS

RIGHT_OKS = 0.5  # from which on a body is right; COCO's loosest threshold
NOWHERE = -1e6  # pixels: where a body lies whose joints are not finite; it must not pass as right
VERDICTS = ("right", "wrong", "unmatched", "ignored")  # of bodies
OUTLINE_PX = 60  # height of the smallest people whose outlines count, photo pixels


@dataclass(frozen=True)
class Found:
    """The bodies of one photo."""

    joints: np.ndarray  # [D, 12, 2] photo pixels
    scores: np.ndarray  # [D] 0..1
    masks: list[np.ndarray]  # [H, W] bool each


@dataclass(frozen=True)
class TruePerson:
    """An annotated person and how well somebody lies there."""

    truth: Annotation
    hidden: float  # 0..1
    oks: float = 0.0  # of the right body; 0: missed
    mask_iou: float | None = None  # of the best mask; None: no outline, or a small one

    @property
    def verdict(self) -> str:
        """What became of them."""
        return "right" if self.oks else "missed"


@dataclass(frozen=True)
class FoundBody:
    """A body and what became of it."""

    joints: np.ndarray  # [12, 2] pixels of the annotated picture
    score: float
    verdict: str  # one of VERDICTS
    oks: float = 0.0  # with the person it is right for


@dataclass(frozen=True)
class PhotoResult:
    """One photo."""

    file: str
    people: list[TruePerson] = field(default_factory=list)  # regions to ignore among them
    bodies: list[FoundBody] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""  # why a stage failed, so that everybody is missed, or why it is left out
    left_out: bool = False


def similarity(joints: np.ndarray, truth: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Object keypoint similarity of COCO, over labelled joints.

    Args:
        joints: of bodies, pixels.  # [D, 12, 2]
        truth: x, y, v of people; v = 0: not labelled.  # [G, 12, 3]
        areas: of people, square pixels.  # [G]

    Returns:
        [D, G] 0..1
    """
    apart = ((joints[:, None] - truth[None, ..., :2]) ** 2).sum(-1)
    likeness = np.exp(-apart / (2 * areas[None, :, None] * (2 * SIGMAS) ** 2))
    known = truth[None, ..., 2] > 0
    return (likeness * known).sum(-1) / np.maximum(known.sum(-1), 1)


def match(oks: np.ndarray, least: float = RIGHT_OKS) -> dict[int, int]:
    """Body -> person, the most alike first, each once.  # [D, G]"""
    left, pairs = oks.copy(), {}
    while left.size and left.max() >= least:
        body, person = np.unravel_index(int(left.argmax()), left.shape)
        pairs[int(body)] = int(person)
        left[body], left[:, person] = -1.0, -1.0
    return pairs


def compare(
    data: DataSet, photo: AnnotatedPhoto, found: Found, shape: tuple[int, int]
) -> PhotoResult:
    """Who is right, wrong and missed.

    Args:
        data: what the photo is from.
        photo: its people.
        found: the bodies.
        shape: height and width of the photo as the stages saw it.
    """
    scale = photo.scale(shape[1])
    outlines = [p.outline.encoded(shape, scale) if p.outline else None for p in photo.people]
    hidden = data.hidden(photo, outlines)
    joints = np.nan_to_num(found.joints, nan=NOWHERE, posinf=NOWHERE, neginf=NOWHERE) / scale
    counted = [k for k, person in enumerate(photo.people) if not person.ignored]
    truth = np.array([photo.people[k].joints for k in counted]).reshape(-1, len(LIMB_JOINTS), 3)
    oks = similarity(joints, truth, np.array([photo.people[k].area for k in counted]))
    pairs = match(oks)
    alike = {counted[person]: float(oks[body, person]) for body, person in pairs.items()}
    people = [
        TruePerson(
            person,
            hidden[k],
            alike.get(k, 0.0),
            _mask_iou(found.masks, person, outlines[k], scale),
        )
        for k, person in enumerate(photo.people)
    ]
    bodies = [
        FoundBody(own, float(score), "right", float(oks[k, pairs[k]]))
        if k in pairs
        else FoundBody(own, float(score), _verdict(own, photo.people))
        for k, (own, score) in enumerate(zip(joints, found.scores, strict=True))
    ]
    return PhotoResult(photo.file, people, bodies)


def _verdict(joints: np.ndarray, people: Sequence[Annotation]) -> str:
    """Of a body that is nobody's: by the box that holds the middle of its joints."""
    middle = (joints.min(0) + joints.max(0)) / 2
    holders = [person for person in people if person.holds(middle)]
    if any(person.ignored for person in holders):
        return "ignored"
    return "wrong" if holders else "unmatched"


def _mask_iou(
    masks: list[np.ndarray], person: Annotation, outline: dict | None, scale: float
) -> float | None:
    if outline is None or person.crowd or person.box[3] * scale < OUTLINE_PX:
        return None
    if not rle.area(outline):
        return None
    encoded = [rle.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    return float(np.max(rle.iou(encoded, [outline], [0]))) if encoded else 0.0


# Figures over many photos

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # COCO's
HIDDEN = {  # share of a person that is hidden
    "hidden under 10 %": (0.0, 0.1),
    "hidden 10 to 50 %": (0.1, 0.5),
    "hidden 50 % and more": (0.5, np.inf),
}
ALL = "all"
Choice = Callable[[TruePerson], bool]


def figures(photos: Sequence[PhotoResult]) -> dict[str, dict[str, float | None]]:
    """The figures of everybody, and by size and by how much is hidden.

    Precision has no groups: a body that is nobody's has no size of a person.

    Returns:
        Group -> figure -> value; None where there is nothing to measure.
    """
    by_size = average_precision(photos, [(0.0, 1e10), *SIZES.values()])
    table = {ALL: totals(photos) | by_size[0]}
    for (name, (low, high)), precision in zip(SIZES.items(), by_size[1:], strict=True):
        inside = _between(lambda person: person.truth.area, low, high)
        table[name] = _counts(photos, inside) | precision
    for name, (low, high) in HIDDEN.items():
        inside = _between(lambda person: person.hidden, low, high)
        precision = average_precision(photos, [(0.0, 1e10)], inside)[0]
        table[name] = _counts(photos, inside) | precision
    return table


def totals(photos: Sequence[PhotoResult]) -> dict[str, float | None]:
    """Counts and means of everybody, without AP."""
    found = [body.verdict for photo in photos for body in photo.bodies]
    own = {verdict: found.count(verdict) for verdict in VERDICTS}
    judged = len(found) - own["ignored"]
    precision = own["right"] / judged if judged else None
    everybody = _counts(photos, lambda person: True)
    return everybody | own | {"bodies": len(found), "precision": precision}


def _between(measure: Callable[[TruePerson], float], low: float, high: float) -> Choice:
    return lambda person: low <= measure(person) < high


def _counts(photos: Iterable[PhotoResult], inside: Choice) -> dict[str, float | None]:
    chosen = [person for photo in photos for person in photo.people if inside(person)]
    counted = [person.oks for person in chosen if not person.truth.ignored]
    right = [oks for oks in counted if oks > 0]
    ious = [person.mask_iou for person in chosen if person.mask_iou is not None]
    return {
        "people": len(counted),
        "right": len(right),
        "missed": len(counted) - len(right),
        "recall": len(right) / len(counted) if counted else None,
        "oks": sum(counted) / len(counted) if counted else None,
        "outlines": len(ious),
        "mask_iou": sum(ious) / len(ious) if ious else None,
    }


def average_precision(
    photos: Sequence[PhotoResult],
    areas: Sequence[tuple[float, float]],
    inside: Choice = lambda person: True,
) -> list[dict[str, float | None]]:
    """AP over OKS 0.5 to 0.95, at 0.5 and at 0.75, as pycocotools has it, for ranges of areas.

    Args:
        photos: all of them.
        areas: smallest and largest area, square pixels.
        inside: who counts; everybody else is ignored, as COCO ignores people of another size.
    """
    truth, bodies = _coco(photos, inside)
    with redirect_stdout(io.StringIO()):  # it tells how long each step took
        for side in (truth, bodies):
            side.createIndex()
        judge = COCOeval(truth, bodies, "keypoints")
        judge.params.kpt_oks_sigmas = SIGMAS
        judge.params.areaRng = [list(area) for area in areas]
        judge.params.areaRngLbl = [str(area) for area in areas]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, 0, :, 0]  # [OKS thresholds, recalls, areas]
    thresholds = judge.params.iouThrs
    rows = {
        "ap": slice(None),
        "ap50": np.isclose(thresholds, 0.5),
        "ap75": np.isclose(thresholds, 0.75),
    }
    return [
        {name: _mean(precision[row, :, k]) for name, row in rows.items()} for k in range(len(areas))
    ]


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]  # -1: nobody of that kind
    return float(known.mean()) if known.size else None


def _coco(photos: Sequence[PhotoResult], inside: Choice) -> tuple[COCO, COCO]:
    """People and bodies as data sets; ids count from 1, as 0 means unmatched there."""
    truth: list[dict] = []
    bodies: list[dict] = []
    for image, photo in enumerate(photos, 1):
        same = {"image_id": image, "category_id": 1}
        for person in photo.people:
            mark = person.truth
            counts = inside(person) and not mark.ignored
            truth.append(
                {
                    **same,
                    "id": len(truth) + 1,
                    "keypoints": mark.joints.ravel(),
                    "num_keypoints": int((mark.joints[:, 2] > 0).sum()) if counts else 0,
                    "bbox": mark.box.tolist(),
                    "area": mark.area,
                    "iscrowd": int(mark.crowd),
                }
            )
        for body in photo.bodies:
            flat = np.concatenate([body.joints, np.full((len(body.joints), 1), 2.0)], 1).ravel()
            area = float(np.prod(np.ptp(body.joints, axis=0)))
            bodies.append(
                {
                    **same,
                    "id": len(bodies) + 1,
                    "keypoints": flat,
                    "score": body.score,
                    "area": area,
                }
            )
    sides = COCO(), COCO()
    for side, annotations in zip(sides, (truth, bodies), strict=True):
        side.dataset = {
            "images": [{"id": k + 1} for k in range(len(photos))],
            "categories": [{"id": 1}],
            "annotations": annotations,
        }
    return sides
