# SPDX-License-Identifier: Apache-2.0
"""What every reader hands on: people in front of a camera, however their program tells them."""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from crowdgaussian_shared.errors import DamagedFileError, InputError
from crowdgaussian_shared.formats.npz import ArrayHeader, read_npz
from crowdgaussian_shared.geometry.axes import SCENE_FROM_OPENCV
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS
from torch import Tensor

from ...body.model import BodyModel
from ...core.device import float_tensor
from ...core.rotations import axis_angle_to_matrix
from ..fit.body_points import BodyPoints
from ..fit.convert import StartBodies, fit_3d_keypoints, fit_to_joints
from ..fit.fitter import Bodies

MAX_PEOPLE = 1000
_FAR = 1e4  # metres and pixels beyond which a number is damage


@dataclass(frozen=True)
class FoundPeople:
    """P people in OpenCV camera axes, metres and radians.

    Either `pose`, or `keypoints`; the first with the SMPL-X transl or with joints.
    """

    source: str  # for messages: the program and its file
    K: np.ndarray | None = None  # [3, 3] pixels of the photo that the program saw
    scores: np.ndarray | None = None  # [P] 0..1
    pose: np.ndarray | None = None  # [P, 55, 3] axis-angle, SMPL-X convention
    betas: np.ndarray | None = None  # [P, B] of SMPL-X
    transl: np.ndarray | None = None  # [P, 3] of SMPL-X
    joints: np.ndarray | None = None  # [P, 22, 3] the body's joints of SMPL-X
    keypoints: np.ndarray | None = None  # [P, 70, 3] the layout of mhr70

    def __len__(self) -> int:
        told = self.pose if self.pose is not None else self.keypoints
        return 0 if told is None else len(told)


def check_found(found: FoundPeople) -> FoundPeople:
    """The people, when they can be: same number everywhere, finite, in front of the camera.

    Raises:
        CrowdGaussianError: names the file and what is wrong in it.
    """
    people = len(found)
    if people == 0:
        raise InputError(f"{found.source} holds nobody; use a photo that shows people.")
    if people > MAX_PEOPLE:
        raise InputError(f"{found.source} holds {people} people; at most {MAX_PEOPLE}.")
    for name in ("scores", "pose", "betas", "transl", "joints", "keypoints", "K"):
        array = getattr(found, name)
        if array is None:
            continue
        if name != "K" and len(array) != people:
            raise DamagedFileError(
                f"{found.source}: {name} tells of {len(array)} people, the rest of {people}."
            )
        if not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > _FAR * 10:
            raise DamagedFileError(
                f"{found.source}: {name} holds values that are not finite or absurdly large."
            )
    place = found.keypoints.mean(axis=1) if found.keypoints is not None else found.transl
    if place is None and found.joints is not None:
        place = found.joints[:, 0]
    if place is None:
        raise DamagedFileError(f"{found.source} does not say where people are (transl).")
    if (place[:, 2] <= 0.1).any():
        raise DamagedFileError(
            f"{found.source}: person {int((place[:, 2] <= 0.1).argmax())} is not in front of the "
            "camera; positions must be in camera axes, z forward."
        )
    return found


# People that another program found, as bodies of the model that a run uses

_BODY = len(BODY_JOINTS)  # pelvis and body joints; jaw, eyes and fingers follow


def bodies_of(found: FoundPeople, body: BodyModel) -> StartBodies:
    """The run's own body model in the pose, place and size that were found.

    Keypoints are fitted; SMPL-X poses are taken over, and another body model takes the size from
    the joints where the program told them.

    Args:
        found: people in camera axes.
        body: the model of the run.
    """
    to_scene = _float(SCENE_FROM_OPENCV)
    if found.keypoints is not None:
        return fit_3d_keypoints(body, BodyPoints(body), found.keypoints @ SCENE_FROM_OPENCV.T)
    pose, people = _float(found.pose), len(found)
    betas = torch.zeros(people, body.num_betas)
    own = body.name == "smplx"
    if own and found.betas is not None:
        shared = min(body.num_betas, found.betas.shape[1])
        betas[:, :shared] = _float(found.betas[:, :shared])
    pelvis = _pelvis(found, body, betas)
    bodies = Bodies(
        to_scene @ axis_angle_to_matrix(pose[:, 0]),
        pose[:, 1:_BODY],
        pelvis @ to_scene.T,
        betas,
        torch.ones(people),
    )
    hands = pose[:, _BODY:]
    if found.joints is not None and not own:
        joints = torch.zeros(people, pose.shape[1], 3)
        joints[:, :_BODY] = _float(found.joints) @ to_scene.T
        bodies = fit_to_joints(body, joints, replace(bodies, pelvis=joints[:, 0]), hands)
    return StartBodies(bodies, hands)


def _pelvis(found: FoundPeople, body: BodyModel, betas: Tensor) -> Tensor:
    """Where the pelvis joint is, camera axes.  # [P, 3]"""
    if found.joints is not None:
        return _float(found.joints[:, 0])
    rest = body.joint_template + torch.tensordot(betas, body.joint_directions, dims=1)
    return _float(found.transl) + rest[:, 0]


def _float(array: np.ndarray | None) -> Tensor:
    assert array is not None  # or check_found would have found nobody, or no place for them
    return float_tensor(array)


# Arrays of .npz files from other programs, each with the shape it must have

Shape = tuple[int | None, ...]


def array_names(file: Path) -> set[str]:
    """Names in an .npz file; none when it is not one."""
    try:
        with zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def read_arrays(
    file: Path, needed: dict[str, Shape], optional: dict[str, Shape] | None = None
) -> dict[str, np.ndarray]:
    """The arrays, float64.

    Args:
        file: the .npz file; arrays that are not asked for stay unread.
        needed: shape by name, None where any length will do.
        optional: the same for arrays that may be missing.

    Raises:
        CrowdGaussianError: names the file and the array that is missing or misshapen.
    """
    present = array_names(file)
    missing = sorted(set(needed) - present)
    if present and missing:
        raise DamagedFileError(f"{file}: {missing[0]} is missing.")
    wanted = needed | {n: shape for n, shape in (optional or {}).items() if n in present}

    def check(headers: Mapping[str, ArrayHeader]) -> None:
        for name, shape in wanted.items():
            check_shape(headers[name].shape, shape, f"{file}: {name}")
            if headers[name].dtype.kind not in "fiu":
                raise DamagedFileError(f"{file}: {name} must hold numbers.")

    arrays = read_npz(file, check, set(wanted), ours=False)
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def check_shape(found: tuple[int, ...], wanted: Shape, what: str) -> None:
    """Raises CrowdGaussianError, which begins with `what`, unless the shape is as wanted."""
    if len(found) != len(wanted) or any(
        want not in (None, size) for want, size in zip(wanted, found)
    ):
        raise DamagedFileError(f"{what} is {_words(found)}, it must be {_words(wanted)}.")


def _words(shape: Shape) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape) or "a number"


# Files that torch.save wrote, read without unpickling anything but tensors

MAX_BYTES = 4 << 30


def read_tensors(file: Path) -> Any:
    """Whatever of dicts, lists, numbers and tensors the file holds, on the CPU.

    Raises:
        CrowdGaussianError: it is damaged, too large, or holds Python objects.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file} is larger than 4 GiB; save the results only.")
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DamagedFileError(
            f"{file} holds Python objects, which are not read; save tensors with torch.save."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedFileError(
            f"{file} cannot be read as a file of torch.save; run the estimator again."
        ) from error


def tensor(record: Any, name: str, shape: Shape, file: Path) -> np.ndarray:
    """A tensor of a dictionary with the wanted shape.  # float64

    Args:
        record: the dictionary.
        name: of the tensor.
        shape: None where any length will do.
        file: for the message.

    Raises:
        DamagedFileError: it is missing or has another shape.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, torch.Tensor | np.ndarray):
        raise DamagedFileError(f"{file}: {name} is missing.")
    array = np.asarray(
        value.detach().double() if isinstance(value, torch.Tensor) else value, np.float64
    )
    check_shape(array.shape, shape, f"{file}: {name}")
    return array
