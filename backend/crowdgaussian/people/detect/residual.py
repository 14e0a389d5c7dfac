# SPDX-License-Identifier: Apache-2.0
"""The search of what the first search left: faces without a body, and people seen from behind.

The detector's regions slide onto the surer of two neighbours, so whoever stands beside or behind
somebody is missed, and it goes by faces, so backs are. Faces tell where to look, and those found
are painted over with what is around them, so that the network can only see the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import NamedTuple

import cv2
import numpy as np

from ...core.landmarks import ARM_SIDES, WRISTS, Landmark
from ...core.progress import Progress, Report, each, silent, within
from ..types import PeopleConfig
from .choice import Candidate, Witnesses, choose_people, is_near, usual_size
from .faces import Face, FaceNetwork, find_faces
from .landmark_net import (
    CIRCLE_SCALE,
    LandmarkPrediction,
    PhotoPyramid,
    PoseNetwork,
    Roi,
    predict_in_roi,
    warp_mask,
)
from .search import find_bodies, same_place
from .tta import Body, body_score, fuse_predictions, trust

# Hand-tuned on eleven photos; not measured one by one.
# Regions below a face: side, and how far the middle lies below the face's, in boxes of the face.
_BELOW = ((12.5, 4.0), (9.5, 3.2), (7.0, 2.2), (5.0, 1.4), (16.0, 5.2))
_ASIDE = (0.0, -0.08, 0.08)  # of the region's side; the next only where too little was seen
_ENOUGH = 2  # regions with somebody in them, after which no other is tried
_ROLL_SHARE = 0.5  # of the face's tilt, by which the region is turned
_NOSE = 0.5  # reach of a face for the nose of its body
_EYES = (0.4, 2.2)  # distance of the body's eyes over that of the face's
_GOOD = 0.5  # score from which no other start is tried for a face
_SAME_START = 0.04, (0.9, 1.1)  # of the region's size: starts this alike give the same body
# A face is without a body when its owner scores less: found at first, or later.
_OWNER, _LATE_OWNER, _OWNED = 0.26, 0.42, 0.75
_PAINT_SCORE = 0.3  # from which somebody is painted out; lower: ghosts wipe people out
_PAINT_MARGIN = 2  # pixels around a mask
_FREE_FACE = 0.75  # of the box: nobody's face is never painted over
_CHANGED = 0.03  # of a region that must be newly painted for another try
# Two wrists in one place, in parts of the smaller body; how sure each is. Seen again: the part of
# that for a hand that stays, and how much less will do for one that is elsewhere.
_SAME_HAND, _CLAIM, _STILL_SURE, _LESS_SURE = 0.05, 0.2, 0.5, 0.05
# Spread of a wrist that was seen in two places, and the part of it when seen in one. Of the hands
# shared in seventeen photos only one is like this (.136, then .008), the others have .005 to .065.
_TWO_PLACES, _ONE_PLACE = 0.08, 0.5
_STEP, _LIKE_SIZE, _TRUST, _MOST = 0.3, (0.5, 2.0), 0.3, 24  # grid: step in people; regions tried
# The usual size of people on the grid: of those who are surely there, or of the shorter side.
_SURE, _FIRST_SIZE = 0.45, 0.6
_WORTH_ANOTHER = 0.2  # score from which a body found on the grid is centred once more
_ON_PAINT = 0.4  # of the landmarks of a body found on the grid
# Shares of the time: faces, the first search, regions below faces, rounds; then come hands.
_FACES, _FIRST, _BELOW_FACES, _ROUND_ENDS = 0.04, 0.6, 0.7, (0.85, 0.95)
_LONELY = 0.3  # of the time of a round, for faces without a body; the rest goes into backs
_GRID = 0.4  # of the time of a look at backs, for the grid; the rest goes into its best regions


_LEFT = Progress("people", 0.0, message="looking for those who are left")


class Found(NamedTuple):
    """What a search found."""

    people: list[Candidate]  # best first
    faces: list[Face]  # all of them
    missed: list[Face]  # those whose owner is not among the people


class PeopleSearch:
    """Everybody in one photo; not safe to share between threads."""

    def __init__(self, network: PoseNetwork, faces: FaceNetwork, config: PeopleConfig) -> None:
        self.network, self.face_network, self.config = network, faces, config
        self.scout = PoseNetwork("full")
        self._looked: list[tuple[Roi, np.ndarray]] = []  # regions for backs, and what was painted

    def find(self, photo: np.ndarray, report: Report = silent) -> Found:
        """The people of a photo [H, W, 3] uint8 sRGB; report is called at every step, 0 to 1."""
        pyramid, self._looked = PhotoPyramid(photo), []
        faces = find_faces(self.face_network, pyramid, within(report, 0.0, _FACES))
        witnesses = Witnesses(faces, (photo.shape[0], photo.shape[1]))
        part = within(report, _FACES, _FIRST)
        pool = [Candidate(body) for body in find_bodies(self.network, self.scout, pyramid, part)]
        first = choose_people(pool, self.config, witnesses)  # a later search loses nobody of them

        def choose() -> list[Candidate]:
            return choose_people(pool, self.config, witnesses, first)

        sure = [face for face in faces if face.sure]
        lonely = without_body(sure, choose(), first)
        rounds = (_BELOW_FACES if lonely else _FIRST, *_ROUND_ENDS)
        for face in each(lonely, within(report, _FIRST, rounds[0]), _LEFT):
            pool += [Candidate(body) for body in self._bodies_at(face, pyramid)]
        before, kept = None, choose()
        for ends in pairwise(rounds):
            part, known = within(report, *ends), len(kept)
            lonely = without_body(sure, kept, first)
            others = [one for one in kept if not _has_any(one.body, lonely)]
            rest, paint = painted_out(photo, others, lonely)
            without_others = PhotoPyramid(rest)
            share = _LONELY if lonely else 0.0
            for face in each(lonely, within(part, 0.0, share), _LEFT):
                if before is None or _newly_painted(before, paint, _below(face)):
                    pool += [
                        Candidate(body, tuple(others), on_paint(body, paint))
                        for body in self._bodies_at(face, without_others)
                    ]
            before = paint
            pool += self._backs(photo, choose(), sure, within(part, share, 1.0))
            kept = choose()
            if len(kept) == known:
                break
        full = len(kept) >= self.config.max_people  # so the others were not wanted
        missed = [] if full else without_body(sure, kept, first)
        kept = self._settle_hands(photo, kept, within(report, rounds[-1], 1.0))
        return Found(kept, faces, missed)

    def _settle_hands(
        self, photo: np.ndarray, kept: list[Candidate], report: Report = silent
    ) -> list[Candidate]:
        """Arms that reach for somebody else's hand, seen again with that person painted out.

        Whoever's hand stays in its place then has it; the other gets the arm that is left over, if
        it is seen as surely.
        """
        settled = list(kept)
        for first, second in each(shared_hands(kept), report, _LEFT):
            alone = [
                self._without_other(photo, kept[one], kept[other])
                for (one, _), (other, _) in ((first, second), (second, first))
            ]
            stays = [
                seen is not None and hand_stays(kept[one].body, seen, wrist)
                for seen, (one, wrist) in zip(alone, (first, second))
            ]
            if stays[0] == stays[1]:
                continue  # they hold hands, or the network cannot tell
            loser = int(stays[0])
            one, wrist = (first, second)[loser]
            left_over = alone[loser]
            if left_over is not None and hand_is_surer(kept[one].body, left_over, wrist):
                body = with_arm_of(settled[one].body, left_over, wrist)
                settled[one] = replace(settled[one], body=body)
        return settled

    def _without_other(self, photo: np.ndarray, one: Candidate, other: Candidate) -> Body | None:
        """Somebody seen with the pixels painted over that are rather the other's."""
        height, width = photo.shape[:2]
        own, theirs = (
            warp_mask(c.body.mask, c.body.mask_to_photo, (height, width)) for c in (one, other)
        )
        rest = PhotoPyramid(filled_in(photo, (theirs > 0.5) & (theirs > own)))
        return fuse_predictions(self.network, rest, one.body.roi, 0.0)

    def _bodies_at(self, face: Face, photo: PhotoPyramid) -> list[Body]:
        """Bodies whose nose lies in a face."""

        def fits(one: LandmarkPrediction) -> bool:
            eyes = float(np.linalg.norm(one.xy[Landmark.LEFT_EYE] - one.xy[Landmark.RIGHT_EYE]))
            own = float(np.linalg.norm(face.eyes[1] - face.eyes[0]))
            alike = _EYES[0] * own < eyes < _EYES[1] * own + 0.1 * face.size
            return alike and face.holds(one.xy[Landmark.NOSE], _NOSE)

        bodies: list[Body] = []
        for start in self._starts(face, photo, fits):
            body = fuse_predictions(self.network, photo, start, 0.0, fits)
            if body is not None and face.is_of(body):
                bodies.append(body)
                if body_score(body) > _GOOD:
                    break
        return bodies

    def _starts(
        self, face: Face, photo: PhotoPyramid, fits: Callable[[LandmarkPrediction], bool]
    ) -> list[Roi]:
        """Regions from which the network sees the owner of a face, best first."""
        turn = _ROLL_SHARE * face.roll
        down = np.array([-np.sin(turn), np.cos(turn)])
        across = np.array([down[1], -down[0]])
        seen: list[tuple[float, Roi, Roi]] = []
        for aside in _ASIDE:
            for side, below in _BELOW:
                shift = (down * below + across * aside * side) * face.size
                roi = Roi(face.center + shift, side * face.size, turn)
                one = predict_in_roi(self.network, photo, roi, mirrored=aside > 0)
                if one is not None and fits(one):
                    seen.append((trust(one), one.next_roi, roi))
            if len(seen) >= _ENOUGH:
                break
        starts: list[Roi] = []
        for _, *pair in sorted(seen, key=lambda one: -one[0])[:_ENOUGH]:
            for roi in pair:
                if not any(_alike(roi, other) for other in starts):
                    starts.append(roi)
        return starts

    def _backs(
        self, photo: np.ndarray, kept: list[Candidate], faces: list[Face], report: Report
    ) -> list[Candidate]:
        """People who show no face, on a grid of regions of a photo with all others painted out."""
        sizes = [one.body.size for one in kept if one.score > _SURE]
        size = float(np.median(sizes or [_FIRST_SIZE * min(photo.shape[:2])]))
        rest, paint = painted_out(photo, kept, without_body(faces, kept, kept))
        pyramid = PhotoPyramid(rest)
        found: list[Candidate] = []
        regions = self._seen_on_grid(pyramid, paint, size, within(report, 0.0, _GRID))
        before = list(self._looked)
        for roi in each(regions[:_MOST], within(report, _GRID, 1.0), _LEFT):
            if any(same_place(roi, one.body.roi) for one in found + kept):
                continue
            if any(
                _alike(roi, seen) and not _newly_painted(was, paint, roi) for seen, was in before
            ):
                continue  # whoever is there is among the candidates
            self._looked.append((roi, paint))
            scouted = fuse_predictions(self.scout, pyramid, roi, 0.0)
            if scouted is None or on_paint(scouted, paint) > _ON_PAINT:
                continue
            exact = fuse_predictions(self.network, pyramid, scouted.roi, 0.0)
            if exact is None or not same_place(exact.roi, scouted.roi):
                continue
            again = None
            if body_score(exact) > _WORTH_ANOTHER:
                again = fuse_predictions(self.network, pyramid, exact.roi, 0.0)
            for body in (exact, scouted, again):
                if body is not None:
                    share = on_paint(body, paint)
                    found.append(Candidate(body, tuple(kept), share, late=True, scouted=scouted))
        return found

    def _seen_on_grid(
        self, photo: PhotoPyramid, paint: np.ndarray, size: float, report: Report
    ) -> list[Roi]:
        """Regions of a grid in which the scout sees somebody of this size, best first."""
        seen, step = [], _STEP * size
        rows = np.arange(_STEP * step, paint.shape[0], step).tolist()
        for row, y in enumerate(each(rows, report, _LEFT)):
            for column, x in enumerate(np.arange(_STEP * step, paint.shape[1], step)):
                if paint[int(y), int(x)]:
                    continue
                roi = Roi(np.array([x, y]), CIRCLE_SCALE * size)
                one = predict_in_roi(self.scout, photo, roi, (row + column) % 2 == 0)
                if one is not None and trust(one) > _TRUST:
                    if _LIKE_SIZE[0] < one.next_roi.size / roi.size < _LIKE_SIZE[1]:
                        seen.append((trust(one), one.next_roi))
        return [roi for _, roi in sorted(seen, key=lambda one: -one[0])]


def shared_hands(kept: Sequence[Candidate]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Wrists of two people in one place: who and which landmark, twice."""
    wrists = [(one, int(wrist)) for one in range(len(kept)) for wrist in WRISTS]

    def shared(first: tuple[int, int], second: tuple[int, int]) -> bool:
        a, b = kept[first[0]].body, kept[second[0]].body
        apart = float(np.linalg.norm(a.xy[first[1]] - b.xy[second[1]]))
        sure = min(a.confidence[first[1]], b.confidence[second[1]])
        return sure > _CLAIM and apart < _SAME_HAND * min(a.size, b.size)

    pairs = combinations(wrists, 2)
    return [(a, b) for a, b in pairs if a[0] != b[0] and shared(a, b)]


def hand_stays(before: Body, after: Body, wrist: int) -> bool:
    """Whether a wrist is seen where it was."""
    apart = float(np.linalg.norm(before.xy[wrist] - after.xy[wrist]))
    sure = after.confidence[wrist] > _STILL_SURE * before.confidence[wrist]
    return apart < _SAME_HAND * before.size and bool(sure)


def hand_is_surer(before: Body, after: Body, wrist: int) -> bool:
    """Whether a hand is seen as surely as before in another place, or no longer in two places."""
    sure = after.confidence[wrist] > before.confidence[wrist] - _LESS_SURE
    two_places = before.spread[wrist] > _TWO_PLACES
    return bool(sure or (two_places and after.spread[wrist] < _ONE_PLACE * before.spread[wrist]))


def with_arm_of(body: Body, other: Body, wrist: int) -> Body:
    """A body with the arm of another one."""
    arm = ARM_SIDES[WRISTS.tolist().index(wrist)]

    def mixed(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        mine = mine.copy()
        mine[arm] = theirs[arm]
        return mine

    return replace(
        body,
        xy=mixed(body.xy, other.xy),
        world=mixed(body.world, other.world),
        spread=mixed(body.spread, other.spread),
        confidence=mixed(body.confidence, other.confidence),
    )


def without_body(
    faces: Sequence[Face], kept: Sequence[Candidate], first: Sequence[Candidate]
) -> list[Face]:
    """Faces that nobody owns, or whose owner was found late and is not sure; no spectators'."""
    early = {id(one) for one in first}
    known = first or kept
    tall = usual_size([one.body.size for one in known], [one.score for one in known])
    return [
        face
        for face in faces
        if (is_near(face, tall) or not kept)
        and not any(
            face.holds(one.body.xy[Landmark.NOSE], _OWNED)
            and one.score > (_OWNER if id(one) in early else _LATE_OWNER)
            for one in kept
        )
    ]


def painted_out(
    photo: np.ndarray, people: Sequence[Candidate], faces: Sequence[Face]
) -> tuple[np.ndarray, np.ndarray]:
    """A photo without these people, and where they were; these faces stay as they are."""
    height, width = photo.shape[:2]
    covered = np.zeros((height, width), bool)
    for one in people:
        if one.score > _PAINT_SCORE:
            covered |= warp_mask(one.body.mask, one.body.mask_to_photo, (height, width)) > 0.5
    side = 2 * _PAINT_MARGIN + 1
    paint = cv2.dilate(covered.astype(np.uint8), np.ones((side, side), np.uint8))
    for face in faces:
        cv2.circle(paint, face.center.astype(int).tolist(), int(_FREE_FACE * face.size), 0, -1)
    return filled_in(photo, paint > 0), paint > 0


def filled_in(photo: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """A photo whose holes are filled with the colours around them, smoothly.

    A person painted in one colour is a person to the network still; a hole without an outline is
    not. Pull and push over a pyramid (Gortler et al. 1996).

    Args:
        photo: [H, W, 3] uint8.
        holes: [H, W] bool.
    """
    weights: list[np.ndarray] = [(~holes).astype(np.float32)]
    colours: list[np.ndarray] = [photo.astype(np.float32) * weights[0][..., None]]
    while min(weights[-1].shape) > 1 and not weights[-1].all():
        weights.append(cv2.pyrDown(weights[-1]))
        colours.append(cv2.pyrDown(colours[-1]))
    filled = colours[-1] / np.maximum(weights[-1], 1e-6)[..., None]
    for weight, colour in zip(weights[-2::-1], colours[-2::-1]):
        up = cv2.resize(filled, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.minimum(weight, 1.0)[..., None]
        filled = np.where(share > 0, colour / np.maximum(weight, 1e-6)[..., None], 0) * share
        filled += up.reshape(*weight.shape, -1) * (1 - share)
    return np.clip(filled + 0.5, 0, 255).astype(np.uint8)


def on_paint(body: Body, paint: np.ndarray) -> float:
    """The share of a body's landmarks that lies on painted pixels, by confidence, 0..1."""
    height, width = paint.shape
    place = body.xy.astype(int)
    inside = ((place >= 0) & (place < [width, height])).all(axis=1)
    x, y = place.clip(0, [width - 1, height - 1]).T
    weight = body.confidence * inside
    return float((weight * paint[y, x]).sum() / max(weight.sum(), 1e-6))


def _alike(roi: Roi, other: Roi) -> bool:
    near, (low, high) = _SAME_START
    apart = float(np.linalg.norm(roi.center - other.center))
    return apart < near * other.size and low < roi.size / other.size < high


def _below(face: Face) -> Roi:
    """The region of a face and the body below it."""
    return Roi(face.center + [0.0, 2.5 * face.size], 7.0 * face.size)


def _newly_painted(before: np.ndarray, paint: np.ndarray, roi: Roi) -> bool:
    """Whether the paint in a region is not what it was."""
    left, top = np.maximum(roi.center - roi.size / 2, 0).astype(int)
    right, bottom = (roi.center + roi.size / 2).astype(int)
    part = np.s_[top:bottom, left:right]
    return bool((before[part] ^ paint[part]).mean() > _CHANGED)


def _has_any(body: Body, faces: Sequence[Face]) -> bool:
    return any(face.holds(body.xy[Landmark.NOSE]) for face in faces)
