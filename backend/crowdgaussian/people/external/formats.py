# SPDX-License-Identifier: Apache-2.0
"""A file or a folder that an estimator left behind -> its people, whichever program wrote it."""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError
from crowdgaussian_shared.formats.atomic import read_bytes
from crowdgaussian_shared.formats.json_fields import parse_json
from crowdgaussian_shared.geometry.rotations import matrix_to_axis_angle
from crowdgaussian_shared.geometry.skeleton import BODY_JOINTS, JOINT_INDEX, NUM_JOINTS
from crowdgaussian_shared.motion.read import read_frame

from ..fit.convert import NUM_KEYPOINTS
from .types import FoundPeople, array_names, check_found, read_arrays, read_tensors, tensor

# people.npz: the file that any estimator can write for us

FILE = "people.npz"
_POSED = {"pose": (None, NUM_JOINTS, 3), "transl": (None, 3)}
_POINTS = {"keypoints": (None, NUM_KEYPOINTS, 3)}
_MORE = {"betas": (None, None), "joints": (None, len(BODY_JOINTS), 3), "scores": (None,)}


def read_exchange(file: Path) -> FoundPeople:
    """The people of a people.npz.

    Raises:
        CrowdGaussianError: names the file and the array.
    """
    names = array_names(file)
    if names and not names & {"pose", "keypoints"}:
        raise DamagedFileError(f"{file} has neither pose nor keypoints; see docs/people.md.")
    needed = {"K": (3, 3), **(_POINTS if "keypoints" in names else _POSED)}
    return check_found(FoundPeople(f"{file}", **read_arrays(file, needed, _MORE)))


# People told by LHM's motion JSON: one file a person, one photo

_MAX_BYTES = 1 << 20


def read_lhm_json(files: list[Path]) -> FoundPeople:
    """The people of one photo, a file each; the camera is that of the first.

    Raises:
        CrowdGaussianError: names the file and the field.
    """
    pose, transl = np.zeros((len(files), NUM_JOINTS, 3)), np.zeros((len(files), 3))
    betas, K = [], None
    for k, file in enumerate(files):
        frame = parse_json(read_bytes(file, _MAX_BYTES), str(file))
        read_frame(frame, pose[k], transl[k])
        betas.append(
            [item.number() for item in frame.child("betas").items(1000)]
            if frame.has("betas")
            else []
        )
        if K is None and frame.has("focal") and frame.has("princpt"):
            focal, centre = frame.child("focal").vector(2), frame.child("princpt").vector(2)
            K = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1.0]])
    alike = len({len(row) for row in betas}) == 1 and betas[0]
    return check_found(
        FoundPeople(
            f"{files[0].parent}",
            K=K,
            pose=pose,
            transl=transl,
            betas=np.array(betas) if alike else None,
        )
    )


# Multi-HMR's people as its model returns them, saved by torch.save: a list of dictionaries

_BODY = len(BODY_JOINTS)
_NETWORK_JOINTS = (*range(_BODY), *range(25, 55), JOINT_INDEX["jaw"])  # rotvec's 53 in our order


def is_multihmr(record: object) -> bool:
    """Whether what a file holds is Multi-HMR's."""
    return isinstance(record, list) and all(
        isinstance(human, dict) and "rotvec" in human for human in record
    )


def read_multihmr(record: list[dict], file: Path) -> FoundPeople:
    """Its people; the camera is not in the file.

    Raises:
        CrowdGaussianError: names the file and what is wrong.
    """
    if not record:
        raise InputError(f"{file} holds nobody; use a photo that shows people.")
    pose = np.zeros((len(record), NUM_JOINTS, 3))
    pose[:, _NETWORK_JOINTS] = [tensor(h, "rotvec", (53, 3), file) for h in record]
    joints = [tensor(h, "j3d", (None, 3), file)[:_BODY] for h in record]
    betas = [tensor(h, "shape", (None,), file) for h in record]
    places = [tensor(h, "transl_pelvis", (1, 3), file)[0] for h in record]
    scores = [float(np.clip(np.asarray(h.get("scores", 1.0)), 0, 1)) for h in record]
    return check_found(
        FoundPeople(
            f"Multi-HMR's {file}",
            scores=np.array(scores),
            pose=pose,
            betas=np.array(betas),
            transl=np.array(places),
            joints=np.array(joints),
        )
    )


# PromptHMR's own output: output.pt of its image demo

SQUARE = 896  # pixels of the network's image


def is_prompthmr(record: object) -> bool:
    """Whether what a file holds is PromptHMR's."""
    return isinstance(record, dict) and {"rotmat", "transl", "cam_int"} <= set(record)


def read_prompthmr(record: dict, file: Path, photo: tuple[int, int]) -> FoundPeople:
    """Its people.

    Args:
        record: what the file holds.
        file: for messages.
        photo: height and width of the photo that was given to PromptHMR.

    Raises:
        CrowdGaussianError: names the file and what is wrong.
    """
    rotations = tensor(record, "rotmat", (None, _BODY, 3, 3), file)
    people = len(rotations)
    pose = np.zeros((people, NUM_JOINTS, 3))
    pose[:, :_BODY] = matrix_to_axis_angle(rotations)
    joints = tensor(record, "body_joints", (people, None, 3), file)
    camera = np.asarray(record["cam_int"].double()).reshape(-1, 3, 3)[0]
    return check_found(
        FoundPeople(
            f"PromptHMR's {file}",
            K=camera_of_photo(camera, photo),
            pose=pose,
            betas=tensor(record, "betas", (people, None), file),
            transl=tensor(record, "transl", (people, 3), file),
            joints=joints[:, :_BODY] if joints.shape[1] >= _BODY else None,
        )
    )


def camera_of_photo(square: np.ndarray, photo: tuple[int, int]) -> np.ndarray:
    """K of the letterboxed square as K of the photo.  # [3, 3]"""
    height, width = photo
    scale = SQUARE / max(height, width)
    border = (SQUARE - scale * np.array([width, height])) / 2
    K = square.copy()
    K[:2, 2] -= border
    K[:2] /= scale
    return K


# SAM 3D Body's own output: one dictionary a person, saved as .npz

KEYPOINTS_3D, KEYPOINTS_2D, PLACE = "pred_keypoints_3d", "pred_keypoints_2d", "pred_cam_t"
_EXACT = 3.0  # pixels: a camera that misses its own keypoints by more is another one


def is_sam3d_body(names: set[str]) -> bool:
    """Whether a file with these arrays is one of SAM 3D Body's people."""
    return {KEYPOINTS_3D, KEYPOINTS_2D, PLACE} <= names


def read_sam3d_body(files: list[Path]) -> FoundPeople:
    """The people of one photo, a file each.

    Raises:
        CrowdGaussianError: names the file and what is wrong.
    """
    bodies, seen = [], []
    for file in files:
        arrays = read_arrays(
            file, {KEYPOINTS_3D: (NUM_KEYPOINTS, 3), KEYPOINTS_2D: (NUM_KEYPOINTS, 2), PLACE: (3,)}
        )
        bodies.append(arrays[KEYPOINTS_3D] + arrays[PLACE])
        seen.append(arrays[KEYPOINTS_2D])
    source = f"SAM 3D Body's {files[0].parent}"
    keypoints, pixels = np.array(bodies, np.float64), np.array(seen, np.float64)
    check_found(FoundPeople(source, keypoints=keypoints))
    return FoundPeople(source, K=solve_camera(keypoints, pixels, source), keypoints=keypoints)


def solve_camera(points: np.ndarray, pixels: np.ndarray, source: str) -> np.ndarray:
    """K of the camera that sees points at pixels; SAM 3D Body's output always projects exactly.

    Args:
        points: [P, N, 3] camera axes, metres.
        pixels: [P, N, 2].
        source: for the message.

    Raises:
        DamagedFileError: no pinhole camera with square pixels does.
    """
    flat = (points[..., :2] / points[..., 2:]).reshape(-1, 2)
    seen = pixels.reshape(-1, 2)
    zero, one = np.zeros(len(flat)), np.ones(len(flat))
    rows = np.concatenate(
        [np.column_stack([flat[:, 0], one, zero]), np.column_stack([flat[:, 1], zero, one])]
    )
    values = seen.T.ravel()
    (focal, cx, cy), *_ = np.linalg.lstsq(rows, values, rcond=None)
    missed = np.abs(rows @ [focal, cx, cy] - values)
    if focal <= 0 or np.median(missed) > _EXACT:
        raise DamagedFileError(
            f"{source}: 3D and 2D keypoints do not belong to one camera; save the dictionaries "
            "of one photo as they are."
        )
    return np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])


_KNOWN = (
    "people.npz, SAM 3D Body's dictionaries as .npz, PromptHMR's output.pt, Multi-HMR's "
    "humans.pt, or LHM's .json"
)


def read_results(path: Path, photo: tuple[int, int]) -> FoundPeople:
    """Reads results, told apart by what the files hold.

    Args:
        path: a file, or a folder of them.
        photo: height and width of the photo that the estimator saw.

    Raises:
        CrowdGaussianError: nothing there is known, or a file is damaged.
    """
    files = _files(path)
    archives = [file for file in files if file.suffix == ".npz"]
    own = [file for file in archives if file.name == FILE] or (archives if path.is_file() else [])
    theirs = [file for file in archives if is_sam3d_body(array_names(file))]
    if theirs:
        return read_sam3d_body(theirs)
    if own:
        return read_exchange(own[0])
    for file in files:
        if file.suffix in (".pt", ".pth"):
            record = read_tensors(file)
            if is_prompthmr(record):
                return read_prompthmr(record, file, photo)
            if is_multihmr(record):
                return read_multihmr(record, file)
    texts = [file for file in files if file.suffix == ".json"]
    if texts:
        return read_lhm_json(texts)
    raise InputError(f"{path} holds no people that can be read; expected {_KNOWN}.")


def _files(path: Path) -> list[Path]:
    try:
        return [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file())
    except OSError as error:
        raise MissingFileError(
            f"{path} cannot be read ({error.strerror}); give the results of an estimator."
        ) from error
