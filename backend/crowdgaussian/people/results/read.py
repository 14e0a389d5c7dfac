# SPDX-License-Identifier: Apache-2.0
"""A file or a folder that an estimator left behind -> its people, whichever program wrote it."""

from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

from .arrays import array_names
from .exchange import FILE, read_exchange
from .lhm_json import read_lhm_json
from .multihmr_humans import is_multihmr, read_multihmr
from .prompthmr import is_prompthmr, read_prompthmr
from .sam3d_body import is_sam3d_body, read_sam3d_body
from .tensors import read_tensors
from .types import FoundPeople

_KNOWN = ("people.npz, SAM 3D Body's dictionaries as .npz, PromptHMR's output.pt, Multi-HMR's "
          "humans.pt, or LHM's .json")


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
    raise CrowdGaussianError(f"{path} holds no people that can be read; expected {_KNOWN}.")


def _files(path: Path) -> list[Path]:
    try:
        return [path] if path.is_file() else sorted(f for f in path.iterdir() if f.is_file())
    except OSError as error:
        raise CrowdGaussianError(
            f"{path} cannot be read ({error.strerror}); give the results of an estimator."
        ) from error
