# SPDX-License-Identifier: Apache-2.0
"""Any motion file: by its kind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import InputError, MissingFileError, ResourceError
from ..formats.atomic import read_bytes
from ..formats.json_fields import Field, parse_json
from ..geometry.rotations import axis_angle_to_matrix
from ..geometry.skeleton import JOINT_INDEX, NUM_JOINTS, find_joints
from .bvh import Bvh, BvhJoint, read_bvh
from .motion import Motion, check_fps, check_frames, check_motion
from .npz import NpzOptions, read_motion_npz, with_contacts
from .retarget import Source, retarget
from .upright import UpAxis, level, upright

# Motion from BVH files, whatever their skeleton is called

_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class BvhOptions:
    """What a BVH does not say."""

    up: UpAxis | Literal["auto"] = "auto"
    unit: float | None = None  # metres; None guesses from the legs
    fps: float | None = None  # None takes the file's
    called: Mapping[str, str] = field(default_factory=dict)  # see find_joints


def read_motion_bvh(path: str | Path, options: BvhOptions = BvhOptions()) -> Motion:
    """Read a BVH and put its motion on the 55 joints.

    Raises:
        CrowdGaussianError: not a whole BVH, of a skeleton without a person's joints, or too long.
    """
    path = Path(path)
    bvh = read_bvh(path)
    fps = check_fps(options.fps or _whole_fps(1 / bvh.frame_time), str(path))
    names = [joint.name for joint in bvh.joints]
    parents = [joint.parent for joint in bvh.joints]
    rest = np.zeros((len(names), 3))
    for index, joint in enumerate(bvh.joints):
        rest[index] = joint.offset + (rest[joint.parent] if joint.parent >= 0 else 0)
    turns, places = _pose(bvh)
    pelvis = find_joints(names, parents, options.called).get(JOINT_INDEX["pelvis"], 0)
    ends = {i: rest[i] + joint.end for i, joint in enumerate(bvh.joints) if joint.end is not None}
    up = None if options.up == "auto" else options.up
    motion = retarget(Source(
        str(path), names, parents, rest, turns, places[pelvis], fps, ends, options.unit, up,
        options.called,
    ))  # fmt: skip
    return replace(motion, name=path.stem)


def _whole_fps(fps: float) -> float:
    """Frame times are rounded in the file: 59.9999 is 60."""
    return float(round(fps)) if abs(fps - round(fps)) < 1e-4 * fps else fps


def _pose(bvh: Bvh) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Orientations of all joints [T, J, 3, 3] and places of those near the root {j: [T, 3]}."""
    frames = len(bvh.values)
    turns = np.empty((frames, len(bvh.joints), 3, 3))
    places: dict[int, np.ndarray] = {}
    column = 0
    for index, joint in enumerate(bvh.joints):
        values = bvh.values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        local, place = _local(joint, values)
        if joint.parent < 0:
            turns[:, index], places[index] = local, place
        else:
            above = turns[:, joint.parent]
            turns[:, index] = above @ local
            places[index] = places[joint.parent] + np.einsum("tab,tb->ta", above, place)
    return turns, places


def _local(joint: BvhJoint, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation [T, 3, 3] and place [T, 3] relative to the parent.

    Rotations multiply in the order of the channels. Position channels replace the offset.
    """
    frames = len(values)
    turn = np.tile(np.eye(3), (frames, 1, 1))
    place = np.tile(joint.offset, (frames, 1))
    for k, channel in enumerate(joint.channels):
        axis = _AXES[channel[0]]
        if channel.endswith("rotation"):
            vector = np.zeros((frames, 3))
            vector[:, axis] = np.radians(values[:, k])
            turn = turn @ axis_angle_to_matrix(vector)
        elif channel.endswith("position"):
            place[:, axis] = values[:, k]
    return turn, place


# Motion as LHM keeps it: a folder of JSON files, one for each frame, seen from a camera

_FOLDER = "smplx_params"
_MAX_BYTES = 1 << 20
_DEFAULT_FPS = 30.0
_PARTS = (  # field, first joint, joints
    ("root_pose", 0, 1), ("body_pose", 1, 21), ("jaw_pose", 22, 1), ("leye_pose", 23, 1),
    ("reye_pose", 24, 1), ("lhand_pose", 25, 15), ("rhand_pose", 40, 15),
)  # fmt: skip
_NEEDED = ("root_pose", "body_pose")


@dataclass(frozen=True)
class JsonOptions:
    """What the files do not say."""

    fps: float = _DEFAULT_FPS


def is_motion_folder(path: Path) -> bool:
    """Whether a folder, or the folder smplx_params in it, holds numbered JSON files."""
    return bool(_numbered(_inner(path)))


def read_motion_json(path: str | Path, options: JsonOptions = JsonOptions()) -> Motion:
    """Read such a folder; its frames are brought upright.

    Args:
        path: the folder of the files, or the one that holds smplx_params.
        options: the frame rate.

    Raises:
        CrowdGaussianError: no frames, a frame that is missing or damaged, or NaNs.
    """
    folder = _inner(Path(path))
    files = _numbered(folder)
    check_frames(len(files), str(folder))
    numbers = [number for number, _ in files]
    for k, (number, _) in enumerate(files):
        if number != numbers[0] + k:
            raise MissingFileError(
                f"{folder} lacks frame {numbers[0] + k}, though it has frame {number}; "
                "complete the folder."
            )
    poses, transl = np.zeros((len(files), NUM_JOINTS, 3)), np.zeros((len(files), 3))
    betas = []
    for k, (_, file) in enumerate(files):
        frame = parse_json(read_bytes(file, _MAX_BYTES), str(file))
        read_frame(frame, poses[k], transl[k])
        if k == 0 and frame.has("betas"):
            betas = [item.number() for item in frame.child("betas").items(1000)]
    name = folder.parent.name if folder.name == _FOLDER else folder.name
    motion = Motion(name, check_fps(options.fps, str(folder)), poses, transl,
                    betas=np.array(betas) if betas else None)  # fmt: skip
    motion = with_contacts(upright(check_motion(motion, str(folder)), "-y"))
    levelled = level(motion)
    return motion if levelled is motion else with_contacts(levelled)


def _inner(path: Path) -> Path:
    return path / _FOLDER if (path / _FOLDER).is_dir() else path


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    try:
        files = [f for f in folder.iterdir() if re.fullmatch(r"\d{1,9}\.json", f.name)]
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be read ({error.strerror}); choose a folder of a motion."
        ) from error
    return sorted((int(file.stem), file) for file in files)


def read_frame(frame: Field, pose: np.ndarray, transl: np.ndarray) -> None:
    """Fill pose [55, 3] and transl [3] from one file; what it leaves out stays as it is."""
    for name, first, count in _PARTS:
        if name not in _NEEDED and not frame.has(name):
            continue
        field = frame.child(name)
        if count == 1:
            pose[first] = field.vector(3)
        else:
            pose[first : first + count] = field.matrix(count, 3)
    if frame.has("trans"):
        transl[:] = frame.child("trans").vector(3)


_PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".npy"}  # what scripts/motion_to_npz.py reads


@dataclass(frozen=True)
class ReadOptions:
    """What a file may not say; None and "auto" trust the file or find out."""

    up: UpAxis | Literal["auto"] = "auto"
    fps: float | None = None
    unit: float | None = None  # metres, of a BVH
    called: Mapping[str, str] = field(default_factory=dict)  # joints' names in a BVH


def read_motion(path: str | Path, options: ReadOptions = ReadOptions()) -> Motion:
    """Read an AMASS or SMPL-X .npz, a .bvh, or an LHM folder of JSON files (or one of them).

    Raises:
        MissingFileError: no such file.
        InputError: of no known kind, or of another skeleton.
        DamagedFileError: it is broken.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; choose a motion file.")
    if path.suffix.lower() == ".json":
        path = path.parent
    if path.is_dir() and is_motion_folder(path):
        return read_motion_json(path, JsonOptions(options.fps or JsonOptions.fps))
    if path.suffix.lower() == ".npz":
        return read_motion_npz(path, NpzOptions(options.up, options.fps))
    if path.suffix.lower() == ".bvh":
        return read_motion_bvh(
            path, BvhOptions(options.up, options.unit, options.fps, options.called)
        )
    if path.suffix.lower() in _PICKLED:
        raise InputError(
            f"{path} may hold programs and is not opened; if you trust it, run in the project's "
            f"folder .venv/backend/bin/python scripts/motion_to_npz.py {path.name}, and choose the "
            ".npz that it writes."
        )
    raise InputError(
        f"{path} is no motion that can be read; choose an .npz of AMASS or SMPL-X, a .bvh, or a "
        "folder of LHM's JSON files."
    )
