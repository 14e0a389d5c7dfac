# SPDX-License-Identifier: Apache-2.0
"""One person to learn from: a picture, who is in it, and how their body stands in it."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.errors import InputError
from crowdgaussian_shared.geometry.avatar import BodyParams, HoldsBodyParams
from crowdgaussian_shared.geometry.camera import Camera
from torch import Tensor

from ...core.rotations import axis_angle_to_matrix, joint_transforms, skin
from ..inputs import HEAD_SIZE, body_crop, body_size, head_crop, head_points
from ..model.query_points import TemplateMesh
from .occlusion import Occluded


@dataclass(frozen=True)
class TrainingPerson:
    """A picture of one complete person and the parameters of the network's body in it."""

    name: str
    photo: np.ndarray  # [H, W, 3] uint8 sRGB
    mask: np.ndarray  # [H, W] bool
    betas: np.ndarray  # [S] float32
    pose: np.ndarray  # [55, 3] float32 axis-angle, radians
    joints: np.ndarray  # [55, 2] in the picture, pixels
    head: np.ndarray  # [N, 2] skin of the head in the picture, pixels


@dataclass(frozen=True)
class BodyInPicture(HoldsBodyParams):
    """Where a body stands before the camera of its picture."""

    params: BodyParams
    camera: Camera


@dataclass(frozen=True)
class InputSizes:
    """Sizes of the two images that the network sees, pixels."""

    body: tuple[int, int] = body_size()  # height, width
    head: int = HEAD_SIZE
    photo_behind_head: bool = True  # as published: the head image keeps the picture's background


def place(
    name: str, photo: np.ndarray, mask: np.ndarray, body: BodyInPicture, mesh: TemplateMesh
) -> TrainingPerson:
    """Project a body into its picture.

    Raises:
        InputError: a parameter is not finite.
    """
    betas = fitting_betas(body.betas, mesh.shape_dirs.shape[2])
    pose = np.asarray(body.pose, np.float32)
    for what, value in (
        ("pose", pose),
        ("betas", betas),
        ("transl", body.transl),
        ("camera", body.camera.K),
        ("camera", body.camera.viewmat),
    ):
        if not np.isfinite(value).all():
            raise InputError(
                f"{name}: the {what} holds values that are no numbers; "
                "estimate this person again or leave them out."
            )
    vertices, joints = _posed(mesh, betas, pose, body)
    camera = body.camera
    pixels, _ = camera.project(joints)
    return TrainingPerson(
        name, photo, mask, betas, pose, pixels, head_points(vertices, mesh.parts, camera)
    )


def fitting_betas(betas: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` shape coefficients; missing ones are 0.  # [S] float32"""
    values = np.zeros(count, np.float32)
    given = np.asarray(betas, np.float32).reshape(-1)[:count]
    values[: len(given)] = given
    return values


def _posed(
    mesh: TemplateMesh, betas: np.ndarray, pose: np.ndarray, body: BodyInPicture
) -> tuple[np.ndarray, np.ndarray]:
    """Skin [V, 3] and joints [55, 3] in the frame of the camera's viewmat, metres."""
    shape = torch.from_numpy(betas)
    vertices = (mesh.vertices + mesh.shape_dirs @ shape) * body.scale
    rest = (mesh.joints + mesh.joint_dirs @ shape) * body.scale
    transl = torch.as_tensor(np.asarray(body.transl, np.float32))
    transforms, joints = joint_transforms(
        rest[None], axis_angle_to_matrix(torch.from_numpy(pose)[None]), transl[None]
    )
    posed = skin(vertices[None], mesh.skin_weights, transforms)[0]
    return posed.double().numpy(), joints[0].double().numpy()


def complete_inputs(person: TrainingPerson, sizes: InputSizes) -> tuple[Tensor, Tensor]:
    """What the teacher sees.  # [3, h, w] and [3, s, s] float32 0..1"""
    return _inputs(person, person.photo, person.mask, sizes)


def occluded_inputs(
    person: TrainingPerson, occluded: Occluded, sizes: InputSizes
) -> tuple[Tensor, Tensor]:
    """What the student sees: body and head image are framed as the complete person's.

    The pixels hidden in one image are hidden in the other.  # [3, h, w] and [3, s, s] float32
    """
    return _inputs(person, occluded.image, occluded.visible, sizes)


def _inputs(
    person: TrainingPerson, photo: np.ndarray, visible: np.ndarray, sizes: InputSizes
) -> tuple[Tensor, Tensor]:
    body = body_crop(photo, visible, person.mask, sizes.body).image
    shown = visible | ~person.mask if sizes.photo_behind_head else visible
    head = head_crop(photo, shown, person.head, sizes.head).image
    whole, face = (
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0))) for image in (body, head)
    )
    return whole, face
