# SPDX-License-Identifier: Apache-2.0
"""The end of people stages that give bodies: on one floor, with masks of their own."""

from dataclasses import replace

import numpy as np
import torch

from ..body.model import BodyModel
from .assemble import Fitted, crowd_on_floor
from .body_masks import with_body_masks
from .body_points import BodyPoints
from .config import PeopleConfig
from .fit import Fitter
from .grounding import camera_at_origin
from .own_landmarks import detections_of
from .result import single_thread
from .targets import make_targets
from .transfer import StartBodies
from .types import Crowd


def settle_bodies(body: BodyModel, start: StartBodies, scores: torch.Tensor, K: np.ndarray,
                  shape: tuple[int, int], config: PeopleConfig, focal_source: str) -> Crowd:
    """Bodies in front of a camera become the crowd.

    Args:
        body: the model of the bodies.
        start: bodies and hands, scene axes with the camera at the origin.
        scores: [P] 0..1.
        K: [3, 3] of the photo.
        shape: height and width of the photo.
        config: how many steps.
        focal_source: where K comes from.
    """
    with single_thread():
        alone = Fitter(body, BodyPoints(body), K, camera_at_origin())
        found = detections_of(alone, start.bodies, scores, shape)
        config = replace(config, use_silhouette=False)  # the masks are the bodies' own
        fitted = Fitted(start.bodies, found, make_targets(found, K))
        crowd = crowd_on_floor(alone, fitted, K, shape, config, focal_source)
        people = [replace(person, pose=np.concatenate([person.pose[:22], hands.numpy()]))
                  for person, hands in zip(crowd.people, start.hands)]
        return with_body_masks(replace(crowd, people=tuple(people)), body)
