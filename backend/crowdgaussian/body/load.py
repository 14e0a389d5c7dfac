# SPDX-License-Identifier: Apache-2.0
"""Find a body model by name, once."""

from functools import lru_cache
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

from .model import BodyModel
from .open_body import read_open_body
from .smplx_body import read_smplx

BODY_NAMES = ("open", "smplx")


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
    raise CrowdGaussianError(
        f"There is no body model '{name}'; choose one of {', '.join(BODY_NAMES)}."
    )
