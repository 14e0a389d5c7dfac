# SPDX-License-Identifier: Apache-2.0
"""A person who was found alone, in a scene of their own, comes into another scene of that photo.

Both scenes have the same pinhole camera, so the person keeps their picture: what changes is where
up is, and how far they are, which their feet on the other scene's floor decide.
"""

from dataclasses import replace

import numpy as np
import torch
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle

from ..body.model import BodyModel
from .types import Crowd, Person

_STEPS = (0.6, 1.6)  # how much larger or smaller standing on the floor may make somebody
_SEEN, _LEAST_SEEN = 0.5, 4  # confidence of a landmark, and how many two people must share
_LEAST_DROP = 0.05  # metres from the camera to the lowest skin, lest somebody slides to infinity
_SAME = 0.08  # of the box's longer side: landmarks this near on average are one person's


def into_scene(found: Crowd, crowd: Crowd, body: BodyModel) -> tuple[Person, bool]:
    """The first of `found` in the scene of `crowd`, and whether they stand on its floor.

    Args:
        found: somebody alone, with the intrinsics of the crowd's camera.
        crowd: the scene they come into; its camera and floor stay as they are.
        body: the model of all of them.
    """
    person = found.people[0]
    change = np.linalg.inv(crowd.camera.viewmat) @ found.camera.viewmat
    turn = change[:3, :3]
    pose = np.array(person.pose, np.float64)
    pose[0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(pose[0]))
    pelvis = turn @ (rest_pelvis(body, person.betas, person.scale) + person.transl) + change[:3, 3]
    moved = _placed(person.with_params(pose=pose.astype(np.float32)), pelvis, person.scale, body)
    return _on_floor(moved, pelvis, crowd, body, found.on_ground[0])


def rest_pelvis(body: BodyModel, betas: np.ndarray, scale: float) -> np.ndarray:
    """The pelvis of the rest body in the canonical frame.  # [3] float64, metres"""
    with torch.no_grad():
        _, joints = body.rest(
            torch.as_tensor(np.asarray(betas, np.float32))[None], torch.tensor([float(scale)])
        )
    return joints[0, 0].double().numpy()


def lowest_point(body: BodyModel, person: Person) -> float:
    """Height of the lowest vertex of the posed body, metres."""
    return float(body.posed(person.params).vertices[:, 1].min())


def project_landmarks(person: Person, crowd: Crowd, body: BodyModel) -> Person:
    """Landmarks that lie elsewhere than the person's body come to lie where it has them.

    The masks go by landmarks, and where a user has corrected a pose these may be somebody else's.

    Args:
        person: with the pose that holds.
        crowd: gives the camera.
        body: the model of all of them.
    """
    posed = body.posed(person.params).landmarks.astype(np.float64)
    camera = crowd.camera
    seen = (posed @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]) @ camera.K.T
    xy = seen[:, :2] / np.maximum(seen[:, 2:], 1e-6)
    apart = np.linalg.norm(xy - person.keypoints.xy, axis=1)
    wrong = apart > _SAME * float((person.box[2:] - person.box[:2]).max())
    xy = np.where(wrong[:, None], xy, person.keypoints.xy).astype(np.float32)
    return replace(person, keypoints=replace(person.keypoints, xy=xy))


def find_same_person(person: Person, people: list[tuple[int, Person]]) -> int | None:
    """The number of the one whose landmarks lie where this person's do, if there is one."""
    sure = person.keypoints.confidence > _SEEN
    size = float((person.box[2:] - person.box[:2]).max())
    for index, other in people:
        both = sure & (other.keypoints.confidence > _SEEN)
        apart = np.linalg.norm(person.keypoints.xy - other.keypoints.xy, axis=1)[both]
        if len(apart) >= _LEAST_SEEN and apart.mean() < _SAME * size:
            return index
    return None


def _on_floor(
    person: Person, pelvis: np.ndarray, crowd: Crowd, body: BodyModel, stood: bool
) -> tuple[Person, bool]:
    """Slides along the viewing ray until the feet touch; only out of the floor if they float."""
    viewmat = crowd.camera.viewmat
    eye = -viewmat[:3, :3].T @ viewmat[:3, 3]
    low = lowest_point(body, person)
    factor = float(eye[1] / max(eye[1] - low, _LEAST_DROP))
    possible = _STEPS[0] < factor < _STEPS[1]
    standing = stood and possible
    if standing or (low < 0 and possible):
        person = _placed(person, eye + (pelvis - eye) * factor, person.scale * factor, body)
    return person, standing


def _placed(person: Person, pelvis: np.ndarray, scale: float, body: BodyModel) -> Person:
    transl = pelvis - rest_pelvis(body, person.betas, scale)
    return person.with_params(scale=float(scale), transl=transl.astype(np.float32))
