# SPDX-License-Identifier: Apache-2.0
"""The options of the people stage."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PeopleConfig:
    """Options of KeypointFit; the defaults serve photos of a few to a dozen people."""

    max_people: int = 24  # the surest are kept
    min_relative_size: float = 0.25  # of the photo's usual people; below: background crowd
    min_score: float = 0.15  # 0..1, detection score below which a body is dropped
    default_fov: float = 55.0  # degrees across the longer side when the focal length is unknown
    pose_steps: int = 200  # optimiser steps for place, pose and shape of each body
    ground_steps: int = 100  # optimiser steps once people stand on the shared floor
    use_silhouette: bool = True  # let masks pull on pose and shape, so that heavy people are heavy
