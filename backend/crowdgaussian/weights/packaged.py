# SPDX-License-Identifier: Apache-2.0
"""A model file that comes with the project or with a Python package it needs."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import CrowdGaussianError

if TYPE_CHECKING:  # `crowdgaussian --help` reads this catalogue, and numpy is heavy
    from crowdgaussian_shared.scene_schema import ModelProvenance


@dataclass(frozen=True)
class WeightFile:
    """One model file and everything a user has to know about it."""

    name: str
    stage: str  # the stage that reads it
    purpose: str
    source: str
    version: str
    package: str  # Python package that carries the file
    file: str  # path inside that package
    digest: str  # hash_file of it; empty for a file of this repository
    licence: str
    commercial: bool  # whether results may be used commercially

    def path(self) -> Path:
        """Where the file lies on this machine.

        Raises:
            CrowdGaussianError: the package that carries it is not installed.
        """
        spec = find_spec(self.package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise CrowdGaussianError(
                f"The package {self.package}, which carries {self.name}, is not installed; "
                "run `make setup`."
            )
        return Path(folders[0]) / self.file

    def provenance(self) -> "ModelProvenance":
        """The entry for scene.json, after checking that the file is the one described here.

        Raises:
            CrowdGaussianError: the file is missing or another one.
        """
        from crowdgaussian_shared.scene_schema import ModelProvenance, hash_file

        found = hash_file(self.path())
        if self.digest and found != self.digest:
            raise CrowdGaussianError(
                f"The model file {self.path()} is not the one this version was made for; "
                "run `make setup` again."
            )
        return ModelProvenance(
            name=self.name, version=self.version, file=Path(self.file).name, blake2b=found,
            licence=self.licence, commercial=self.commercial, stage=self.stage,
        )
