# SPDX-License-Identifier: Apache-2.0
"""The weight-free people estimator: MediaPipe landmarks, a batched fit, one shared floor."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.axes import camera_at_origin
from crowdgaussian_shared.geometry.camera import photo_camera
from crowdgaussian_shared.scene.schema import FocalSource

from ..body.model import BodyModel
from ..core.crop import disc
from ..core.landmarks import TORSO
from ..core.progress import Progress, Report, each, silent, within
from .crowd import Fitted, body_depth, crowd_on_floor, single_thread
from .detect.detections import OUTSIDE, Detection, Hands, detection_flags, visible_box
from .detect.faces import Face, FaceNetwork, head_rotations
from .detect.hands import HandNetwork, find_hands
from .detect.landmark_net import (
    LandmarkPrediction,
    PhotoPyramid,
    PoseNetwork,
    roi_of_box,
    warp_mask,
)
from .detect.residual import PeopleSearch, filled_in
from .detect.search import bodies_in_boxes, read_boxes
from .detect.tta import Body, body_score, fuse_predictions, refine_roi
from .fit.body_points import BodyPoints
from .fit.fitter import Fitter
from .fit.schedules import fit_in_camera
from .fit.targets import make_targets
from .types import Claims, Crowd, Keypoints, PeopleConfig

# Shares of the stage's time after which everybody is found, fitted, and on the floor: measured on
# the sample, with 140 s for the search, 20 s for the fit and 15 s for the floor on one busy core;
# and another 15 s for the masks.
_FOUND, _FITTED, _PLACED = 0.75, 0.85, 0.92


class KeypointFit:
    """Photo -> everybody in it, posed on one floor; implements PeopleEstimator."""

    def __init__(self, config: PeopleConfig, body: BodyModel) -> None:
        """config: options; body: the model that is fitted."""
        self.config, self.body = config, body
        self.points = BodyPoints(body)

    def estimate(self, photo: np.ndarray, focal_px: float | None, report: Report) -> Crowd:
        """Finds and fits everybody.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            focal_px: pixels, from EXIF or an option; None takes the configured field of view.
            report: called between the steps.

        Raises:
            InputError: nobody was found.
        """
        shape = photo.shape[:2]
        report(Progress("people", 0.0, message="looking for people"))
        found = detect_people(photo, self.config, within(report, 0.0, _FOUND))
        K, source = photo_camera(focal_px, shape, self.config.default_fov)
        with single_thread():
            crowd = self._fit(found.people, K, shape, report, source)
        report = within(report, _PLACED, 1.0)
        crowd = see_alone(photo, crowd, found.bodies, self.config, self.body, report)
        return replace(crowd, missed=found.missed)

    def _fit(
        self,
        found: list[Detection],
        K: np.ndarray,
        shape: tuple[int, int],
        report: Report,
        focal_source: FocalSource,
    ) -> Crowd:
        people = len(found)
        report(Progress("people", _FOUND, None, people, f"{people} found, fitting bodies"))
        targets = make_targets(found, K)
        alone = Fitter(self.body, self.points, K, camera_at_origin())
        bodies = fit_in_camera(alone, found, targets, K, self.config)
        report(Progress("people", _FITTED, None, people, "looking for the ground"))
        crowd = crowd_on_floor(
            alone, Fitted(bodies, found, targets), K, shape, self.config, focal_source
        )
        report(Progress("people", _PLACED, None, people, "people placed"))
        return crowd


# Everybody as landmarks and a soft mask; nothing three-dimensional yet

_HEADS = 0.94  # of the time, after which heads and hands are looked at


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
    report(Progress("people", _HEADS, None, len(people), "looking at heads and hands"))
    found = _detections(PhotoPyramid(photo), people, face_network, faces, config)
    order = np.argsort([one.keypoints.xy[TORSO, 0].mean() for one in found], kind="stable")
    return Detections(
        [found[index] for index in order],
        tuple(face.box for face in missed),
        tuple(people[index] for index in order),
    )


def _detections(
    photo: PhotoPyramid,
    people: list[Body],
    network: FaceNetwork,
    faces: list[Face],
    config: PeopleConfig,
) -> list[Detection]:
    """Bodies with their heads and hands; faces: those that are known already."""
    heads = head_rotations(network, photo, people, faces)
    hands: list[Hands] = [(None, None)] * len(people)
    if config.hands:
        hands = find_hands(HandNetwork(), photo, people)
    shape = photo.levels[0].shape[:2]
    return [_detection(*one, shape) for one in zip(people, heads, hands)]


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


# A second look at people whom other networks have found

_SAME_TORSO = 0.1  # of the person's size: a torso further away is somebody else's


def look_again(
    photo: np.ndarray, found: Sequence[Detection], config: PeopleConfig
) -> list[Detection | None]:
    """People whom another network has found, as MediaPipe's see them.

    That tells depth, feet, heads, hands and soft masks, which keypoints alone do not.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        found: the people.
        config: which network looks, and whether for hands.

    Returns:
        None for those in whose place MediaPipe's network sees nobody or somebody else.
    """
    network, pyramid = PoseNetwork(config.landmarks), PhotoPyramid(photo)
    bodies = [_body_of(network, pyramid, one) for one in found]
    seen = [body for body in bodies if body is not None]
    details = iter(_detections(pyramid, seen, FaceNetwork(), [], config))
    return [None if body is None else next(details) for body in bodies]


def _body_of(network: PoseNetwork, photo: PhotoPyramid, person: Detection) -> Body | None:
    """The body in a person's box whose torso is where the person's is."""
    torso = person.keypoints.xy[TORSO]

    def is_same(one: LandmarkPrediction) -> bool:
        apart = np.linalg.norm(one.xy[TORSO] - torso, axis=1).mean()
        return bool(apart < _SAME_TORSO * person.size)

    roi = roi_of_box(person.box.astype(np.float64))
    first = refine_roi(network, network, photo, roi)
    if first is not None and is_same(first):
        roi = first.next_roi
    return fuse_predictions(network, photo, roi, person.score, is_same)


# Everybody seen once more with the others painted over. A soft mask that was seen among neighbours
# has some of their limbs; seen alone, a person keeps what is theirs. Mean IoU with the true masks
# of the two samples: .936 to .948 and .908 to .925.

_SURE = 0.6  # of a soft mask, from which a pixel may be painted out; lower: things go too
_AS_SURE = 0.45  # soft masks closer than this are settled by depth, as the masks stage does
_RIM = 0.008  # of a body's size: a mask's rim, which may be the neighbour's
_REACH = 0.03  # of a body's size around the fitted one, in which a mask is surely the body's
_STAYS = 0.08  # of the body's size: a torso that moves further is somebody else's
_AROUND = 0.75  # of the region's side, to either side: the part of the photo that is painted


def see_alone(
    photo: np.ndarray,
    crowd: Crowd,
    bodies: Sequence[Body],
    config: PeopleConfig,
    model: BodyModel,
    report: Report,
) -> Crowd:
    """The crowd with soft masks that were seen with everybody else's sure pixels painted out.

    Args:
        photo: [H, W, 3] uint8 sRGB.
        crowd: whose fitted bodies tell who is in front.
        bodies: what the network saw of each, in the order of the crowd's people.
        config: which network looks.
        model: of the fitted bodies.
        report: called before each person, from 0 to 1.
    """
    owner = sure_pixels(crowd, [body.size for body in bodies], model)
    network = PoseNetwork(config.landmarks)
    people = list(crowd.people)
    step = Progress("people", 0.0, None, len(people), "looking at each alone")
    for index, body in enumerate(each(bodies, report, step)):
        mask = mask_alone(network, photo, body, (owner >= 0) & (owner != index))
        if mask is not None:
            people[index] = replace(people[index], person_mask=mask)
    return replace(crowd, people=tuple(people))


def sure_pixels(crowd: Crowd, sizes: Sequence[float], model: BodyModel) -> np.ndarray:
    """Which person surely has each pixel, -1 for none.  # [H, W] int16

    Args:
        crowd: with soft masks and fitted bodies.
        sizes: of the bodies, pixels.
        model: of the bodies.
    """
    claims = Claims((crowd.camera.height, crowd.camera.width), _AS_SURE)
    near = []
    for index, person in enumerate(crowd.people):
        depth = body_depth(model, person, crowd.camera)
        claims.claim(index, person.person_mask.astype(np.float32) / 255, depth)
        silhouette = np.isfinite(depth).astype(np.uint8)
        near.append(cv2.dilate(silhouette, disc(_REACH * sizes[index])) > 0)
    sure = np.full_like(claims.owner, -1)
    for index, person in enumerate(crowd.people):
        own = (claims.owner == index).astype(np.uint8)
        core = cv2.erode(own, disc(_RIM * sizes[index])) > 0
        sure[core & near[index] & (person.person_mask > 255 * _SURE)] = index
    return sure


def mask_alone(
    network: PoseNetwork, photo: np.ndarray, body: Body, others: np.ndarray
) -> np.ndarray | None:
    """A body's soft mask in a photo without the others; None where nothing changes.

    Args:
        network: looks.
        photo: [H, W, 3] uint8 sRGB.
        body: as it was seen before.
        others: [H, W] bool, surely somebody else's.

    Returns:
        [H, W] uint8 0..255, or None where nobody is near or the body is not seen again.
    """
    size = np.array(photo.shape[1::-1])
    reach = _AROUND * body.roi.size
    x0, y0 = np.clip(np.floor(body.roi.center - reach), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(body.roi.center + reach), 0, size).astype(int)
    holes = others[y0:y1, x0:x1]
    if not holes.any():
        return None
    corner = np.array([x0, y0], float)
    torso = body.xy[TORSO] - corner

    def stays(one: LandmarkPrediction) -> bool:
        moved = np.linalg.norm(one.xy[TORSO] - torso, axis=1).mean()
        return bool(moved < _STAYS * body.size)

    roi = replace(body.roi, center=body.roi.center - corner)
    rest = PhotoPyramid(filled_in(photo[y0:y1, x0:x1], holes))
    again = fuse_predictions(network, rest, roi, body.detector_score, stays)
    if again is None:
        return None
    mask = np.zeros(photo.shape[:2], np.float32)
    mask[y0:y1, x0:x1] = warp_mask(again.mask, again.mask_to_photo, holes.shape)
    mask[others] = 0
    return np.clip(mask * 255 + 0.5, 0, 255).astype(np.uint8)
