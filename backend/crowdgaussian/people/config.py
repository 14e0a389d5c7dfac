# SPDX-License-Identifier: Apache-2.0
"""The options of the people stages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PeopleConfig:
    """Options of the people stages; the defaults serve photos of a few to a dozen people.

    Files left empty are those of `crowdgaussian weights`.
    """

    max_people: int = 24  # the surest are kept
    min_relative_size: float = 0.25  # of the photo's usual people; below: background crowd
    min_score: float = 0.15  # 0..1, detection score below which a body is dropped
    default_fov: float = 55.0  # degrees across the longer side when the focal length is unknown
    pose_steps: int = 200  # optimiser steps for place, pose and shape of each body
    ground_steps: int = 100  # optimiser steps once people stand on the shared floor
    use_silhouette: bool = True  # let masks pull on pose and shape, so that heavy people are heavy
    boxes: str = ""  # "x0,y0,x1,y1;x0,y0,x1,y1" in pixels of the working photo: only these people
    multihmr: str = ""  # file of the Multi-HMR checkpoint
    multihmr_score: float = 0.3  # 0..1, from which on a patch holds a head
    smplx: str = ""  # SMPLX_NEUTRAL.npz or its folder, from which Multi-HMR's people get their size
    vitpose: str = ""  # folder of a ViTPose model as transformers saves it
    detector: str = ""  # folder of an RT-DETR model as transformers saves it
    detector_score: float = 0.4  # 0..1, from which on a box is a person
    command: str = ""  # "python my_estimator.py {photo} {out}" for stage "command"
    command_seconds: float = 1800.0  # after which the command is given up
    results: str = ""  # file or folder that an estimator wrote, for stage "results"
    program: str = ""  # which program made them, as in `crowdgaussian weights list`; its licence
