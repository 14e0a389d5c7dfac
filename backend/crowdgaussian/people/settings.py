# SPDX-License-Identifier: Apache-2.0
"""The options of the people stage."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PeopleConfig:
    """Options of KeypointFit; the defaults serve photos of a few to a dozen people."""

    max_people: int = 24  # the surest are kept
    min_relative_size: float = 0.25  # of the photo's usual people; below: background crowd
    min_score: float = 0.15  # 0..1, detection score below which a body is dropped
    focal_px: float | None = None  # pixels; overrides what the photo says about itself
    default_fov: float = 60.0  # degrees across the longer side when nothing is known
    camera_steps: int = 60  # optimiser steps: place and orientation
    pose_steps: int = 160  # optimiser steps: pose and shape
    ground_steps: int = 120  # optimiser steps after people were put on the floor
    use_silhouette: bool = True  # let masks pull on the body's shape
