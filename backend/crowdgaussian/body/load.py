# SPDX-License-Identifier: Apache-2.0
"""Find a body model by name, once."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import SettingError
from crowdgaussian_shared.geometry.skeleton import NUM_JOINTS

from ..weights.local import Need, UsedFile, locate, used_file
from .model import BetasTable, BodyData, BodyModel, read_arrays
from .smplx_body import read_smplx

# The open body: the shipped file, made by scripts/build_open_body.py from CC0 data

SHIPPED = Path(__file__).with_name("open_body.npz")
_SLIDERS = ("sex", "age", "muscle", "weight", "height")
_KEYS = (
    "template",
    "directions",
    "joints",
    "joint_directions",
    "faces",
    "uv",
    "uv_faces",
    "mirror_vertices",
    "landmark_ids",
    "landmark_weights",
    "interior",
    "eyes",
    "skin_joints",
    "skin_weights4",
    "table_betas",
    "age_years",
    "age_slider",
    "licence",
    "source",
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
            for name in (
                "template",
                "joints",
                "joint_directions",
                "uv",
                "interior",
                "eyes",
                "landmark_ids",
                "landmark_weights",
            )
        },
    )


BODY_NAMES = ("open", "smplx")
_SMPLX = Need("body", "smplx", "", ("smplx",), "open")


def load_body(name: str = "open", path: str | Path | None = None) -> BodyModel:
    """Load a body model; the same name and path give the same object.

    Args:
        name: "open" (shipped, commercial use allowed) or "smplx" (the user's own SMPL-X file,
            non-commercial).
        path: for "smplx" the .npz, or a folder that holds SMPLX_NEUTRAL.npz; for "open" another
            file than the shipped one.

    Raises:
        CrowdGaussianError: an unknown name, or a file that is missing or not a body model.
    """
    return _load(name, None if path is None else Path(path).resolve())


@lru_cache(maxsize=4)
def _load(name: str, path: Path | None) -> BodyModel:
    if name == "open":
        return BodyModel(read_open_body(path))
    if name == "smplx":
        return BodyModel(read_smplx(path))
    raise SettingError(f"There is no body model '{name}'; choose one of {', '.join(BODY_NAMES)}.")


def open_model(settings: None = None, body: None = None) -> BodyModel:
    """Load the body model that ships, as a stage of the pipeline."""
    return load_body("open")


def smplx_model(settings: None = None, body: None = None) -> BodyModel:
    """Load the user's own SMPL-X, as a stage of the pipeline.

    Raises:
        CrowdGaussianError: its file is missing or not a body model.
    """
    return load_body("smplx", locate("", _SMPLX))


def smplx_files(settings: None = None) -> list[UsedFile]:
    """The file of the user's own SMPL-X.

    Raises:
        CrowdGaussianError: it is missing.
    """
    return [used_file("", _SMPLX)]
