# SPDX-License-Identifier: Apache-2.0
"""Options of the completion; which file it reads, and what that allows and says of itself.

Asking does not import torch: the service's broker asks too.
"""

from dataclasses import dataclass
from pathlib import Path

from crowdgaussian_shared.errors import CrowdGaussianError

from ..weights import OPEN_COMPLETION, WeightFile, local
from ..weights.local import UNKNOWN_LICENCE, UsedFile, trained_file

STAGE, OWN_LICENCE = "completion", "Apache-2.0"
KIND = "crowdgaussian completion"  # what a file says of itself


@dataclass(frozen=True)
class CompleteConfig:
    """Options of the completion stage, which colours what the photo does not show."""

    weights: str = ""  # a file of `crowdgaussian train completion`; empty: the one that ships
    share: float = 0.6  # 0..1 of an easy colour that the network has; the rest is the rules'


def weights_path(config: CompleteConfig) -> Path:
    """The user's file, or the one that ships.

    Raises:
        CrowdGaussianError: it is missing, or the one that ships is another one.
    """
    if not config.weights:
        return OPEN_COMPLETION.checked_path()[0]
    return trained_file(config.weights, "complete.weights", STAGE)


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
    return local.read_facts(path, KIND, STAGE)
