# SPDX-License-Identifier: Apache-2.0
"""Which files of a scene folder are new, seen from the worker between two steps of the pipeline.

Every file that scene.json names, except what is private to the backend, is kept under its hash by
a hard link before it is announced; scene.json is announced after the files it names.
"""

import contextlib
import os
import shutil
from pathlib import Path

from crowdgaussian_shared.protocol.messages import Artifact
from crowdgaussian_shared.scene_folder import SCENE_FILE, SceneFolder
from crowdgaussian_shared.scene_schema import hash_file

PERSON_FILES = ("avatar", "splats", "mask", "amodal")  # fit.npz is the backend's own
Stamp = tuple[int, int, int]  # what changes when a file is replaced


class Announcer:
    """Watches one scene folder.

    Args:
        scene: the folder, which need not exist yet.
        objects: where the links go.
        known: hash by name of what was announced by an earlier run of the same job.
    """

    def __init__(self, scene: Path, objects: Path, known: dict[str, str]) -> None:
        self.artifacts: dict[str, Artifact] = {}
        self._scene = scene
        self._objects = objects
        self._known = dict(known)
        self._stamps: dict[str, Stamp] = {}

    def changes(self) -> list[Artifact]:
        """The artefacts that are new or changed since the last call."""
        scene_file = self._scene / SCENE_FILE
        if not scene_file.is_file() or _stamp(scene_file) == self._stamps.get(SCENE_FILE):
            return []
        info = SceneFolder.open(self._scene).info
        names = [info.photo.file, *info.previews]
        for person in info.people:
            names += [person.files[kind] for kind in PERSON_FILES if kind in person.files]
        found = [self._look(name) for name in (*names, SCENE_FILE)]
        return [artifact for artifact in found if artifact is not None]

    def _look(self, name: str) -> Artifact | None:
        """The artefact if it has to be announced."""
        path = self._scene / name
        stamp = _stamp(path)
        if stamp == self._stamps.get(name):
            return None
        artifact = Artifact(name, stamp[1], hash_file(path))
        _link(path, self._objects / artifact.blake2b)
        self._stamps[name] = stamp
        self.artifacts[name] = artifact
        if self._known.get(name) == artifact.blake2b:
            return None
        self._known[name] = artifact.blake2b
        return artifact


def _stamp(path: Path) -> Stamp:
    info = path.stat()
    return info.st_mtime_ns, info.st_size, info.st_ino


def _link(path: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where the file system knows no links."""
    with contextlib.suppress(FileExistsError):
        try:
            os.link(path, target)
        except FileExistsError:
            raise
        except OSError:
            beside = target.with_suffix(".part")
            shutil.copyfile(path, beside)
            os.replace(beside, target)
