# SPDX-License-Identifier: Apache-2.0
"""The scene folder: the one artefact the pipeline writes, the wire mirrors and the add-on imports.

Layout and meaning: docs/scene-folder.md. Every file is written beside and renamed, and scene.json
names a file only after it is whole, so the folder is valid at every moment.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DamagedFileError, InputError, MissingFileError
from ..formats import avatar_npz
from ..formats.atomic import read_bytes, write_bytes
from ..formats.json_fields import Field, parse_json
from ..formats.npz import read_npz, write_npz
from ..formats.png import decode_grey, encode_grey
from ..formats.splat_ply import write_splat_ply
from ..geometry.avatar import Avatar, Gaussians
from ..geometry.axes import convert_gaussians
from ..geometry.skinning import pose_avatar
from .json import scene_from_json, scene_to_json
from .schema import ModelProvenance, PersonEntry, SceneInfo, hash_bytes, resolve_inside

# timings.json: how long each part of a run took

TIMINGS_FILE = "timings.json"
_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True)
class Timings:
    """Seconds of one run; parts that were finished by an earlier run keep their times."""

    stages: dict[str, float] = field(default_factory=dict)
    people: dict[str, dict[str, float]] = field(default_factory=dict)  # by person, then step

    def of_person(self, index: int) -> dict[str, float]:
        """Seconds by step of one person; empty when unknown."""
        return self.people.get(str(index), {})


def read_timings(folder: Path) -> Timings:
    """The folder's timings; empty when there are none, as in a folder that came over the wire.

    Raises:
        DamagedFileError: the file is damaged.
    """
    path = folder / TIMINGS_FILE
    if not path.is_file():
        return Timings()
    root = parse_json(read_bytes(path, _LIMIT), str(path))
    people = root.child("people").members()
    return Timings(_seconds(root.child("stages")), {name: _seconds(p) for name, p in people})


def write_timings(folder: Path, timings: Timings) -> None:
    """Writes timings.json."""
    write_bytes(folder / TIMINGS_FILE, json.dumps(asdict(timings), indent=1).encode())


def _seconds(mapping: Field) -> dict[str, float]:
    return {name: value.number(low=0) for name, value in mapping.members()}


SCENE_FILE = "scene.json"
_SCENE_LIMIT = 64 << 20  # bytes
_MASK_LIMIT = 256 << 20  # bytes


class SceneFolder:
    """A scene folder on disk and what its scene.json says.

    Attributes:
        path: the folder.
        info: the content of scene.json, frozen; changed only through the methods below.
    """

    def __init__(self, path: Path, info: SceneInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def create(
        cls, path: str | Path, photo_bytes: bytes, suffix: str, info: SceneInfo
    ) -> "SceneFolder":
        """Start a folder: photo, then scene.json. A scene that is there already is replaced.

        Args:
            path: the folder; made when missing.
            photo_bytes: the upright photo, encoded.
            suffix: of the photo's format, such as ".jpg".
            info: photo.width, photo.height and photo.name as known; photo.file and photo.blake2b
                are filled in.

        Raises:
            ResourceError: the folder cannot be written.
        """
        path = Path(path)
        photo = replace(info.photo, file=f"photo{suffix}", blake2b=hash_bytes(photo_bytes))
        folder = cls(path, replace(info, photo=photo))
        write_bytes(folder.resolve(photo.file, "the photo"), photo_bytes)
        folder._save()
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "SceneFolder":
        """Open a folder and check its scene.json.

        Raises:
            MissingFileError: no scene there.
            DamagedFileError: it is damaged or of a newer version.
        """
        path = Path(path)
        scene_file = path / SCENE_FILE
        if not scene_file.is_file():
            raise MissingFileError(
                f"{path} is not a scene folder, it has no {SCENE_FILE}; reconstruct a photo first."
            )
        return cls(path, scene_from_json(read_bytes(scene_file, _SCENE_LIMIT), str(scene_file)))

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether a scene.json lies in the folder."""
        return (Path(path) / SCENE_FILE).is_file()

    def resolve(self, relative: str, where: str = SCENE_FILE) -> Path:
        """The full path of a file of the scene; leaving the folder is refused."""
        return resolve_inside(self.path, relative, where)

    @property
    def photo_path(self) -> Path:
        return self.resolve(self.info.photo.file, "photo.file")

    def update(self, **changes: Any) -> None:
        """Change fields of SceneInfo and write scene.json."""
        self._save(replace(self.info, **changes))

    def update_person(self, index: int, **changes: Any) -> None:
        """Change fields of one PersonEntry and write scene.json; dicts are merged, not replaced."""
        person = self._person(index)
        merged: dict[str, Any] = {
            name: {**getattr(person, name), **value} if isinstance(value, Mapping) else value
            for name, value in changes.items()
        }
        people = list(self.info.people)
        people[index] = replace(person, **merged)
        self.update(people=tuple(people))

    def fail_person(self, index: int, error: str) -> None:
        """Mark one person as failed, with the sentence to show."""
        self.update_person(index, state="failed", error=error)

    def add_model(self, model: ModelProvenance) -> None:
        """Name a model that had a hand in the result; the same one again replaces its entry."""
        others = (m for m in self.info.models if (m.stage, m.name) != (model.stage, model.name))
        self.update(models=(*others, model))

    @property
    def timings(self) -> Timings:
        """How long the parts of the run took; they are not in scene.json."""
        return read_timings(self.path)

    def add_timing(self, stage: str, seconds: float) -> None:
        """Write down how long a stage took."""
        old = self.timings
        write_timings(self.path, replace(old, stages={**old.stages, stage: float(seconds)}))

    def add_person_timings(self, index: int, seconds: Mapping[str, float]) -> None:
        """Write down how long the steps of one person took."""
        old = self.timings
        people = {**old.people, str(index): {**old.of_person(index), **seconds}}
        write_timings(self.path, replace(old, people=people))

    def write_avatar(self, index: int, avatar: Avatar) -> Path:
        """Write people/NNN/avatar.npz and name it in scene.json."""
        path = self._person_path(index, "avatar.npz")
        avatar_npz.write_avatar(path, avatar)
        self._name_file(index, "avatar", "avatar.npz", gaussians=len(avatar.gaussians))
        return path

    def read_avatar(self, index: int) -> Avatar:
        """Read one person; every array is checked.

        Raises:
            InputError: no avatar yet.
            DamagedFileError: the file is damaged.
        """
        return avatar_npz.read_avatar(self.person_file(index, "avatar"))

    def write_splats(self, index: int, gaussians: Gaussians | None = None) -> Path:
        """Write people/NNN/splats.ply: the person posed, in OpenCV world axes.

        Args:
            index: the person.
            gaussians: posed, scene frame; None poses the person's avatar as in the photo.
        """
        if gaussians is None:
            gaussians = pose_avatar(self.read_avatar(index))
        path = self._person_path(index, "splats.ply")
        write_splat_ply(path, convert_gaussians(gaussians, "scene", "opencv"))
        self._name_file(index, "splats", "splats.ply")
        return path

    def write_mask(self, index: int, mask: np.ndarray, kind: str = "mask") -> Path:
        """Write people/NNN/mask.png (or amodal.png), white where the person is.

        Args:
            index: the person.
            mask: [H, W] bool, the size of the photo.
            kind: "mask" for what is visible, "amodal" for the whole silhouette.
        """
        size = (self.info.photo.height, self.info.photo.width)
        if np.shape(mask) != size:
            raise InputError(
                f"A mask of shape {np.shape(mask)} does not fit the photo of shape {size}."
            )
        path = self._person_path(index, f"{kind}.png")
        write_bytes(path, encode_grey(np.where(mask, 255, 0).astype(np.uint8)))
        self._name_file(index, kind, f"{kind}.png")
        return path

    def read_mask(self, index: int, kind: str = "mask") -> np.ndarray:
        """Read a mask.  # [H, W] bool"""
        path = self.person_file(index, kind)
        image = decode_grey(read_bytes(path, _MASK_LIMIT), str(path))
        size = (self.info.photo.height, self.info.photo.width)
        if image.shape != size:
            raise DamagedFileError(
                f"{path} has the shape {image.shape}, but the photo has the shape {size}."
            )
        return image > 127

    def save_person_fit(self, index: int, arrays: Mapping[str, np.ndarray]) -> Path:
        """Write people/NNN/fit.npz: what a later run needs to resume this person."""
        path = self._person_path(index, "fit.npz")
        write_npz(path, arrays)
        self._name_file(index, "fit", "fit.npz")
        return path

    def read_person_fit(self, index: int) -> dict[str, np.ndarray]:
        """Read what save_person_fit wrote."""
        return read_npz(self.person_file(index, "fit"))

    def write_preview(self, name: str, png: bytes) -> Path:
        """Write previews/NAME and name it in scene.json."""
        relative = f"previews/{name}"
        path = self.resolve(relative, "the preview's name")
        write_bytes(path, png)
        self.update(previews=(*(p for p in self.info.previews if p != relative), relative))
        return path

    def person_file(self, index: int, kind: str) -> Path:
        """The full path of a person's file: fit, avatar, splats, mask or amodal.

        Raises:
            InputError: scene.json does not name it (yet).
        """
        person = self._person(index)
        if kind not in person.files:
            raise InputError(
                f"{self.path / SCENE_FILE}: people[{index}] has no {kind} yet ({person.state}); "
                "reconstruct the photo again to finish it."
            )
        return self.resolve(person.files[kind], f"people[{index}].files.{kind}")

    def _person(self, index: int) -> PersonEntry:
        if not 0 <= index < len(self.info.people):
            raise InputError(
                f"There is no person {index}; the scene has {len(self.info.people)} people."
            )
        return self.info.people[index]

    def _person_path(self, index: int, name: str) -> Path:
        self._person(index)
        return self.resolve(f"people/{index:03d}/{name}", "the person's file")

    def _name_file(self, index: int, kind: str, name: str, **changes: Any) -> None:
        self.update_person(index, files={kind: f"people/{index:03d}/{name}"}, **changes)

    def _save(self, info: SceneInfo | None = None) -> None:
        info = self.info if info is None else info
        write_bytes(self.path / SCENE_FILE, scene_to_json(info))
        self.info = info
