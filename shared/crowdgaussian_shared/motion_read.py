# SPDX-License-Identifier: Apache-2.0
"""Any motion file: by its kind."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import CrowdGaussianError
from .motion import Motion
from .motion_bvh import BvhOptions, read_motion_bvh
from .motion_json import JsonOptions, is_motion_folder, read_motion_json
from .motion_npz import NpzOptions, read_motion_npz
from .motion_upright import UpAxis


@dataclass(frozen=True)
class ReadOptions:
    """What a file may not say; None and "auto" trust the file or find out."""

    up: UpAxis | Literal["auto"] = "auto"
    fps: float | None = None
    unit: float | None = None  # metres, of a BVH


def read_motion(path: str | Path, options: ReadOptions = ReadOptions()) -> Motion:
    """Read an AMASS or SMPL-X .npz, a .bvh, or an LHM folder of JSON files (or one of them).

    Raises:
        CrowdGaussianError: no such file, of no known kind, or broken.
    """
    path = Path(path)
    if not path.exists():
        raise CrowdGaussianError(f"{path} does not exist; choose a motion file.")
    if path.suffix.lower() == ".json":
        path = path.parent
    if path.is_dir() and is_motion_folder(path):
        return read_motion_json(path, JsonOptions(options.fps or JsonOptions.fps))
    if path.suffix.lower() == ".npz":
        return read_motion_npz(path, NpzOptions(options.up, options.fps))
    if path.suffix.lower() == ".bvh":
        return read_motion_bvh(path, BvhOptions(options.up, options.unit, options.fps))
    raise CrowdGaussianError(
        f"{path} is no motion that can be read; choose an .npz of AMASS or SMPL-X, a .bvh, or a "
        "folder of LHM's JSON files."
    )
