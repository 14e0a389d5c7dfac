# SPDX-License-Identifier: Apache-2.0
"""THuman2.1's fitted bodies as plain arrays, which are read: python this.py FOLDER

They are pickles (.../0001/smplx_param.pkl), and the project reads no pickles. This script, run once
by whoever downloaded the data set, writes smplx_param.npz beside each. Even here nothing but numpy
arrays and torch tensors is taken from a pickle; whatever else it asks for is refused.

Scans to 0525 have a translation in units of the scan, later ones transl in metres
(ytrock/THuman2.0-Dataset, issue 23); in the .npz all have transl.
"""

import sys
from pathlib import Path

import numpy as np
from crowdgaussian_shared.formats.npz import write_npz
from pickled_arrays import DAMAGE, ArraysOnly, convert_all

SIZES = {
    "global_orient": (3,),
    "body_pose": (63,),
    "jaw_pose": (3,),
    "leye_pose": (3,),
    "reye_pose": (3,),
    "left_hand_pose": (12, 45),
    "right_hand_pose": (12, 45),
    "betas": (10,),
}


def convert(path: Path) -> Path:
    """Writes the arrays of one smplx_param.pkl beside it.

    Raises:
        ValueError: it holds no body of THuman2.1; says why.
    """
    try:
        with path.open("rb") as stream:
            content = ArraysOnly(stream, encoding="latin1").load()
        about = {
            name: np.asarray(content[name], np.float64).reshape(-1)
            for name in (*SIZES, "scale", "translation", "transl")
            if name in content
        }
        scale = about.get("scale", np.ones(1))
        place = about["transl"] if "transl" in about else about["translation"] / scale
        wrong = [name for name, sizes in SIZES.items() if about[name].size not in sizes]
    except DAMAGE as error:
        raise ValueError(str(error)) from error
    if wrong or scale.shape != (1,) or place.shape != (3,):
        raise ValueError(f"{', '.join(wrong) or 'scale or transl'} has another size")
    arrays = {name: about[name] for name in SIZES}
    write_npz(path.with_suffix(".npz"), {**arrays, "scale": scale, "transl": place})
    return path.with_suffix(".npz")


def main() -> int:
    """Converts every smplx_param.pkl below a folder."""
    return convert_all(__doc__, "**/smplx_param.pkl", convert)


if __name__ == "__main__":
    sys.exit(main())
