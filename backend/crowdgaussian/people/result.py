# SPDX-License-Identifier: Apache-2.0
"""From optimised bodies to the people that the stage hands on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from crowdgaussian_shared.rotations import matrix_to_axis_angle
from torch import Tensor

from .camera import project
from .detect import Detection
from .fit import Bodies, Fitter
from .pose_prior import relaxed_hands
from .targets import Targets
from .types import Person


def make_people(fitter: Fitter, bodies: Bodies, found: list[Detection], targets: Targets,
                flags: Sequence[tuple[str, ...]]) -> tuple[Person, ...]:
    """Persons in the frame of the fitter's camera, in the order of found."""
    errors = pixel_errors(fitter, bodies, targets)
    rest = fitter.points.rest_joints(bodies.betas, bodies.scale)[:, 0]
    hands = relaxed_hands().numpy()
    people = []
    for index, detection in enumerate(found):
        pose = np.concatenate([np.zeros((1, 3)), bodies.body_pose[index].numpy(), hands])
        pose[0] = matrix_to_axis_angle(bodies.orientation[index].double().numpy())
        people.append(Person(
            betas=bodies.betas[index].numpy().copy(), pose=pose.astype(np.float32),
            transl=(bodies.pelvis[index] - rest[index]).numpy(),
            scale=float(bodies.scale[index]), keypoints=detection.keypoints, box=detection.box,
            score=detection.score, person_mask=detection.person_mask,
            flags=tuple(flags[index]), reprojection_px=float(errors[index])))
    return tuple(people)


def pixel_errors(fitter: Fitter, bodies: Bodies, targets: Targets) -> Tensor:
    """Robust mean distance of the landmarks, photo pixels.  # [P]"""
    pixels = project(fitter.pose(bodies).landmarks, *fitter.camera)
    apart = (pixels - targets.xy).norm(dim=2).clamp_max(0.1 * targets.size[:, None])
    return (apart * targets.weight).sum(dim=1) / targets.weight.sum(dim=1).clamp_min(1e-6)


@contextmanager
def single_thread() -> Iterator[None]:
    """Tensors this small only lose time to threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
