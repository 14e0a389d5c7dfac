# SPDX-License-Identifier: Apache-2.0
"""Multi-HMR's people in the photo's own camera, as bodies of the model that a run uses."""

from dataclasses import replace

import numpy as np
import torch
from crowdgaussian_shared.axes import SCENE_FROM_OPENCV
from torch import Tensor

from ..body.model import BodyModel
from .camera import pixel_rays, turn_to_ray
from .fit import Bodies
from .letterbox import Letterbox
from .multihmr_body import HEAD, SmplxPeople, full_pose
from .multihmr_network import Humans
from .transfer import StartBodies, fit_to_joints

_BODY = 22  # pelvis and body joints; jaw, eyes and fingers follow
TRAINED_FOVS = (50.0, 70.0)  # degrees across the longer side that the network knows


def known_camera(K: np.ndarray, side: float) -> np.ndarray:
    """K with the nearest focal length that the network was trained for.  # [3, 3]

    Args:
        K: of the photo.
        side: its longer side, pixels.
    """
    near, far = (side / 2 / np.tan(np.radians(fov) / 2) for fov in TRAINED_FOVS)
    factor = float(np.clip(K[0, 0], far, near) / K[0, 0])
    return K * np.array([[factor, 1, 1], [1, factor, 1], [1, 1, 1]])


def in_photo(humans: Humans, view: Letterbox, used: np.ndarray, K: np.ndarray) -> Humans:
    """People told for another camera, as the photo's own camera sees them.

    Their size in the photo stays, so distance grows with the focal length; they turn with their
    viewing ray.

    Args:
        humans: as the network gave them, on the CPU.
        view: the square that the network saw.
        used: [3, 3] the camera given to the network, in photo pixels.
        K: [3, 3] the photo's own.
    """
    loc = view.to_photo(humans.loc.double().numpy())
    rays = pixel_rays(loc, K)
    turns = np.stack([turn_to_ray(ray) @ turn_to_ray(seen).T
                      for ray, seen in zip(rays, pixel_rays(loc, used))])
    distance = humans.distance * float(K[0, 0] / used[0, 0])
    rotations = humans.rotations.clone()
    rotations[:, 0] = _float(turns) @ rotations[:, 0]
    return replace(humans, loc=_float(loc), distance=distance, rotations=rotations,
                   transl=_float(rays) * distance[:, None])


def start_bodies(humans: Humans, body: BodyModel, smplx: SmplxPeople | None) -> StartBodies:
    """The run's own body model in the pose and place of the network's people.

    SMPL-X takes the network's betas; another body is fitted to the joints of SMPL-X, or keeps its
    average shape where no SMPL-X file is at hand.
    """
    pose = full_pose(humans.rotations)
    people = len(pose)
    own = body.name == "smplx"
    betas = humans.betas[:, :body.num_betas] if own else torch.zeros(people, body.num_betas)
    rest = body.joint_template + torch.tensordot(betas, body.joint_directions, dims=1)
    posed = body(betas, pose, torch.zeros(people, 3))
    pelvis = humans.transl - posed.joints[:, HEAD] + rest[:, 0]
    to_scene = _float(SCENE_FROM_OPENCV)
    bodies = Bodies(to_scene @ humans.rotations[:, 0], pose[:, 1:_BODY], pelvis @ to_scene.T,
                    betas, torch.ones(people))
    hands = pose[:, _BODY:]
    if smplx is not None and not own:
        joints = smplx.place(humans, torch.eye(3)).j3d[:, :55] @ to_scene.T
        bodies = fit_to_joints(body, joints, replace(bodies, pelvis=joints[:, 0]), hands)
    return StartBodies(bodies, hands)


def _float(array: np.ndarray) -> Tensor:
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)
