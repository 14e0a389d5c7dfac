# SPDX-License-Identifier: Apache-2.0
"""The open body: the shipped file, made by scripts/build_open_body.py from CC0 data."""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.skeleton import NUM_JOINTS

from .data import BetasTable, BodyData
from .files import read_arrays

SHIPPED = Path(__file__).with_name("open_body.npz")
_SLIDERS = ("sex", "age", "muscle", "weight", "height")
_KEYS = (
    "template", "directions", "joints", "joint_directions", "faces", "uv", "uv_faces",
    "mirror_vertices", "landmark_ids", "landmark_weights", "interior", "eyes", "skin_joints",
    "skin_weights4", "table_betas", "age_years", "age_slider", "licence", "source",
    *(f"table_{slider}" for slider in _SLIDERS),
)


def read_open_body(path: Path | None = None) -> BodyData:
    """Read the open body.

    Raises:
        CrowdGaussianError: the file is missing or is not an open body.
    """
    arrays = read_arrays(SHIPPED if path is None else path, _KEYS, "the open body")
    weights = np.zeros((len(arrays["template"]), NUM_JOINTS), dtype=np.float32)
    np.put_along_axis(
        weights, arrays["skin_joints"].astype(np.int64), arrays["skin_weights4"], axis=1
    )
    return BodyData(
        name="open",
        licence=str(arrays["licence"]),
        commercial=True,
        source=str(arrays["source"]),
        skin_weights=weights,
        faces=arrays["faces"].astype(np.int64),
        uv_faces=arrays["uv_faces"].astype(np.int64),
        mirror_vertices=arrays["mirror_vertices"].astype(np.int64),
        directions=arrays["directions"].astype(np.float32),
        table=BetasTable(
            axes=tuple(arrays[f"table_{slider}"] for slider in _SLIDERS),
            betas=arrays["table_betas"],
            age_years=arrays["age_years"],
            age_slider=arrays["age_slider"],
        ),
        **{
            name: arrays[name]
            for name in ("template", "joints", "joint_directions", "uv", "interior", "eyes",
                         "landmark_ids", "landmark_weights")
        },
    )
