# SPDX-License-Identifier: Apache-2.0
"""People of photos as annotators marked them: keypoints and outlines in COCO's JSON layout.

COCO, CrowdPose, OCHuman, AI Challenger and PoseTrack18 share the layout and differ in their
keypoints; the names in the file tell which is which. Twelve joints, which all of them have, count.
"""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from crowdgaussian_shared.errors import InputError, MissingFileError
from crowdgaussian_shared.formats.atomic import read_bytes
from crowdgaussian_shared.formats.json_fields import Field, parse_json
from pycocotools import mask as rle

from .report import LIMB_JOINTS

_SIGMA = {  # COCO's: how far annotators differ on a joint, relative to the person's size
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
SIGMAS = np.array([_SIGMA[name.split("_")[1]] for name in LIMB_JOINTS])
FEWEST = 5  # labelled joints of a person who counts: fewer say too little about a whole body
_BODY_SHARE = 0.53  # of a box that a person fills, as CrowdPose and AI Challenger measure OKS
_SEEN = 2  # COCO's v: 0 not labelled, 1 labelled but hidden, 2 labelled and seen
_MOST = 10_000_000  # entries of a list; COCO's largest has 260,000
_LARGEST = 2**31  # bytes of a file; COCO's largest has 240 million
_MAX_SIDE = 16384  # pixels of an outline's own picture


@dataclass(frozen=True)
class Outline:
    """A silhouette in pixels of the annotated picture: polygons, or run lengths of its own size."""

    polygons: tuple[tuple[float, ...], ...] = ()  # x0, y0, x1, y1, ...
    runs: dict | None = None  # {"size": [height, width], "counts": ...}

    def encoded(self, shape: tuple[int, int], scale: float) -> dict:
        """The silhouette in the photo, as pycocotools encodes masks.

        Args:
            shape: height and width of the photo.
            scale: pixels of the photo for one of the annotated picture.
        """
        height, width = shape
        if self.runs is None:
            far = 2.0 * max(shape)  # nothing that the photo shows lies beyond
            scaled = [np.clip(np.multiply(p, scale), -far, far).tolist() for p in self.polygons]
            return rle.merge(rle.frPyObjects(scaled, height, width))
        packed = isinstance(self.runs["counts"], bytes)
        runs = self.runs if packed else rle.frPyObjects(self.runs, *self.runs["size"])
        pixels = decoded(runs).astype(np.uint8)
        fitted = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
        return rle.encode(np.asfortranarray(fitted))


def decoded(encoded: dict) -> np.ndarray:
    """A mask that pycocotools encoded.  # [H, W] bool"""
    with warnings.catch_warnings():  # its arrays do not know numpy 2's keyword copy
        warnings.simplefilter("ignore", DeprecationWarning)
        return rle.decode(encoded).astype(bool)


@dataclass(frozen=True)
class Annotation:
    """One person, or a region in which nobody counts; pixels of the annotated picture."""

    joints: np.ndarray  # [12, 3] x, y and COCO's v, in the order of LIMB_JOINTS
    box: np.ndarray  # [4] x, y, width, height
    outline: Outline | None = None
    crowd: bool = False  # several people at once, or a region where nobody was annotated

    @property
    def area(self) -> float:
        """The person's size for OKS and for small, medium, large; square pixels."""
        return max(_BODY_SHARE * float(self.box[2] * self.box[3]), 1.0)

    @property
    def ignored(self) -> bool:
        """Whether a body here is neither right nor wrong."""
        return self.crowd or int((self.joints[:, 2] > 0).sum()) < FEWEST

    def holds(self, point: np.ndarray) -> bool:
        """Whether a point lies in the box.  # [2]"""
        return bool(((point >= self.box[:2]) & (point <= self.box[:2] + self.box[2:])).all())


@dataclass(frozen=True)
class AnnotatedPhoto:
    """One photo of a data set."""

    file: str
    size: tuple[int, int] | None  # width and height of the annotated picture, where it is told
    people: list[Annotation] = field(default_factory=list)

    def scale(self, width: int) -> float:
        """Pixels of the photo for one of the annotated picture.

        Args:
            width: of the photo.
        """
        return width / self.size[0] if self.size else 1.0


@dataclass(frozen=True)
class DataSet:
    """Photos with their people."""

    photos: list[AnnotatedPhoto]

    @cached_property
    def tells_hidden(self) -> bool:
        """Whether the file marks joints as hidden; PoseTrack18 marks every labelled joint 1."""
        return any((p.joints[:, 2] == _SEEN).any() for photo in self.photos for p in photo.people)

    def hidden(self, photo: AnnotatedPhoto, outlines: Sequence[dict | None]) -> list[float]:
        """The share of each person that is hidden, 0..1.

        Of labelled joints those marked hidden, or of the outline what other outlines cover,
        whichever is more; what other boxes cover of the box where the file tells neither.

        Args:
            photo: one of this data set.
            outlines: each person's, encoded; None: the file has none.
        """
        boxes = [_box_mask(person.box) for person in photo.people]
        shares = []
        for index, person in enumerate(photo.people):
            joints = person.joints[:, 2]
            share = 0.0
            if self.tells_hidden and (joints > 0).any():
                share = float((joints == 1).sum() / (joints > 0).sum())
            own, alike = outlines[index], outlines
            if own is None and not self.tells_hidden:
                own, alike = boxes[index], boxes
            if own is not None:
                others = [
                    mask
                    for k, mask in enumerate(alike)
                    if k != index and mask is not None and not photo.people[k].crowd
                ]
                share = max(share, _covered(own, others))
            shares.append(share)
        return shares


def _box_mask(box: np.ndarray) -> dict:
    """A box on a canvas of its own coordinates, coarse enough to be quick."""
    return rle.frPyObjects(np.clip(box, 0, _MAX_SIDE)[None], _MAX_SIDE, _MAX_SIDE)[0]


def _covered(own: dict, others: list[dict]) -> float:
    area = int(rle.area(own))
    if not others or not area:
        return 0.0
    return float(rle.area(rle.merge([own, rle.merge(others)], intersect=True))) / area


def read_annotations(path: Path) -> DataSet:
    """The photos and people of a file in COCO's layout.

    Frames that PoseTrack18 left unlabelled are left out; annotations of photos that the file does
    not list are not read.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: it is not JSON, or an entry is missing or wrong; names it.
        InputError: its people have no keypoints, or those of an unknown layout.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such file; give a JSON file in COCO's layout.")
    root = parse_json(read_bytes(path, _LARGEST), str(path))
    layouts = _layouts(root.child("categories"), path)
    photos = _photos(root.child("images"))
    for entry in root.child("annotations").items(_MOST):
        layout = layouts.get(_key(entry.child("category_id")))
        photo = photos.get(_key(entry.child("image_id")))
        if layout is not None and photo is not None:
            photo.people.append(_annotation(entry, layout))
    listed = [photo for photo in photos.values() if photo is not None]
    if not any(not person.ignored for photo in listed for person in photo.people):
        raise InputError(f"{path} has nobody with {FEWEST} labelled joints in the photos it lists.")
    return DataSet(listed)


def _layouts(categories: Field, path: Path) -> dict[Hashable, tuple[int, list[int]]]:
    """How many keypoints each category has, and which of them are LIMB_JOINTS."""
    known, unknown = {}, ""
    for entry in categories.items(_MOST):
        if not entry.has("keypoints"):
            continue
        names = [name.text() for name in entry.child("keypoints").items()]
        plain = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
        missing = [name for name in LIMB_JOINTS if name not in plain]
        if not missing:
            places = [plain.index(name) for name in LIMB_JOINTS]
            known[_key(entry.child("id"))] = len(names), places
        unknown = unknown or (missing[0] if missing else "")
    if not known and unknown:
        raise InputError(
            f"{path} has keypoints of an unknown layout, without {unknown}; those of COCO, "
            "CrowdPose, OCHuman, AI Challenger and PoseTrack18 are understood, by their names."
        )
    if not known:
        raise InputError(
            f"{path} names no keypoints in its categories; give the file of keypoints, such as "
            "person_keypoints_val2017.json of COCO."
        )
    return known


def _photos(images: Field) -> dict[Hashable, AnnotatedPhoto | None]:
    """Photos by id; None: its people were not annotated."""
    photos: dict[Hashable, AnnotatedPhoto | None] = {}
    for entry in images.items(_MOST):
        size = None
        if entry.has("width") and entry.has("height"):
            width, height = (entry.child(n).whole(1, 1_000_000) for n in ("width", "height"))
            size = width, height
        photo = AnnotatedPhoto(entry.child("file_name").text(), size)
        if entry.has("ignore_regions_x") and entry.has("ignore_regions_y"):
            photo.people.extend(_regions(entry))
        skipped = entry.has("is_labeled") and not entry.child("is_labeled").value
        photos[_key(entry.child("id"))] = None if skipped else photo
    return photos


def _key(entry: Field) -> Hashable:
    """An id: COCO has numbers, others have texts."""
    if not isinstance(entry.value, int | str):
        entry.fail("a number or a text")
    return entry.value


def _regions(entry: Field) -> list[Annotation]:
    """PoseTrack18's polygons in which nobody was annotated, as boxes around them."""
    regions = []
    columns, rows = (entry.child(f"ignore_regions_{axis}").items() for axis in "xy")
    for xs, ys in zip(columns, rows):
        points = [[value.number() for value in axis.items()] for axis in (xs, ys)]
        if len(points[0]) != len(points[1]):
            ys.fail(f"a list of {len(points[0])} numbers, as many as {xs.path}")
        if points[0]:
            regions.append(
                Annotation(np.zeros((len(LIMB_JOINTS), 3)), _bounds(np.array(points).T), crowd=True)
            )
    return regions


def _annotation(entry: Field, layout: tuple[int, list[int]]) -> Annotation:
    count, places = layout
    crowd = entry.has("iscrowd") and entry.child("iscrowd").value in (1, True)
    keypoints = np.zeros((count, 3))
    if entry.has("keypoints") or not crowd:
        keypoints = np.array(entry.child("keypoints").vector(3 * count)).reshape(count, 3)
    if entry.has("bbox"):
        box = np.array(entry.child("bbox").vector(4))
    else:
        box = _bounds(keypoints[keypoints[:, 2] > 0, :2])
    return Annotation(keypoints[places], box, _outline(entry), bool(crowd))


def _bounds(points: np.ndarray) -> np.ndarray:
    """x, y, width, height around points; zeros around none.  # [N, 2] -> [4]"""
    if not len(points):
        return np.zeros(4)
    return np.concatenate([points.min(0), np.ptp(points, axis=0)])


def _outline(entry: Field) -> Outline | None:
    if not entry.has("segmentation"):
        return None
    given = entry.child("segmentation")
    if isinstance(given.value, dict):
        return _runs(given)
    polygons = []
    for part in given.items():
        numbers = part.value
        if not isinstance(numbers, list) or len(numbers) % 2:
            part.fail("a polygon: x and y of each corner in one list")
        if len(numbers) >= 6:
            polygons.append(part.vector(len(numbers)))
    return Outline(tuple(polygons)) if polygons else None


def _runs(given: Field) -> Outline:
    """Run lengths, plain or in COCO's text; a text that is no mask is refused here."""
    height, width = (side.whole(1, _MAX_SIDE) for side in given.child("size").items(2))
    counts = given.child("counts")
    runs = {"size": [height, width], "counts": counts.value}
    if isinstance(counts.value, list):
        lengths = [run.whole(0, height * width) for run in counts.items(_MOST)]
        right = sum(lengths) == height * width
    else:
        runs["counts"] = counts.text(_MOST).encode()
        right = _total(runs["counts"]) == height * width
    if not right:
        counts.fail(f"run lengths of {height} x {width} pixels")
    return Outline(runs=runs)


def _total(text: bytes) -> int:
    """Pixels of a mask in COCO's text: five bits a byte, from the third run on as differences.

    Source: rleFrString in maskApi.c of cocoapi. -1: no such text.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in text:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 30:
            return -1
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return sum(runs) if shift == 0 and all(run >= 0 for run in runs) else -1
