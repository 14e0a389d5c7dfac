# SPDX-License-Identifier: Apache-2.0
"""Fetching model files, with progress and resume; only ever when somebody asks for it.

Repositories come through huggingface_hub into a plain folder; other addresses through its
downloader. What arrived is written down (size, SHA-256) so that `verify` can tell later changes.
"""

import hashlib
import json
from pathlib import Path

from crowdgaussian_shared.errors import DiskFullError, MissingFileError, RemoteError

from .catalogue import RemoteFile, RemoteWeights, Source
from .local import files_of, folder_of, how, local_path, require
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
