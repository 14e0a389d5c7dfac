# SPDX-License-Identifier: Apache-2.0
"""Motion as LHM keeps it: a folder of JSON files, one for each frame, seen from a camera.

Each file holds root_pose, body_pose, jaw_pose, leye_pose, reye_pose, lhand_pose, rhand_pose as
axis-angles, trans in metres and betas, in an OpenCV camera's frame (y down).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import CrowdGaussianError
from .fields import Field, parse_json
from .files import read_bytes
from .motion import Motion, check_fps, check_frames, check_motion
from .motion_npz import with_contacts
from .motion_upright import level, upright
from .skeleton import NUM_JOINTS

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
            raise CrowdGaussianError(
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
        raise CrowdGaussianError(
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
