# SPDX-License-Identifier: Apache-2.0
"""A second fit once better masks are there: bodies that fill their silhouettes."""

from dataclasses import replace

import numpy as np
import torch
from crowdgaussian_shared.axes import SCENE_FROM_OPENCV
from crowdgaussian_shared.rotations import axis_angle_to_matrix

from ..body.model import BodyModel
from .body_points import BodyPoints
from .config import PeopleConfig
from .detect import Detection
from .fit import Bodies, Fitter
from .grounding import settle_on_ground
from .result import make_people, single_thread
from .targets import make_targets, turned
from .types import Crowd, Person


def refine_to_masks(crowd: Crowd, masks: list[np.ndarray], body: BodyModel,
                    config: PeopleConfig | None = None) -> Crowd:
    """Lets pose and shape follow given silhouettes; camera, ground and flags stay.

    Args:
        crowd: as KeypointFit gave it.
        masks: one [H, W] bool per person: what is seen of them, or their whole silhouette.
        body: the model the crowd was fitted with.
        config: how many steps.

    Returns:
        The same people with new betas, pose, transl, scale and reprojection error; their
        person_mask stays what the detector saw.
    """
    config = config or PeopleConfig()
    with single_thread():
        points = BodyPoints(body)
        fitter = Fitter(body, points, crowd.camera.K, crowd.camera.viewmat)
        found = [_detection(person, mask) for person, mask in zip(crowd.people, masks)]
        turn = crowd.camera.viewmat[:3, :3].T @ SCENE_FROM_OPENCV.T
        targets = replace(make_targets(found, crowd.camera.K),
                          mask_trust=torch.ones(len(found)))
        targets = turned(targets, turn)
        on_ground = np.array(crowd.on_ground)
        bodies = settle_on_ground(fitter, _bodies(crowd, points), targets, on_ground, config)
        people = make_people(fitter, bodies, found, targets, [p.flags for p in crowd.people])
    people = tuple(replace(new, person_mask=old.person_mask)
                   for new, old in zip(people, crowd.people))
    return replace(crowd, people=people)


def _detection(person: Person, mask: np.ndarray) -> Detection:
    size = float(np.ptp(person.keypoints.xy[:, 1]))
    return Detection(person.keypoints, person.box, person.score,
                     np.where(mask, 255, 0).astype(np.uint8), size, ())


def _bodies(crowd: Crowd, points: BodyPoints) -> Bodies:
    def stack(values: list) -> torch.Tensor:
        return torch.as_tensor(np.stack(values), dtype=torch.float32)

    pose = np.stack([person.pose for person in crowd.people]).astype(np.float64)
    betas = stack([person.betas for person in crowd.people])
    scale = stack([np.float32(person.scale) for person in crowd.people])
    pelvis = stack([person.transl for person in crowd.people])
    pelvis = pelvis + points.rest_joints(betas, scale)[:, 0]
    return Bodies(stack(list(axis_angle_to_matrix(pose[:, 0]))), stack(list(pose[:, 1:22])),
                  pelvis, betas, scale)
