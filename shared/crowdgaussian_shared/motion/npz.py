# SPDX-License-Identifier: Apache-2.0
"""Motion in .npz files with SMPL-X parameters: AMASS and everybody who names the fields otherwise.

Read: whole poses of SMPL-X (55 joints), SMPL-H (52), SMPL (24) or the bare body (22), or the parts
under the names of AMASS or of the smplx package, as axis-angles or rotation matrices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import CrowdGaussianError, DamagedFileError, InputError
from ..formats.npz import ArrayHeader, read_npz, write_npz
from ..geometry.rotations import matrix_to_axis_angle
from ..geometry.skeleton import JOINT_INDEX, NUM_JOINTS
from .kinematics import adult_joints, global_turns, joint_paths, leg_length
from .motion import Motion, check_fps, check_frames, check_motion, find_contacts
from .upright import SCENE_FROM, UpAxis, upright

_WHOLE = ("poses", "pose", "smplx_poses", "smpl_poses", "fullpose", "full_pose")
_PARTS = {  # name of the part: (joints, names of its fields)
    "root": (1, ("root_orient", "global_orient", "root_pose", "global_orient_world")),
    "body": (21, ("pose_body", "body_pose")),
    "jaw": (1, ("pose_jaw", "jaw_pose")),
    "eyes": (2, ("pose_eye", "eye_pose")),
    "left eye": (1, ("leye_pose", "left_eye_pose")),
    "right eye": (1, ("reye_pose", "right_eye_pose")),
    "hands": (30, ("pose_hand", "hand_pose")),
    "left hand": (15, ("left_hand_pose", "pose_left_hand", "lhand_pose")),
    "right hand": (15, ("right_hand_pose", "pose_right_hand", "rhand_pose")),
}
_PLACE = {  # first joint of each part
    "root": 0, "body": 1, "jaw": 22, "eyes": 23, "left eye": 23, "right eye": 24,
    "hands": 25, "left hand": 25, "right hand": 40,
}  # fmt: skip
_TRANSL = ("trans", "transl", "translation", "root_trans", "smpl_trans", "root_transl")
_FPS = ("mocap_framerate", "mocap_frame_rate", "framerate", "frame_rate", "fps")
_SHAPE = ("betas", "shape")
_REST = "rest_joints"  # written by us: the skeleton, without which the model is needed
_UP = "up_axis"  # written by us: a person who lies has no axis to guess from
_ALL = {
    *_WHOLE, *_TRANSL, *_FPS, *_SHAPE, _REST, _UP,
    *(name for _, names in _PARTS.values() for name in names),
}  # fmt: skip
# Joints stored: (joints kept, where each goes).
_LAYOUTS: dict[int, tuple[int, ...]] = {
    55: tuple(range(55)),
    52: (*range(22), *range(25, 55)),
    24: tuple(range(22)),
    22: tuple(range(22)),
}
_DEFAULT_FPS = 30.0
_FEET = [JOINT_INDEX[n] for n in ("left_ankle", "right_ankle", "left_foot", "right_foot")]


@dataclass(frozen=True)
class NpzOptions:
    """What the file may not say."""

    up: UpAxis | Literal["auto"] = "auto"  # the axis that points up in the file
    fps: float | None = None  # None takes the file's


def read_motion_npz(path: str | Path, options: NpzOptions = NpzOptions()) -> Motion:
    """Read an AMASS or SMPL-X .npz.

    Raises:
        CrowdGaussianError: not such a file, damaged, of another skeleton, without frames, too
            long, or with NaNs.
    """
    path = Path(path)
    arrays = read_npz(path, lambda headers: _check_headers(path, headers), _ALL, ours=False)
    poses, notes = _read_poses(path, arrays)
    transl = _read_transl(path, arrays, len(poses))
    fps = options.fps or _read_fps(path, arrays, notes)
    motion = Motion(path.stem, check_fps(fps, str(path)), poses, transl,
                    betas=_read_betas(arrays), notes=tuple(notes))  # fmt: skip
    up = options.up
    if up == "auto":
        said = str(arrays.get(_UP))
        up = next((axis for axis in SCENE_FROM if axis == said), up)
    motion = upright(check_motion(motion, str(path)), up)
    return with_contacts(motion, _read_rest(path, arrays))


def with_contacts(motion: Motion, rest_joints: np.ndarray | None = None) -> Motion:
    """The motion with the feet that stand, on the skeleton it was made for if that is known."""
    rest = adult_joints() if rest_joints is None else rest_joints
    leg = leg_length(rest)
    paths = joint_paths(rest, global_turns(motion.poses), motion.transl)[:, _FEET]
    contacts = find_contacts(paths, motion.fps, leg)
    return replace(motion, contacts=contacts, leg=None if rest_joints is None else leg)


def write_motion_npz(
    path: str | Path, motion: Motion, rest_joints: np.ndarray, gender: str = "neutral"
) -> None:
    """Write a motion as AMASS does for SMPL-X, but y up, with the rest joints beside it.

    Args:
        path: the file.
        motion: in the scene frame.
        rest_joints: [55, 3] metres: where `transl` is counted from.
        gender: as AMASS names it.

    Raises:
        CrowdGaussianError: the motion is broken or the disk is full.
    """
    motion = check_motion(motion, motion.name)
    poses = motion.poses.reshape(motion.frames, -1).astype(np.float32)
    betas = np.zeros(10) if motion.betas is None else motion.betas
    write_npz(path, {
        "poses": poses,
        "root_orient": poses[:, :3],
        "pose_body": poses[:, 3:66],
        "pose_jaw": poses[:, 66:69],
        "pose_eye": poses[:, 69:75],
        "pose_hand": poses[:, 75:],
        "trans": motion.transl.astype(np.float32),
        "betas": np.asarray(betas, np.float32),
        "mocap_frame_rate": np.array(motion.fps, np.float64),
        "gender": np.array(gender),
        "surface_model_type": np.array("smplx"),
        _UP: np.array("y"),
        _REST: np.asarray(rest_joints, np.float32),
    })  # fmt: skip


def _check_headers(path: Path, headers: Mapping[str, ArrayHeader]) -> None:
    found = _pose_names(headers)
    if not found:
        raise InputError(
            f"{path} holds no poses: it has none of the arrays of an AMASS or SMPL-X file "
            "(poses, or root_orient and pose_body); objects inside are taken out by "
            "scripts/motion_to_npz.py."
        )
    for name in found:
        shape = headers[name].shape
        check_frames(shape[0] if shape else 0, f"{path}: {name}")
    for name, header in headers.items():
        if header.nbytes > 1 << 31:
            raise InputError(f"{path}: {name} is too large; cut it into parts.")
        if header.dtype.kind not in "iuf" and name != _UP:
            raise DamagedFileError(f"{path}: {name} must be numbers, not {header.dtype}.")


def _pose_names(names: Mapping[str, object]) -> list[str]:
    whole = _first(names, _WHOLE)
    if whole is not None:
        return [whole]
    found = {part: _first(names, fields) for part, (_, fields) in _PARTS.items()}
    return [n for n in found.values() if n] if found["body"] else []


def _first(names: Mapping[str, object], wanted: tuple[str, ...]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _read_poses(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    whole = _first(arrays, _WHOLE)
    if whole is not None:
        return _from_whole(path, whole, arrays[whole]), []
    notes: list[str] = []
    poses: np.ndarray | None = None
    for part, (count, fields) in _PARTS.items():
        name = _first(arrays, fields)
        if name is None:
            continue
        values = _as_joints(path, name, arrays[name])
        if values is None or values.shape[1] != count:
            values, note = _odd_part(path, part, name, arrays[name], values)
            notes.append(note)
        poses = np.zeros((len(arrays[name]), NUM_JOINTS, 3)) if poses is None else poses
        if values is None:
            continue
        if len(values) != len(poses):
            raise DamagedFileError(
                f"{path}: {name} has {len(values)} frames, the others {len(poses)}."
            )
        poses[:, _PLACE[part] : _PLACE[part] + values.shape[1]] = values
    return (np.zeros((0, NUM_JOINTS, 3)) if poses is None else poses), notes


def _odd_part(
    path: Path, part: str, name: str, array: np.ndarray, values: np.ndarray | None
) -> tuple[np.ndarray | None, str]:
    """SMPL's body of 23 joints loses its hands; hands as PCA are left out; else it is an error."""
    if part == "body" and values is not None and values.shape[1] == 23:
        return values[:, :21], f"{path.name} is of SMPL, which has no fingers."
    if "hand" in part and array.ndim == 2 and array.shape[1] < 45:
        return None, f"The hands of {path.name} are PCA coefficients and were left out."
    raise _wrong_skeleton(path, name, array.shape)


def _from_whole(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    values = _as_joints(path, name, array)
    if values is None or values.shape[1] not in _LAYOUTS:
        raise _wrong_skeleton(path, name, array.shape)
    layout = _LAYOUTS[values.shape[1]]
    poses = np.zeros((len(values), NUM_JOINTS, 3))
    poses[:, layout] = values[:, : len(layout)]
    return poses


def _as_joints(path: Path, name: str, array: np.ndarray) -> np.ndarray | None:
    """[T, J * 3], [T, J, 3] or [T, J, 3, 3] -> [T, J, 3] float64; None for other shapes."""
    if array.ndim >= 3 and array.shape[-2:] == (3, 3) and (array.ndim == 4 or array.shape[1] == 3):
        matrices = array.reshape(len(array), -1, 3, 3).astype(np.float64)
        if not np.isfinite(matrices).all():
            raise DamagedFileError(f"{path}: {name} holds NaNs; choose another motion.")
        return matrix_to_axis_angle(matrices)
    if array.ndim == 2 and array.shape[1] % 3 == 0 and array.shape[1]:
        return array.reshape(len(array), -1, 3).astype(np.float64)
    if array.ndim == 3 and array.shape[2] == 3:
        return array.astype(np.float64)
    return None


def _wrong_skeleton(path: Path, name: str, shape: tuple[int, ...]) -> CrowdGaussianError:
    return InputError(
        f"{path}: {name} of shape {'x'.join(map(str, shape))} is not of the skeleton of SMPL-X "
        "(55 joints), SMPL-H (52) or SMPL (24)."
    )


def _read_transl(path: Path, arrays: Mapping[str, np.ndarray], frames: int) -> np.ndarray:
    name = _first(arrays, _TRANSL)
    if name is None:
        return np.zeros((frames, 3))
    transl = arrays[name]
    if transl.ndim == 3 and transl.shape[1] == 1:
        transl = transl[:, 0]
    if transl.shape != (frames, 3):
        raise DamagedFileError(
            f"{path}: {name} must be one place for each of the {frames} frames, "
            f"not {'x'.join(map(str, transl.shape))}."
        )
    return transl.astype(np.float64)


def _read_fps(path: Path, arrays: Mapping[str, np.ndarray], notes: list[str]) -> float:
    name = _first(arrays, _FPS)
    if name is None:
        notes.append(f"{path.name} does not give its frame rate; {_DEFAULT_FPS:g} was taken.")
        return _DEFAULT_FPS
    if arrays[name].size != 1:
        raise DamagedFileError(f"{path}: {name} must be one number.")
    return float(arrays[name].reshape(-1)[0])


def _read_betas(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    name = _first(arrays, _SHAPE)
    if name is None or not arrays[name].size:
        return None
    betas = np.atleast_1d(arrays[name]).astype(np.float64)
    return betas if betas.ndim == 1 else np.median(betas.reshape(-1, betas.shape[-1]), axis=0)


def _read_rest(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if _REST not in arrays:
        return None
    rest = arrays[_REST].astype(np.float64)
    if rest.shape != (NUM_JOINTS, 3) or not np.isfinite(rest).all() or leg_length(rest) < 0.01:
        raise DamagedFileError(f"{path}: {_REST} is not a skeleton of {NUM_JOINTS} joints.")
    return rest
