# SPDX-License-Identifier: Apache-2.0
"""Hands in a photo: 21 landmarks for each wrist that shows one, and whose hand each is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.landmarks import Landmark as L
from ...weights import HAND_LANDMARKS
from .detections import Hands
from .landmark_net import (
    Graph,
    PhotoPyramid,
    Roi,
    apply,
    image_packet,
    packet_getter,
    patch_to_photo,
    whole_patch,
)
from .tta import Body

# MediaPipe's hand network, from the wheel (Apache-2.0)

HAND_PATCH = 224  # pixels, what the network takes in

_HAND = """
input_stream: "image"
input_stream: "roi"
output_stream: "landmarks"
output_stream: "world"
output_stream: "side"
node {
  calculator: "ConstantSidePacketCalculator"
  output_side_packet: "PACKET:complexity"
  options {
    [mediapipe.ConstantSidePacketCalculatorOptions.ext] { packet { int_value: 1 } }
  }
}
node {
  calculator: "HandLandmarkCpu"
  input_side_packet: "MODEL_COMPLEXITY:complexity"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  output_stream: "LANDMARKS:landmarks"
  output_stream: "WORLD_LANDMARKS:world"
  output_stream: "HANDEDNESS:side"
}
"""


@dataclass(frozen=True)
class HandLook:
    """What the network says about one square."""

    xyz: np.ndarray  # [21, 3] float64, photo pixels; depth away from the camera, 0 at the wrist
    right: float  # 0..1, how much it is somebody's right hand

    @property
    def length(self) -> float:
        """From the wrist to the middle knuckle and along the middle finger, in space, pixels."""
        chain = self.xyz[[0, 9, 10, 11, 12]]
        return float(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())


class HandNetwork:
    """The network, loaded once; not safe to share between threads."""

    def __init__(self) -> None:
        """Loads the network from the mediapipe wheel.

        Raises:
            MissingFileError: its file is gone.
            DamagedFileError: it is another file.
        """
        HAND_LANDMARKS.checked_path()
        self._graph = Graph(_HAND, ("landmarks", "world", "side"))

    def look(self, photo: PhotoPyramid, roi: Roi) -> HandLook | None:
        """The hand in a square; None when there is none.

        Places are those of the network's picture landmarks, depths those of its metric ones at
        the same scale: of eight hands of the sample the bones are 19 degrees off that way, with
        the depth of the picture landmarks 22.
        """
        to_photo = patch_to_photo(roi, side=HAND_PATCH)
        got = self._graph.run(
            image=image_packet(photo.patch(to_photo, HAND_PATCH)), roi=whole_patch()
        )
        if "landmarks" not in got or "world" not in got:
            return None
        points = packet_getter.get_proto(got["landmarks"]).landmark
        xy = np.array([[p.x, p.y] for p in points]) * roi.size
        metric = np.array([[p.x, p.y, p.z] for p in packet_getter.get_proto(got["world"]).landmark])
        metric -= metric[0]
        flat = metric[:, :2]
        scale = float(((xy - xy[0]) * flat).sum() / max((flat**2).sum(), 1e-12))
        side = packet_getter.get_proto(got["side"]).classification[0]
        left = side.score if side.label == "Right" else 1 - side.score  # it expects selfies
        places = apply(to_photo, xy * (HAND_PATCH / roi.size))
        return HandLook(np.column_stack([places, metric[:, 2] * scale]), 1 - float(left))


# The hand at a wrist: several looks have to agree, and every hand has one owner

_ARM = (L.LEFT_ELBOW, L.LEFT_WRIST, L.LEFT_INDEX, L.LEFT_PINKY)  # the right one's follow each
_BONES = np.array(  # forearms first; by all of them the body's scale is told
    [
        (L.LEFT_ELBOW, L.LEFT_WRIST),
        (L.RIGHT_ELBOW, L.RIGHT_WRIST),
        (L.LEFT_SHOULDER, L.LEFT_ELBOW),
        (L.RIGHT_SHOULDER, L.RIGHT_ELBOW),
        (L.LEFT_SHOULDER, L.LEFT_HIP),
        (L.RIGHT_SHOULDER, L.RIGHT_HIP),
    ]
)
# Hand-tuned on the sample and a real photo; not measured one by one unless it says so.
_GROWS = (1.6, 2.0, 2.4)  # of twice the way from the wrist to the knuckles
_LEAST_SQUARE = 0.05  # of the body's height: a palm seen end on must not shrink the square
# Side of the square around a hand that was seen, over its extent. Eight fitted hands of the
# sample, with wrists held less: 2.0 gives 4.0 px and 1.9 cm, 1.85 3.6 and 2.0, 1.7 3.4 and 2.6.
_RECENTRED = 1.85
_AHEAD = 0.1  # of the palm, by which that square is moved towards the fingers
_AGREEING = 0.15  # of the hand's length, between looks of one hand
_AGREED = 0.5  # of all looks
_FAR_WRIST = 0.5  # of the hand's length between the body's wrist and the hand's: another's hand
_SAME_HAND = 0.5  # of the hand's length between the middles of two claims on one hand
_OTHER_HAND = 0.2  # what is left of a claim whose handedness is surely the other one
_TOO_LONG = 0.15  # of the forearm, beyond its length, that costs a claim a factor e
_LEAST_WORTH = 0.25  # of a claim; right ones have .35 and more, wrong ones up to .22


@dataclass(frozen=True)
class HandClaim:
    """A hand that was seen at somebody's wrist."""

    owner: int  # index of the body
    right: bool  # at which of its wrists
    look: HandLook  # what the agreeing looks share
    wrist: float  # 0..1, how sure the body is of that wrist
    reach: float  # elbow to the hand's wrist in the photo, over the longest the forearm can look

    @property
    def worth(self) -> float:
        """How likely the hand is the owner's: sure wrist, right handedness, forearm in reach."""
        handed = self.look.right if self.right else 1 - self.look.right
        fitting = float(np.exp(-max(self.reach - 1.0, 0.0) / _TOO_LONG))
        return self.wrist * (_OTHER_HAND + (1 - _OTHER_HAND) * handed) * fitting

    def same_hand(self, other: "HandClaim") -> bool:
        """Whether both are about one hand of the photo."""
        first, second = (one.look.xyz[:, :2].mean(axis=0) for one in (self, other))
        size = max(self.look.length, other.look.length)
        return bool(np.linalg.norm(first - second) < _SAME_HAND * size)


def find_hands(network: HandNetwork, photo: PhotoPyramid, bodies: Sequence[Body]) -> list[Hands]:
    """The hands of everybody, each with one owner.

    Args:
        network: sees hands.
        photo: where to look.
        bodies: the people.
    """
    claims = []
    for index, body in enumerate(bodies):
        for right in (False, True):
            claim = claim_hand(network, photo, body, index, right)
            if claim is not None:
                claims.append(claim)
    hands: list[list[np.ndarray | None]] = [[None, None] for _ in bodies]
    for claim in settle_claims(claims):
        hands[claim.owner][claim.right] = claim.look.xyz.astype(np.float32)
    return [(left, right) for left, right in hands]


def claim_hand(
    network: HandNetwork, photo: PhotoPyramid, body: Body, owner: int, right: bool
) -> HandClaim | None:
    """The hand at one wrist of a body, if at least half of the looks there agree on one."""
    elbow, wrist, index, pinky = body.xy[np.array(_ARM) + int(right)]
    first = hand_square(wrist, index, pinky, _LEAST_SQUARE * body.size)
    looks: list[HandLook | None] = []
    for grow in _GROWS:
        look = network.look(photo, first.changed(grow))
        again = None if look is None else network.look(photo, _square_around(look))
        looks += [look, again]
    shared = shared_look(looks)
    if shared is None:
        return None
    if np.linalg.norm(shared.xyz[0, :2] - wrist) > _FAR_WRIST * shared.length:
        return None
    reach = float(np.linalg.norm(shared.xyz[0, :2] - elbow)) / max(_forearm(body), 1e-6)
    sure = float(body.confidence[L.LEFT_WRIST + int(right)])
    return HandClaim(owner, right, shared, sure, reach)


def hand_square(wrist: np.ndarray, index: np.ndarray, pinky: np.ndarray, least: float) -> Roi:
    """The square MediaPipe puts around a hand from a body's landmarks [2], before it grows.

    Its middle is the middle knuckle, its side twice the way there from the wrist, at least
    `least` pixels (HandDetectionsFromPoseToRects).
    """
    middle = (2 * index + pinky) / 3
    along = middle - wrist
    size = max(2 * float(np.linalg.norm(along)), least)
    return Roi(middle, size, float(np.arctan2(along[0], -along[1])))


def shared_look(looks: Sequence[HandLook | None]) -> HandLook | None:
    """The median of those looks that agree with the best supported one; None below half of all."""
    seen = [look for look in looks if look is not None]
    if not seen:
        return None
    points = np.stack([look.xyz for look in seen])
    apart = np.linalg.norm(points[:, None, :, :2] - points[None, :, :, :2], axis=3)
    near = np.median(apart, axis=2) < _AGREEING * np.array([look.length for look in seen])
    group = near[near.sum(axis=1).argmax()]
    if group.sum() < _AGREED * len(looks):
        return None
    right = float(np.mean([look.right for look, member in zip(seen, group) if member]))
    return HandLook(np.median(points[group], axis=0), right)


def settle_claims(claims: Sequence[HandClaim]) -> list[HandClaim]:
    """One owner for each hand: who claims it with most worth, if that is worth something."""
    kept: list[HandClaim] = []
    for claim in sorted(claims, key=lambda one: -one.worth):
        if claim.worth >= _LEAST_WORTH and not any(claim.same_hand(other) for other in kept):
            kept.append(claim)
    return kept


def _square_around(look: HandLook) -> Roi:
    """The square around a hand that was seen, upright along its palm."""
    xy = look.xyz[:, :2]
    along = xy[[5, 9, 13]].mean(axis=0) - xy[0]
    low, high = xy.min(axis=0), xy.max(axis=0)
    return Roi(
        (low + high) / 2 + _AHEAD * along,
        _RECENTRED * float((high - low).max()),
        float(np.arctan2(along[0], -along[1])),
    )


def _forearm(body: Body) -> float:
    """How long the body's forearms look straight across, pixels."""
    bones = body.world[_BONES[:, 1]] - body.world[_BONES[:, 0]]
    across = np.linalg.norm(bones[:, :2], axis=1)
    seen = np.linalg.norm(body.xy[_BONES[:, 1]] - body.xy[_BONES[:, 0]], axis=1)
    scale = float((seen * across).sum() / max((across**2).sum(), 1e-12))  # pixels a metre
    return scale * float(np.linalg.norm(bones[:2], axis=1).max())
