# SPDX-License-Identifier: Apache-2.0
"""Fetching model files, with progress and resume; only ever when somebody asks for it.

Repositories come through huggingface_hub into a plain folder; other addresses through its
downloader. What arrived is written down (size, SHA-256) so that `verify` can tell later changes.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    DiskFullError,
    MissingFileError,
    RemoteError,
)
from crowdgaussian_shared.protocol.messages import DownloadState

from .catalogue import RemoteFile, RemoteWeights, Source, WeightFile
from .local import absent, files_of, folder_of, how, local_path, require, weights_folder
from .table import TABLE

RECORD = "fetched.json"


def fetch(entry: RemoteWeights) -> Path:
    """Downloads the files of a model that are not there yet.

    Returns:
        The file, or the folder where there are several.

    Raises:
        MissingFileError: they cannot be fetched by a program.
        RemoteError: the network fails, or what arrived is not what was published.
        DiskFullError: there is no room for them.
    """
    if entry.source is Source.MANUAL:
        raise MissingFileError(
            f"The weights '{entry.name}' cannot be fetched automatically: {how(entry)}."
        )
    folder = folder_of(entry)
    folder.mkdir(parents=True, exist_ok=True)
    record = read_record(entry)
    for file, path in zip(entry.files, files_of(entry), strict=True):
        if path.is_file() and file.name in record:
            continue
        _download(entry, file, path)
        record[file.name] = _checked(file, path)
        _write_record(folder / RECORD, record)
    return require(entry.name)


def check_room(entries: list[RemoteWeights]) -> None:
    """Whether the disk has room for what is missing of some models.

    Raises:
        DiskFullError: it has not.
    """
    needed = sum(entry.expected_bytes - bytes_here(entry) for entry in absent(entries))
    place = next(p for p in (weights_folder(), *weights_folder().parents) if p.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DiskFullError(
            f"{needed // 1_000_000:,} MB are to be fetched, and {place} has room for "
            f"{free // 1_000_000:,} MB; make room, or set $CROWDGAUSSIAN_WEIGHTS to another disk."
        )


def bytes_here(entry: RemoteWeights) -> int:
    """Bytes of a model that have arrived, unfinished files among them."""
    total = 0
    for path in folder_of(entry).rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue  # just renamed
    return total


def fetch_from_hub(repository: str, file: str) -> Path:
    """One file of a repository: the catalogue's copy where there is one, else downloaded.

    Raises:
        CrowdGaussianError: as fetch.
    """
    for entry in TABLE.values():
        if entry.place == repository and file in [known.name for known in entry.files]:
            return local_path(entry.name) or fetch(entry)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HTTPError

    try:
        return Path(hf_hub_download(repository, file))
    except (OSError, ValueError, HTTPError) as error:
        address = f"There is no folder '{repository}' here, and https://huggingface.co/{repository}"
        raise _problem(address, error) from error


def read_record(entry: RemoteWeights) -> dict[str, dict]:
    """{file: {"size": .., "sha256": ..}} of what was fetched; empty where nothing was."""
    try:
        return json.loads((folder_of(entry) / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_record(path: Path, record: dict) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
    partial.replace(path)


def _checked(file: RemoteFile, path: Path) -> dict:
    size, digest = path.stat().st_size, sha256_of(path)
    if (file.size and size != file.size) or not digest.startswith(file.sha256):
        path.unlink()
        raise RemoteError(
            f"What arrived as {file.name} is not the published file (size or hash differ) and was "
            "deleted; try again later."
        )
    return {"size": size, "sha256": digest}


def _download(entry: RemoteWeights, file: RemoteFile, path: Path) -> None:
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity(hub_logging.CRITICAL)  # it tells of each retry; we of the outcome
    try:
        if entry.source is Source.HUB:
            from huggingface_hub import hf_hub_download

            hf_hub_download(
                entry.place, file.name, revision=entry.revision or None, local_dir=folder_of(entry)
            )
        else:
            _download_url(f"{entry.place}/{file.name}", path, file.size)
    except (OSError, ValueError, HTTPError) as error:
        raise _problem(entry.page, error) from error


def _download_url(url: str, path: Path, size: int) -> None:
    from huggingface_hub.file_download import http_get

    partial = path.with_name(path.name + ".part")
    with partial.open("ab") as stream:
        http_get(
            url,
            stream,
            resume_size=stream.tell(),
            expected_size=size or None,
            displayed_filename=path.name,
        )
    partial.replace(path)


def _problem(place: str, error: Exception) -> RemoteError | DiskFullError:
    """What went wrong and what to do, in one sentence."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return RemoteError(
            f"{place} is gated: accept its licence there, log in with `hf auth login`, and "
            "fetch again."
        )
    if isinstance(
        error,
        errors.RepositoryNotFoundError | errors.EntryNotFoundError | errors.RevisionNotFoundError,
    ) and not isinstance(error, errors.LocalEntryNotFoundError):
        return RemoteError(
            f"{place} does not have this file any more; look for the model's new place."
        )
    if isinstance(error, OSError) and error.errno == 28:
        return DiskFullError(f"The disk is full, so {place} could not be fetched; free some space.")
    return RemoteError(
        f"{place} cannot be reached; check the network (and HF_HUB_OFFLINE) and fetch again, "
        "which goes on where it stopped."
    )


# Whether the model files on this machine are the right ones

_V = 10475  # vertices of SMPL-X
_SMPLX = {
    "v_template": (_V, 3),
    "f": (20908, 3),
    "posedirs": (_V, 3, 486),
    "weights": (_V, 55),
    "J_regressor": (55, _V),
    "kintree_table": (2, 55),
    "lmk_faces_idx": (51,),
    "lmk_bary_coords": (51, 3),
}


@dataclass(frozen=True)
class Verdict:
    """About one model."""

    name: str
    state: str  # "ok", "missing", "wrong" or "unknown" (nothing to compare with)
    detail: str = ""


def verify(entry: RemoteWeights) -> Verdict:
    """Compares sizes and hashes with what is published, or else with what was fetched."""
    files = list(zip(entry.files, files_of(entry), strict=True))
    missing = [file.name for file, path in files if not path.is_file()]
    if missing:
        return Verdict(entry.name, "missing", ", ".join(missing))
    if entry.name == "smplx":
        return verify_smplx(files[0][1])
    record, unknown = read_record(entry), []
    for file, path in files:
        fault = _fault(file, path, record.get(file.name, {}))
        if fault:
            return Verdict(entry.name, "wrong", f"{file.name}: {fault}")
        if not file.sha256 and file.name not in record:
            unknown.append(file.name)
    if unknown:
        return Verdict(entry.name, "unknown", f"no hash is known of {', '.join(unknown)}")
    published = all(file.sha256 for file in entry.files)
    return Verdict(entry.name, "ok", "as published" if published else "unchanged since fetched")


def verify_packaged(file: WeightFile) -> Verdict:
    """As verify, of a bundled file."""
    try:
        file.provenance()
    except CrowdGaussianError as error:
        return Verdict(file.name, "missing" if not _exists(file) else "wrong", str(error))
    return Verdict(file.name, "ok", "as published" if file.digest else "part of this program")


def verify_smplx(path: Path) -> Verdict:
    """Whether a file has the arrays and shapes of SMPL-X; its hash is not published."""
    try:
        shapes = array_shapes(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        return Verdict("smplx", "wrong", f"{path.name} is no readable .npz: {error}")
    for key, shape in _SMPLX.items():
        if shapes.get(key) != shape:
            found = shapes.get(key, "missing")
            return Verdict("smplx", "wrong", f"{key} is {found} instead of {shape}")
    betas = shapes.get("shapedirs", (0, 0, 0))
    if betas[:2] != (_V, 3) or betas[2] < 10:
        return Verdict("smplx", "wrong", f"shapedirs is {betas} instead of ({_V}, 3, 10 or more)")
    return Verdict("smplx", "ok", "its arrays have SMPL-X's shapes; no hash is published")


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of a .npz, without reading them.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: no readable .npz.
    """
    shapes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shapes[member.removesuffix(".npy")] = read(stream)[0]
    return shapes


def _fault(file: RemoteFile, path: Path, fetched: dict) -> str:
    size = path.stat().st_size
    for wanted in (file.size, fetched.get("size", 0)):
        if wanted and size != wanted:
            return f"{size:,} bytes instead of {wanted:,}"
    wanted = [digest for digest in (file.sha256, fetched.get("sha256", "")) if digest]
    if wanted:
        digest = sha256_of(path)
        if not all(digest.startswith(start) for start in wanted):
            return f"its SHA-256 is {digest[:12]}.., not {wanted[0][:12]}.."
    return ""


def _exists(file: WeightFile) -> bool:
    try:
        return file.path().is_file()
    except CrowdGaussianError:
        return False


# A download in a process of its own, for a service that must not wait


class Downloads:
    """At most one `crowdgaussian weights fetch --preset NAME` for each preset.

    Args:
        done: called in a thread of its own after each that ended well.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._states: dict[str, tuple[DownloadState, str]] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, preset: str) -> None:
        """Begins, unless it is on its way."""
        if self.state(preset)[0] in ("running", "checking"):
            return
        command = [sys.executable, "-m", "crowdgaussian", "weights", "fetch", "--preset", preset]
        said = tempfile.TemporaryFile()
        process = subprocess.Popen(
            [*command, "--stop-with-parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        )
        self._processes[preset] = process
        self._states[preset] = ("running", "")
        threading.Thread(target=self._watch, args=(preset, process, said), daemon=True).start()

    def state(self, preset: str) -> tuple[DownloadState, str]:
        """How it stands, and why it failed."""
        return self._states.get(preset, ("idle", ""))

    def close(self) -> None:
        """Stops them; what has arrived stays for the next time."""
        for process in self._processes.values():
            process.kill()

    def _watch(self, preset: str, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        with process, said:
            code = process.wait()
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
        if code:
            last = lines[-1] if lines else ""
            why = last.removeprefix("crowdgaussian: ") if last else f"It ended with code {code}."
            self._states[preset] = ("failed", why)
            return
        self._states[preset] = ("checking", "")
        try:
            self._done()
        except Exception as error:  # noqa: BLE001  any: nobody else would say so, or try again
            why = str(error) if isinstance(error, CrowdGaussianError) else repr(error)
            self._states[preset] = ("failed", f"The files are here but cannot be checked: {why}")
            return
        self._states[preset] = ("done", "")
