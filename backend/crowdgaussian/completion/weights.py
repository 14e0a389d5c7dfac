# SPDX-License-Identifier: Apache-2.0
"""Which file the completion reads, and what its licence allows; what it says of itself.

Asking does not import torch: the service's broker asks too.
"""

from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError, DamagedFileError, MissingFileError

from ..avatar.types import CompleteConfig
from ..weights import OPEN_COMPLETION, WeightFile
from ..weights.local import UNKNOWN_LICENCE, UsedFile

STAGE, OWN_LICENCE = "completion", "Apache-2.0"
KIND = "crowdgaussian completion"  # what a file says of itself


def weights_path(config: CompleteConfig) -> Path:
    """The user's file, or the one that ships.

    Raises:
        CrowdGaussianError: it is missing, or the one that ships is another one.
    """
    if not config.weights:
        return OPEN_COMPLETION.checked_path()[0]
    path = Path(config.weights).expanduser()
    if not path.is_file():
        raise MissingFileError(
            f"complete.weights names {config.weights}, which is no file; give one that "
            "`crowdgaussian train completion` wrote, or leave it empty to use the one that ships."
        )
    return path


def used_files(config: CompleteConfig) -> list[WeightFile | UsedFile]:
    """The file that has a hand in the result; none where the rules do without it."""
    try:
        path = weights_path(config)
        if not config.weights:
            return [OPEN_COMPLETION]
        licence = read_facts(path).get("licence", UNKNOWN_LICENCE)
    except CrowdGaussianError:
        return []  # loading it says what is wrong
    terms = (f"completion {path.name}", licence, licence == OWN_LICENCE)
    return [UsedFile.at(path, terms, STAGE, f"The completion's file {path} is missing.")]


def read_facts(path: Path) -> dict[str, str]:
    """What a file says of itself.

    Raises:
        DamagedFileError: it cannot be read, or is of another network.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as stream:
            facts = stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise damaged(path) from error
    if facts.get("kind") != KIND:
        raise damaged(path)
    return facts


def damaged(path: Path) -> DamagedFileError:
    """The sentence about a file that cannot be used."""
    return DamagedFileError(
        f"{path} is damaged or holds weights of another architecture; get a whole copy."
    )
