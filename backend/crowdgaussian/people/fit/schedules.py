# SPDX-License-Identifier: Apache-2.0
"""The stages of fitting everybody in the camera's frame, before the ground is known; hands last."""

from dataclasses import replace

import numpy as np
import torch
from crowdgaussian_shared.geometry.camera import split_viewmat, turn_to_ray
from crowdgaussian_shared.geometry.rotations import matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS

from ...core.optim import Descent, minimise, parameter_groups
from ...core.rotations import axis_angle_to_matrix
from ..detect.detections import Detection, Hands
from ..types import PeopleConfig
from .body_points import HandAngles, HandPoints
from .fitter import Bodies, Fitter, Schedule
from .init import DEPTH_HYPOTHESES, Guess, Lengths, guess, lift
from .objective import (
    FINGER_LIMITS,
    SILHOUETTE,
    HandTargets,
    Weights,
    arm_limits,
    hand_directions,
    hand_energy,
    relaxed_hands,
)
from .targets import Targets

_PLACE_RATES = {"orientation": 0.03, "pelvis": 0.02}
_POSE_RATES = {"orientation": 0.02, "pelvis": 0.01, "body_pose": 0.03, "betas": 0.03}
_FINE_RATES = {"orientation": 0.015, "pelvis": 0.006, "body_pose": 0.02, "betas": 0.05}
_SHAPE_RATES = {"betas": 0.2}
_SHAPE_SHARE = 3  # of the steps of a fit, one part of so many
# A body read the other way round in depth must explain the picture this much better.
_MIRROR_BONUS = 0.75


def fit_in_camera(
    fitter: Fitter, people: list[Detection], targets: Targets, K: np.ndarray, config: PeopleConfig
) -> Bodies:
    """Place, orientation, pose and shape of everybody, each on their own.

    Every body starts twice, as the network reads it and mirrored in depth, because a silhouette
    alone allows both; the reading that explains the picture better stays.
    """
    rest = fitter.body.joint_template.numpy()
    readings = [guess(people, rest, K, mirror_depth) for mirror_depth in (False, True)]
    both = _joined(targets, targets)
    both = replace(
        both,
        segments=both.segments * _depth_signs(both.segments),
        face=both.face * _depth_signs(both.face),
    )
    bodies = fitter.start(
        Guess(
            *(
                torch.cat(part)
                for part in zip(*((r.orientation, r.body_pose, r.pelvis) for r in readings))
            )
        )
    )
    coarse = Weights()
    bodies = fitter.run(bodies, both, Schedule(30, coarse, _PLACE_RATES))
    bodies = fitter.run(bodies, both, Schedule(config.pose_steps // 3, coarse, _POSE_RATES))
    bodies = bodies.select(_better_reading(fitter, bodies, both))
    bodies = fitter.run(bodies, targets, Schedule(config.pose_steps, coarse, _FINE_RATES))
    return fit_shape(fitter, bodies, targets, coarse, config.pose_steps, config)


def fit_shape(
    fitter: Fitter,
    bodies: Bodies,
    targets: Targets,
    weights: Weights,
    steps: int,
    config: PeopleConfig,
) -> Bodies:
    """Lets the masks tell how wide bodies are, not where their limbs lie.

    The detector's masks are not shared out yet: what belongs to a neighbour would pull limbs
    there (24 people of real photos: OKS of the joints .857 with limbs free, .874 without).

    Args:
        fitter: of the bodies' camera.
        bodies: in their pose.
        targets: what the photo says.
        weights: of the pose's fit, without masks.
        steps: of the pose's fit.
        config: whether masks count.
    """
    if not config.use_silhouette:
        return bodies
    shape = replace(weights, silhouette=SILHOUETTE)
    return fitter.run(bodies, targets, Schedule(steps // _SHAPE_SHARE, shape, _SHAPE_RATES))


def _depth_signs(directions: torch.Tensor) -> torch.Tensor:
    """+1, but -1 for the depth of the second half of the batch.  # like directions"""
    signs = torch.ones_like(directions)
    signs[len(signs) // 2 :, ..., 2] = -1.0
    return signs


def _joined(first: Targets, second: Targets) -> Targets:
    return Targets(
        **{name: torch.cat([value, getattr(second, name)]) for name, value in vars(first).items()}
    )


def _better_reading(fitter: Fitter, bodies: Bodies, targets: Targets) -> torch.Tensor:
    """Index of the better of the two readings of each person.  # [P]"""
    blind = Weights(segments=0.0, face=0.0)  # the network's own depth is what is in question
    energy = fitter.energy(bodies, targets, blind).reshape(2, -1)
    people = energy.shape[1]
    mirrored = energy[1] < _MIRROR_BONUS * energy[0]
    return torch.arange(people) + mirrored * people


# Fitting bodies to landmarks in the photo alone, when no network tells depth

_BLIND = {"segments": 0.0, "face": 0.0}  # nothing is known of directions in space
_FINE_2D_RATES = {"orientation": 0.015, "pelvis": 0.006, "body_pose": 0.02, "betas": 0.05}
_POSE = 0.02  # the prior counts more where the photo tells less


def fit_2d_keypoints(
    fitter: Fitter, people: list[Detection], targets: Targets, K: np.ndarray, config: PeopleConfig
) -> Bodies:
    """Place, orientation, pose and shape of everybody, each on their own.

    Every body starts from all readings of its landmarks; the one that ends with the least energy,
    that is the most usual pose which explains the photo, stays.
    """
    rest = fitter.body.joint_template.numpy()
    lengths, count = Lengths.of(rest), len(people)
    guesses = [
        guess([lift(person, lengths, reading) for person in people], rest, K, mirror_depth=False)
        for reading in DEPTH_HYPOTHESES
    ]
    many = Targets(
        **{
            name: torch.cat([value] * len(DEPTH_HYPOTHESES))
            for name, value in vars(targets).items()
        }
    )
    bodies = fitter.start(
        Guess(
            *(
                torch.cat(part)
                for part in zip(*((g.orientation, g.body_pose, g.pelvis) for g in guesses))
            )
        )
    )
    weights = Weights(pose=_POSE, **_BLIND)
    bodies = fitter.run(bodies, many, Schedule(30, weights, _PLACE_RATES))
    bodies = fitter.run(bodies, many, Schedule(config.pose_steps // 2, weights, _POSE_RATES))
    energy = fitter.energy(bodies, many, weights).reshape(len(DEPTH_HYPOTHESES), count)
    bodies = bodies.select(torch.arange(count) + energy.argmin(dim=0) * count)
    return fitter.run(bodies, targets, Schedule(config.pose_steps, weights, _FINE_2D_RATES))


# How much directions in space count that come from another network than the landmarks. With true
# landmarks (noise of .5 % of the height) of the sample joints are 5.8, 5.7, 5.7, 5.5 cm off, feet
# 9.5, 8.9, 8.9, 8.3 cm, distances 2.3, 2.1, 1.9, 1.8 % with 1, .5, .25, .1; without any, 5.4, 10.7
# and 2.6. Landmarks of a real network are less exact, so not the last.
_SECOND_HAND = 0.2


def with_second_hand(targets: Targets, blind: torch.Tensor) -> Targets:
    """Targets that trust directions less, and say nothing of them or masks of some people.

    Args:
        targets: of P people.
        blind: [P] bool, of whom nothing tells depth.
    """
    told = (~blind).float()
    return replace(
        targets,
        segment_weight=targets.segment_weight * _SECOND_HAND * told[:, None],
        mask_trust=targets.mask_trust * told,
    )


def fit_alone(
    fitter: Fitter, people: list[Detection], targets: Targets, K: np.ndarray, config: PeopleConfig
) -> Bodies:
    """Everybody on their own: by directions in space where networks tell any, else by landmarks.

    Metric landmarks that are all zero tell none.
    """
    blind = torch.tensor([not one.keypoints.world.any() for one in people])
    parts, order = [], []
    for group, fit in ((~blind, fit_in_camera), (blind, fit_2d_keypoints)):
        index = torch.nonzero(group)[:, 0]
        if len(index):
            own = [people[k] for k in index.tolist()]
            parts.append(fit(fitter, own, targets.select(index), K, config))
            order.append(index)
    joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    return Bodies(**joined).select(torch.cat(order).argsort())


# Bending forearms, wrists and fingers to the landmarks of hands; nothing else of a body moves

_HAND_STEPS = 100
_HAND_RATE = 0.05  # radians a step at first
_NEAREST_WRIST = 0.05  # metres before the camera
_HAND_ORDER = torch.tensor(  # the network's index, middle, little, ring finger and thumb
    [[5, 6, 7, 8], [9, 10, 11, 12], [17, 18, 19, 20], [13, 14, 15, 16], [1, 2, 3, 4]]
)


def fit_hands(
    fitter: Fitter, bodies: Bodies, hands: list[Hands]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bends wrists and fingers to the hands that were seen, within what joints do.

    The wrist stays where the body's fit has put it. The hand's landmarks tell how its bones lie in
    space and where its points are around the wrist, in weak perspective at the wrist's depth.

    Args:
        fitter: of the bodies' camera.
        bodies: everybody.
        hands: what was seen of each.

    Returns:
        The body pose [P, 21, 3] with forearms and wrists turned, and the axis-angles of jaw, eyes
        and fingers [P, 33, 3]; hands that were not seen are at rest.
    """
    pose, rest = bodies.body_pose.clone(), relaxed_hands().repeat(len(hands), 1, 1)
    seen = [(p, k, hand) for p, both in enumerate(hands) for k, hand in enumerate(both)]
    found = [(p, k, hand) for p, k, hand in seen if hand is not None]
    if not found:
        return pose, rest
    person, right = (
        torch.tensor([p for p, _, _ in found]),
        torch.tensor([k == 1 for _, k, _ in found]),
    )
    rest_joints = fitter.points.rest_joints(bodies.betas, bodies.scale)
    points = HandPoints(fitter.body, rest_joints[person], right)
    elbow, wrist = (points.joints[:, k] - 1 for k in (0, 1))  # in the body's pose
    fingers = points.joints[:, 2:] - len(BODY_JOINTS)
    with torch.no_grad():
        posed = fitter.pose(bodies)
    view, shift = (torch.as_tensor(part) for part in split_viewmat(fitter.camera[1].numpy()))
    places = posed.joints[person, wrist + 1] @ view.T + shift
    turns = torch.stack([_straight(place) for place in places])
    angles = _bend(
        points,
        turns @ view @ posed.rotations[person, elbow + 1],
        _hand_targets(
            torch.as_tensor(np.stack([hand for _, _, hand in found])).float(),
            _onto_picture(places, fitter.camera[0]) @ turns.transpose(1, 2),
            points.angles(pose[person, wrist], rest[person[:, None], fingers]),
        ),
        _hand_limits(points.twist_of(pose[person, elbow]), right),
    )
    twist, bends = points.rotations(angles)
    pose[person, elbow] = _axis_angles(axis_angle_to_matrix(pose[person, elbow]) @ twist)
    pose[person, wrist] = angles.wrist
    rest[person[:, None], fingers] = bends
    return pose, rest


def _straight(place: torch.Tensor) -> torch.Tensor:
    """From the camera's axes to those of somebody who looks straight at a place [3].  # [3, 3]"""
    return torch.as_tensor(turn_to_ray(place.double().numpy()).T, dtype=torch.float32)


def _onto_picture(places: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """How pixels move with points at places [H, 3] of the camera.  # [H, 2, 3] pixels a metre"""
    depth = places[:, 2:, None].clamp_min(_NEAREST_WRIST)
    flat = torch.eye(2).expand(len(places), 2, 2)
    return K[:2, :2] @ torch.cat([flat, -places[:, :2, None] / depth], dim=2) / depth


def _hand_targets(seen: torch.Tensor, to_pixels: torch.Tensor, start: HandAngles) -> HandTargets:
    """Landmarks [H, 21, 3] around their own wrists, with the length of the hand as the unit."""
    around = seen - seen[:, :1]
    length = around[:, [0, 9, 10, 11, 12]].diff(dim=1).norm(dim=2).sum(dim=1)[:, None, None]
    points = (around / length.clamp_min(1e-6))[:, _HAND_ORDER]
    return HandTargets(points[..., :2], hand_directions(points), to_pixels / length, start)


def _hand_limits(turned: torch.Tensor, right: torch.Tensor) -> HandAngles:
    """Lowest and highest of all angles; elbows are twisted [H] already.  # [2, H, ...] each"""
    arm = arm_limits(right).permute(2, 0, 1)
    left = arm[:, :, 0] - turned
    twist = torch.stack([left[0].clamp_max(0.0), left[1].clamp_min(0.0)])
    fingers = FINGER_LIMITS.expand(len(right), -1, -1, -1).permute(3, 0, 1, 2)
    return HandAngles(twist, arm[:, :, 1:], fingers)


def _bend(
    points: HandPoints, elbows: torch.Tensor, targets: HandTargets, limits: HandAngles
) -> HandAngles:
    """Lowers the energy; after each step all angles go back into their limits."""
    free = {name: value.clone().requires_grad_() for name, value in vars(targets.start).items()}

    def loss_at(_: int) -> torch.Tensor:
        angles = HandAngles(**free)
        return hand_energy(points(elbows, angles), angles, targets).sum()

    def back(_: int, __: torch.Tensor) -> None:
        with torch.no_grad():
            for name, (low, high) in vars(limits).items():
                free[name].clamp_(low, high)

    groups = parameter_groups(free, dict.fromkeys(free, _HAND_RATE))
    minimise(groups, Descent(_HAND_STEPS), loss_at, back)
    return HandAngles(**{name: value.detach() for name, value in free.items()})


def _axis_angles(matrices: torch.Tensor) -> torch.Tensor:
    """[H, 3, 3] -> [H, 3]"""
    rows = [matrix_to_axis_angle(matrix) for matrix in matrices.double().numpy()]
    return torch.as_tensor(np.stack(rows), dtype=torch.float32)
