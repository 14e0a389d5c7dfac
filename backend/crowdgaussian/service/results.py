# SPDX-License-Identifier: Apache-2.0
"""Results on disk: the scene folder the pipeline works in, and what has been announced of it.

    results/KEY/scene/         the pipeline's own folder; another run with this key goes on there
    results/KEY/objects/HASH   every announced file under its hash (a hard link), never changed

A file of the scene is replaced by renaming, so a link keeps the bytes it was made from.
"""

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from crowdgaussian_shared.files import read_bytes, write_bytes
from crowdgaussian_shared.protocol.messages import Artifact
from crowdgaussian_shared.scene_folder import SCENE_FILE
from crowdgaussian_shared.scene_json import scene_from_json, scene_to_json
from crowdgaussian_shared.scene_schema import hash_bytes

_SCENE_LIMIT = 64 << 20  # bytes
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class Results:
    """The results folder of a service."""

    root: Path
    trash: Path  # emptied in the background, since removing gigabytes takes time

    def scene(self, key: str) -> Path:
        """Where the pipeline writes."""
        return self.root / key / "scene"

    def objects(self, key: str) -> Path:
        return self.root / key / "objects"

    def open_folders(self, key: str) -> None:
        """Makes the folders of a result."""
        self.objects(key).mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def path(self, key: str, artifact: Artifact) -> Path:
        """The file that holds an announced artefact; the name plays no part in it."""
        return self.objects(key) / artifact.blake2b

    def drop_objects(self, key: str, hashes: list[str]) -> None:
        """Removes versions that nobody needs any more."""
        for name in hashes:
            (self.objects(key) / name).unlink(missing_ok=True)

    def discard(self, path: Path) -> None:
        """Moves a file or folder out of sight; the sweeper removes it."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, self.trash / secrets.token_hex(8))

    def discard_result(self, key: str) -> None:
        self.discard(self.root / key)

    def sweep(self) -> None:
        """Empties the trash."""
        for path in self.trash.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def size(self, key: str) -> int:
        """Bytes on disk; a file and its links count once."""
        files = (p.stat() for p in (self.root / key).rglob("*") if p.is_file())
        return sum({info.st_ino: info.st_size for info in files}.values())

    def renamed(self, key: str, artifacts: tuple[Artifact, ...],
                photo_name: str) -> tuple[Artifact, ...]:
        """The artefacts of a finished result for a photo of the same bytes with another name.

        Raises:
            CrowdGaussianError: a file of the result is missing or damaged.
        """
        old = next(a for a in artifacts if a.name == SCENE_FILE)
        info = scene_from_json(read_bytes(self.path(key, old), _SCENE_LIMIT))
        if info.photo.name == photo_name:
            return artifacts
        data = scene_to_json(replace(info, photo=replace(info.photo, name=photo_name)))
        new = Artifact(SCENE_FILE, len(data), hash_bytes(data))
        write_bytes(self.path(key, new), data)
        return tuple(new if a is old else a for a in artifacts)
