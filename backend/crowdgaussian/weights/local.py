# SPDX-License-Identifier: Apache-2.0
"""Where fetched model files lie on this machine."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crowdgaussian_shared.errors import DamagedFileError, MissingFileError

from .catalogue import RemoteWeights, Source
from .table import find

if TYPE_CHECKING:  # `crowdgaussian --help` reads this module, and numpy is heavy
    from crowdgaussian_shared.scene.schema import ModelProvenance

VARIABLE = "CROWDGAUSSIAN_WEIGHTS"
PROMPTHMR = "CROWDGAUSSIAN_PROMPTHMR"  # the command that runs it; then the preset paper uses it


def weights_folder() -> Path:
    """The folder of all fetched weights: $CROWDGAUSSIAN_WEIGHTS, or the platform's user cache."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    return _user_cache() / "crowdgaussian" / "weights"


def _user_cache() -> Path:
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def folder_of(entry: RemoteWeights) -> Path:
    """The folder of one model, whether or not it is there."""
    return weights_folder() / entry.name


def files_of(entry: RemoteWeights) -> list[Path]:
    """Its files, whether or not they are there."""
    return [folder_of(entry) / file.name for file in entry.files]


def local_path(name: str) -> Path | None:
    """The file of a model, or its folder where it has several files; None where one is missing.

    Raises:
        SettingError: there is no such entry.
    """
    entry = find(name)
    files = files_of(entry)
    if not all(file.is_file() for file in files):
        return None
    return files[0] if len(files) == 1 else folder_of(entry)


def absent(entries: Iterable[RemoteWeights]) -> list[RemoteWeights]:
    """Those of which something is missing here."""
    return [entry for entry in entries if local_path(entry.name) is None]


def require(name: str) -> Path:
    """As local_path.

    Raises:
        MissingFileError: it is not there; the sentence says how to get it.
    """
    path = local_path(name)
    if path is None:
        way = how(find(name))
        raise MissingFileError(f"The weights '{name}' are not on this machine: {way}.")
    return path


def how(entry: RemoteWeights) -> str:
    """How to get a model, without a full stop."""
    if entry.source is Source.MANUAL:
        return entry.instructions.format(folder=folder_of(entry))
    gate = f" (first, at {entry.page}: {entry.gated})" if entry.gated else ""
    return f"run `crowdgaussian weights fetch {entry.name}`{gate}"


# The network files a stage really reads: the user's own, or those of the catalogue

_TENSORS = "model.safetensors"
UNKNOWN_LICENCE = "not known: the user's own file"


@dataclass(frozen=True)
class Need:
    """What a setting asks for."""

    stage: str  # "people" or "segment"
    user: str  # name of the stage as settings give it, such as "multihmr"
    setting: str  # full name of the setting, such as "people.multihmr"; empty: none
    names: tuple[str, ...]  # entries of the catalogue that serve, the best first
    default: str  # the bundled stage that needs no such file
    together: str = ""  # names of all that the stage needs, where that is more than this
    on_demand: tuple[str, ...] = ()  # entries that serve, too, where the setting names them

    def chosen(self, given: str = "") -> RemoteWeights | None:
        """The entry that serves: one that is here, or else the one to fetch.

        Args:
            given: what the setting says; None comes back where that is a file of the user's.
        """
        known = (*self.names, *self.on_demand)
        named = tuple(name for name in known if given in (name, find(name).place))
        if given and not named:
            return None
        names = named or self.names
        return find(next((name for name in names if local_path(name) is not None), names[0]))


@dataclass(frozen=True)
class UsedFile:
    """One model file that has a hand in the result."""

    name: str
    location: Path
    licence: str
    commercial: bool
    stage: str
    stamp: tuple[int, int]  # bytes and time of change: another content is another UsedFile
    digest: str = ""  # not known before it is read

    @classmethod
    def at(cls, path: Path, terms: tuple[str, str, bool], stage: str, missing: str) -> "UsedFile":
        """A file as it is now.

        Args:
            path: where it lies.
            terms: its name, its licence, and whether that allows commercial use.
            stage: which reads it.
            missing: the sentence where there is no such file.

        Raises:
            CrowdGaussianError: there is none.
        """
        if not path.is_file():
            raise MissingFileError(missing)
        name, licence, commercial = terms
        about = path.stat()
        stamp = (about.st_size, about.st_mtime_ns)
        return cls(name, path, licence, commercial, stage, stamp)

    def path(self) -> Path:
        """Where it lies."""
        return self.location

    def provenance(self) -> "ModelProvenance":
        """The entry for scene.json.

        Raises:
            CrowdGaussianError: the file cannot be read.
        """
        from crowdgaussian_shared.scene.schema import ModelProvenance, hash_file

        return ModelProvenance(
            name=self.name,
            version="",
            file=self.location.name,
            blake2b=hash_file(self.location),
            licence=self.licence,
            commercial=self.commercial,
            stage=self.stage,
        )


def locate(given: str, need: Need) -> Path:
    """The file or folder that a setting names, or else the first one that is on this machine.

    Raises:
        MissingFileError: there is none; one sentence says which file, from where, under which
            licence, and which bundled stage does without.
    """
    if given:
        path = Path(given).expanduser()
        if path.exists():
            return path
        if given in (*need.names, *need.on_demand):
            return require(given)
        raise MissingFileError(
            f"{need.setting} names {given}, which does not exist; correct it, or leave it empty "
            "to use what `crowdgaussian weights fetch` has fetched."
        )
    for name in need.names:
        if found := local_path(name):
            return found
    entry = find(need.names[0])
    way = f"run `crowdgaussian weights fetch {need.together}`" if need.together else how(entry)
    setting = f"or set {need.setting} to its place, " if need.setting else ""
    allowed = "" if entry.commercial else ", not for commercial use"
    raise MissingFileError(
        f"The {need.stage} stage '{need.user}' needs {_file(entry)} from {entry.page} "
        f"({entry.licence}{allowed}): {way}, {setting}or use the bundled default, "
        f"stages.{need.stage}={need.default}."
    )


def used_file(given: str, need: Need) -> UsedFile:
    """The same as an entry of the result's provenance.

    A file of the user that is called like one of the catalogue has its licence; of any other
    nothing is known, so its results are not for commercial use.
    """
    path = locate(given, need)
    file = path / _TENSORS if path.is_dir() else path
    missing = f"{path} holds no {_TENSORS}; download the model again."
    for entry in map(find, (*need.names, *need.on_demand)):
        if local_path(entry.name) == path or _is_called_like(entry, path):
            terms = (entry.name, entry.licence, entry.commercial)
            return UsedFile.at(file, terms, need.stage, missing)
    return UsedFile.at(file, (need.user, UNKNOWN_LICENCE, False), need.stage, missing)


def _file(entry: RemoteWeights) -> str:
    return next(
        (file.name for file in entry.files if file.name.endswith(_TENSORS)), entry.files[0].name
    )


def _is_called_like(entry: RemoteWeights, path: Path) -> bool:
    """Whether a path is called like an entry, its only file, or its repository."""
    if path.is_file():
        own = len(entry.files) == 1 and path.name == Path(entry.files[0].name).name
        return own or path.name.startswith(entry.name.replace("-", "_") + "_")
    return path.name in (entry.name, entry.place.rsplit("/", 1)[-1])


SMPLX = Need("body", "smplx", "", ("smplx",), "open")


def smplx_needs(_settings: None) -> tuple[Need, ...]:
    """What the body model "smplx" wants of the catalogue; here, for bodies import torch."""
    return (SMPLX,)


# Networks of our own, as `crowdgaussian train` writes them


def trained_file(given: str, setting: str, verb: str) -> Path:
    """The file that a setting names in place of the one that ships.

    Args:
        given: the setting's value.
        setting: its full name.
        verb: of `crowdgaussian train`, which writes such files.

    Raises:
        MissingFileError: there is no such file.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    raise MissingFileError(
        f"{setting} names {given}, which is no file; give one that `crowdgaussian train {verb}` "
        "wrote, or leave it empty to use the one that ships."
    )


def read_facts(path: Path, kind: str, verb: str) -> dict[str, str]:
    """What such a file says of itself; does not import torch.

    Args:
        path: of a safetensors file.
        kind: that it must say it is.
        verb: as trained_file.

    Raises:
        DamagedFileError: the file cannot be read, or is of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as stream:
            facts = stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DamagedFileError(
            f"{path} cannot be read as a {verb}'s safetensors file; check the path, or get a whole "
            "copy."
        ) from error
    if facts.get("kind") != kind:
        raise DamagedFileError(
            f"{path} holds weights of another architecture; give a {verb}'s file, as "
            f"`crowdgaussian train {verb}` writes it."
        )
    return facts
