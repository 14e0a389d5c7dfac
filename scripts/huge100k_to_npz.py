# SPDX-License-Identifier: Apache-2.0
"""HuGe100K's parameter files as plain arrays, which training reads: python this.py FOLDER

They are pickles (param/NAME.npy), and the project reads no pickles. This script, run once by
whoever downloaded the data set, writes param/NAME.npz beside each, with the cameras of all frames
of videos/NAME.mp4 (poses[i] is frame i's; lorm/training/huge100k.py). Even here nothing but numpy
arrays and torch tensors is taken from a pickle; whatever else it asks for is refused.
"""

import sys
from pathlib import Path

import numpy as np
from crowdgaussian_shared.formats.npz import write_npz
from pickled_arrays import DAMAGE, ArraysOnly, convert_all

NUMBERS = 189


def convert(path: Path) -> Path:
    """Writes the arrays of one param/NAME.npy beside it.

    Raises:
        ValueError: it is no parameter file of HuGe100K; says why.
    """
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(stream)
            if shape != () or not dtype.hasobject:
                raise ValueError("it holds no dictionary")
            content = ArraysOnly(stream).load()
        about = content.item() if isinstance(content, np.ndarray) else content
        values = np.asarray(about["smpl_params"], np.float64).reshape(-1)
        cameras = [[np.asarray(part, np.float64) for part in pose[:2]] for pose in about["poses"]]
        right = all(v.shape == (4, 4) and k.shape == (4,) for v, k in cameras)
        if len(values) != NUMBERS or not cameras or not right:
            raise ValueError(f"it needs {NUMBERS} numbers and a camera for each frame")
    except DAMAGE as error:
        raise ValueError(str(error)) from error
    write_npz(
        path.with_suffix(".npz"),
        {
            "smpl_params": values,
            "viewmats": np.stack([viewmat for viewmat, _ in cameras]),
            "intrinsics": np.stack([lens for _, lens in cameras]),
        },
    )
    return path.with_suffix(".npz")


def main() -> int:
    """Converts every param/*.npy below a folder."""
    return convert_all(__doc__, "**/param/*.npy", convert)


if __name__ == "__main__":
    sys.exit(main())
