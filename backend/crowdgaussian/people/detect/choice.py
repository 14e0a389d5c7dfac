# SPDX-License-Identifier: Apache-2.0
"""Which body candidates are people of the photo: non-maximum suppression, and what speaks for each.

A candidate's score says how steadily the network saw it. It does not tell a body from a pattern
that looks like one, or from two people's limbs put together: there faces, the picture's up and
down, and who else claims the same pixels bear witness.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...core.landmarks import (
    ANKLES,
    EARS,
    HEAD,
    HIPS,
    KNEES,
    MIRROR,
    NUM_LANDMARKS,
    SHOULDERS,
    TORSO,
    Landmark,
)
from ..types import PeopleConfig
from .faces import Face
from .landmark_net import compose, invert, warp_mask
from .tta import Body, body_score

# Hand-tuned; not measured one by one unless it says so.
_LIMB_LANDMARKS = np.arange(Landmark.LEFT_SHOULDER, Landmark.RIGHT_ANKLE + 1)
_SURE = 0.45  # score from which a body helps to tell the usual size; lower: strangers count too
_USUAL_QUANTILE = 0.7  # of the sure bodies' sizes; higher: more people are called background
# Relative sizes and the score a body of each needs, min_score above the last; higher scores drop
# more spectators, and more people who really are far away. A body with a face needs less.
_SIZE_KNOTS = (0.25, 0.45, 0.7, 0.85)
_SCORE_KNOTS = (0.75, 0.66, 0.45)
_FACE_KNOTS = (0.6, 0.5, 0.3, 0.2)
# And so does one who is seen from head to foot: knees and ankles this steady, in parts of the
# height. Of small bodies in four photos two referees have .015 and .017, spectators .038 and more.
_WHOLE_KNOTS = (0.55, 0.5, 0.4)
_WHOLE_SPREAD = 0.025
_FACE_SHARE = 0.1  # of a body's height: a face by which the size of somebody crammed in is told
_NEAR_FACE = 0.062  # of the usual height: smaller faces are spectators'; right pairs have .065
_FACE_BONUS = 1.25  # of the score, in the order in which bodies are taken
# How much better a body of the same face must be seen to take the place of one kept before. Of the
# second sample's student, a third hidden, the first search has .26, the later one .69.
_SEEN_BETTER = 1.5
# Two candidates are one person when their limbs lie this close, in parts of the smaller body; when
# they lie a little further apart but the masks share much; or when one mask holds the other.
# Higher distances and lower shares merge people who hug, the opposite keeps doubles.
_SAME_LIMBS = 0.07
_NEAR_LIMBS, _NEAR_SHARE = 0.16, 0.35
_CONTAINED, _CONTAINED_EASED = 0.75, 0.2  # share of the mask, less by the second for a part
_PART_SIZE = 0.7  # of the larger body, below which a candidate may be a part of it
_TWO_FACES_LIMBS, _TWO_FACES_SHARE = 0.1, 0.85  # the same for two bodies with a face each
_LEAST_LIMB_WEIGHT = 0.05  # of a landmark nobody sees: limbs all hidden still have a distance
_MOST_LIMB_DISTANCE = 0.5  # of the smaller body: one limb far off is not worse than this
_MASK = 0.5  # of a soft mask, from which a pixel is the person's
# What a body without a face must not be. Measured on eleven photos: each rule alone brings back
# ghosts when it is off.
_DOWN, _DOWN_SCORE = 0.5, 0.45  # sine by which the trunk hangs, and the score that makes it true
# The score of somebody the middle of whose trunk lies outside the photo: without a face, or much
# larger than the others, such as the head of a spectator in front.
_BESIDE_SCORE, _FOREGROUND = 0.5, 1.8
_COVERED = 0.55  # of its mask on people taken before
_PAINTED, _LATE_PAINTED = 0.5, 0.25  # of its landmarks on people painted out
# Found late: the score needed, and of the trunk's four points in the photo. Of 20 photos the right
# ones have .38 to .59, ghosts up to .34.
_LATE_SCORE, _LATE_TRUNK = 0.36, 3
# Looks here, large enough, and has no face: the least score, also of somebody found late.
_LOOKS, _LOOKS_HEAD, _LOOKS_SIZE, _LOOKS_SCORE = 0.9, 0.6, 90.0, (0.3, 0.6)
_ANY_FACE_REACH, _ANY_FACE_SHARE = 0.8, (0.03, 0.4)  # of a face that may be this body's
_LOW = 320  # pixels, longer side of the copy in which masks are compared


@dataclass(frozen=True, eq=False)
class Candidate:
    """A body that may be somebody."""

    body: Body
    without: tuple["Candidate", ...] = ()  # people who were painted out when it was seen
    paint: float = 0.0  # 0..1, of its landmarks on them
    late: bool = False  # found by no detector and no face, only once others were painted out
    scouted: Body | None = None  # the same as the scout saw it, who led there

    @cached_property
    def score(self) -> float:
        """0..1, see tta.body_score."""
        return body_score(self.body)

    @cached_property
    def facing(self) -> float:
        """How much the head looks at the camera, -1..1: how much nearer the nose is than the ears.

        Reliable where neighbours are painted out: about -.95 for people from behind.
        """
        world = (self.scouted or self.body).world
        ahead = world[Landmark.NOSE] - world[EARS].mean(axis=0)
        return float(-ahead[2] / max(np.linalg.norm(ahead), 1e-6))

    @property
    def upside_down(self) -> bool:
        """Whether the shoulders hang below the hips in the picture."""
        up = self.body.xy[SHOULDERS].mean(axis=0) - self.body.xy[HIPS].mean(axis=0)
        return bool(up[1] > _DOWN * np.linalg.norm(up))


class Witnesses:
    """The faces of a photo, and to which candidate each belongs."""

    def __init__(self, faces: Sequence[Face], shape: tuple[int, int]) -> None:
        """faces: of a photo of this height and width."""
        self.faces, self.shape = faces, shape

    def face_of(self, candidate: Candidate) -> int | None:
        """The sure face that is the candidate's, if there is one."""
        for index, face in enumerate(self.faces):
            if face.sure and face.is_of(candidate.body):
                return index
        return None

    def is_ghost(self, candidate: Candidate, covered: float = 0.0) -> bool:
        """Whether a candidate that may be somebody by its score is nobody.

        Args:
            candidate: the body.
            covered: share of its mask that lies on people taken before.
        """
        if candidate.paint > _PAINTED:
            return True
        if self.face_of(candidate) is not None:
            return False
        if candidate.upside_down and candidate.score < _DOWN_SCORE:
            return True
        if covered > _COVERED:
            return True
        if candidate.late and not self._is_left_over(candidate):
            return True
        return self._lacks_face(candidate)

    def _is_left_over(self, candidate: Candidate) -> bool:
        """Whether somebody found late is there."""
        return bool(
            candidate.score >= _LATE_SCORE
            and candidate.paint <= _LATE_PAINTED
            and not candidate.upside_down
            and self._inside(candidate.body.xy[TORSO]).sum() >= _LATE_TRUNK
        )

    def _lacks_face(self, candidate: Candidate) -> bool:
        """Whether the head looks at the camera, large and in sight, and no face is there."""
        body = candidate.body
        looks = (
            candidate.facing > _LOOKS
            and body.confidence[HEAD].mean() > _LOOKS_HEAD
            and body.size > _LOOKS_SIZE
            and self._inside(body.xy[HEAD]).all()
        )
        return bool(
            looks
            and candidate.score < _LOOKS_SCORE[candidate.late]
            and not any(
                _ANY_FACE_SHARE[0] < face.size / body.size < _ANY_FACE_SHARE[1]
                and face.holds(body.xy[Landmark.NOSE], _ANY_FACE_REACH)
                for face in self.faces
            )
        )

    def has_middle(self, candidate: Candidate) -> bool:
        """Whether the middle of the trunk lies in the photo."""
        return bool(self._inside(candidate.body.xy[TORSO].mean(axis=0)[None])[0])

    def _inside(self, xy: np.ndarray) -> np.ndarray:
        height, width = self.shape
        return np.all((xy > 0) & (xy < [width, height]), axis=1)


def choose_people(
    candidates: Sequence[Candidate],
    config: PeopleConfig,
    witnesses: Witnesses,
    first: Sequence[Candidate] = (),
) -> list[Candidate]:
    """The best candidate of every real person, best first.

    A greedy pass from the surest body down: a body is dropped when it is small against the
    photo's people and not sure enough for that, when faces and masks say that nobody is there, or
    when its limbs or its mask are those of a body kept before. At the end whoever was seen much
    better in a later search is shown as it saw them.

    Args:
        candidates: everybody who may be there.
        config: limits on how many, how small and how unsure.
        witnesses: the faces of the photo.
        first: those of the candidates who come before all others.
    """
    faces = {id(one): witnesses.face_of(one) for one in candidates}
    known = first or candidates
    tall = usual_size([one.body.size for one in known], [one.score for one in known])
    early = {id(one) for one in first}

    def rank(one: Candidate) -> float:
        bonus = 1.0 if faces[id(one)] is None else _FACE_BONUS
        return one.score * bonus * min(one.body.size / tall, 1.0)

    def order(one: Candidate) -> tuple[bool, float]:
        return id(one) not in early, -rank(one)

    able = [
        one
        for one in sorted(candidates, key=order)
        if _is_sure_enough(one, faces[id(one)], tall, config, witnesses)
    ]
    kept: list[Candidate] = []
    taken = np.zeros(_low_shape(witnesses.shape), bool)
    for one in able:
        mask = _low_mask(one.body, witnesses.shape)
        covered = 0.0 if one.without else float((mask & taken).sum() / max(mask.sum(), 1))
        if not witnesses.is_ghost(one, covered) and _is_new(one, kept, faces):
            kept.append(one)
            taken |= mask
    real = [one for one in able if one.without and not witnesses.is_ghost(one)]
    return _seen_better(kept, real, faces, rank)[: config.max_people]


def _is_new(one: Candidate, others: Sequence[Candidate], faces: Mapping[int, int | None]) -> bool:
    face = faces[id(one)]
    return not any(is_duplicate(one, other, face, faces[id(other)]) for other in others)


def _is_sure_enough(
    one: Candidate, face: int | None, tall: float, config: PeopleConfig, witnesses: Witnesses
) -> bool:
    """Whether a candidate's score is that of somebody of its size, with that face or none."""
    ratio = one.body.size / tall
    needed = needed_score(ratio, config, _is_whole(one.body))
    if face is not None and is_near(witnesses.faces[face], tall):
        by_face = witnesses.faces[face].size / (_FACE_SHARE * tall)
        needed = min(needed, float(np.interp(max(ratio, by_face), _SIZE_KNOTS, _FACE_KNOTS)))
    elif face is not None and one.late:
        return False  # a spectator
    if not witnesses.has_middle(one) and (face is None or ratio > _FOREGROUND):
        needed = max(needed, _BESIDE_SCORE)
    return ratio >= config.min_relative_size and one.score >= needed


def _seen_better(
    kept: Sequence[Candidate],
    later: Sequence[Candidate],
    faces: Mapping[int, int | None],
    rank: Callable[[Candidate], float],
) -> list[Candidate]:
    """Those kept, each as a later search saw the owner of their face, where it saw much better.

    Later are only bodies seen with the neighbours painted out: one that stretches over two people
    is sure of itself, too.
    """
    shown = list(kept)
    for place, one in enumerate(shown):
        face, least = faces[id(one)], _SEEN_BETTER * rank(one)
        others = [*shown[:place], *shown[place + 1 :]]
        better = [
            other
            for other in later
            if face is not None
            and faces[id(other)] == face
            and rank(other) > least
            and _is_new(other, others, faces)
        ]
        shown[place] = max(better, key=rank, default=one)
    return shown


def _low_shape(shape: tuple[int, int]) -> tuple[int, int]:
    scale = _LOW / max(shape)
    return max(int(shape[0] * scale), 1), max(int(shape[1] * scale), 1)


def _low_mask(body: Body, shape: tuple[int, int]) -> np.ndarray:
    """The body's mask in a small copy of the photo.  # bool"""
    matrix = body.mask_to_photo * (_LOW / max(shape))
    return warp_mask(body.mask, matrix, _low_shape(shape)) > _MASK


def is_near(face: Face, tall: float) -> bool:
    """Whether a face is as large as those of the people the photo is about, so many pixels tall."""
    return face.size >= _NEAR_FACE * tall


def usual_size(sizes: list[float], scores: list[float]) -> float:
    """The size in pixels of the people the photo is about: a high quantile of the sure ones."""
    sure = [size for size, score in zip(sizes, scores, strict=True) if score > _SURE]
    return float(np.quantile(sure or sizes or [1.0], _USUAL_QUANTILE))


def needed_score(ratio: float, config: PeopleConfig, whole: bool = False) -> float:
    """How sure a body of this relative size must be; spectators look small and unsteady."""
    knots = _WHOLE_KNOTS if whole else _SCORE_KNOTS
    return float(np.interp(ratio, _SIZE_KNOTS, (*knots, config.min_score)))


def _is_whole(body: Body) -> bool:
    """Whether both legs are seen down to the ankles."""
    return float(body.spread[[*KNEES, *ANKLES]].max()) < _WHOLE_SPREAD


def is_duplicate(
    one: Candidate, other: Candidate, face: int | None = None, other_face: int | None = None
) -> bool:
    """Whether two candidates are one person, or one of them is a part of the other.

    Compares limbs and masks, not boxes: people who hug share a box, but not their elbows. Two
    who have the same face are one, and two who have a face each hardly ever; nor is somebody who
    was seen with the other painted out.
    """
    body, standing = one.body, other.body
    if face is not None and face == other_face:
        return True
    apart = limb_distance(body, standing)
    if any(other is painted for painted in one.without):  # so this one is not of its pixels
        return apart < _SAME_LIMBS
    shared = mask_containment(body, standing)
    if face is not None and other_face is not None:
        return apart < _TWO_FACES_LIMBS or shared > _TWO_FACES_SHARE
    smaller = min(body.size, standing.size) / max(body.size, standing.size)
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
