# SPDX-License-Identifier: Apache-2.0
"""Model files that are not bundled: where they come from and what they allow."""

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """How the files are got."""

    HUB = "hub"  # a Hugging Face repository
    URL = "url"  # a public address
    MANUAL = "manual"  # the user must register, or take them out of an archive


@dataclass(frozen=True)
class RemoteFile:
    """One file of a model."""

    name: str  # path inside the repository, and inside the model's folder here
    size: int = 0  # bytes; 0: not known
    sha256: str = ""  # hex, or its published first digits; empty: not known


@dataclass(frozen=True)
class RemoteWeights:
    """One model that `crowdgaussian weights` knows."""

    name: str  # of the command line
    stage: str  # what uses it
    purpose: str
    source: Source
    place: str  # repository, address of the folder, or page to visit
    files: tuple[RemoteFile, ...]
    licence: str
    commercial: bool  # whether results may be used commercially
    revision: str = ""  # commit of the repository; empty: the newest, no revision is known
    megabytes: int = 0  # about, for the list; 0: not known
    gated: str = ""  # what has to be accepted before fetching
    instructions: str = ""  # of manual files: one sentence

    @property
    def size(self) -> int:
        """Bytes of all files, where all are known; else 0."""
        sizes = [file.size for file in self.files]
        return sum(sizes) if all(sizes) else 0

    @property
    def page(self) -> str:
        """Where a person can read about it."""
        return f"https://huggingface.co/{self.place}" if self.source is Source.HUB else self.place
