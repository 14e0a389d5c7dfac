# SPDX-License-Identifier: Apache-2.0
"""Folders of single people to train on: the project's own layout, and HuGe100K's.

Own layout, one folder a person (the same that `crowdgaussian evaluate` reads; views are not used):

    NAME/image.png     RGB
    NAME/mask.png      8 bit, 128 and more is the person
    NAME/person.json   {"betas": [..], "pose": [[..] * 3] * 55, "transl": [..], "scale": 1,
                        "camera": {"K": 3 x 3, "viewmat": 4 x 4}}

HuGe100K is described in huge100k.py.
"""

import json
from pathlib import Path

import numpy as np
from crowdgaussian_shared.camera import Camera
from crowdgaussian_shared.errors import CrowdGaussianError

from .huge100k import find_huge100k, read_huge100k
from .image_files import read_image
from .occlude import person_mask
from .occlusion import person_height
from .points import TemplateMesh
from .training_person import BodyInPicture, TrainingPerson, place

FILE = "person.json"


class PeopleDataset:
    """People of a folder, read one by one when they are asked for.

    Args:
        folder: with NAME/person.json, or a part of HuGe100K.
        mesh: the network's body, for which the parameters are.
        names: only these; empty: everybody.

    Raises:
        CrowdGaussianError: there is nobody, or nobody of a name.
    """

    def __init__(self, folder: str | Path, mesh: TemplateMesh, names: tuple[str, ...] = ()):
        self.folder, self.mesh = Path(folder), mesh
        own = {path.parent.name: path for path in self.folder.glob(f"*/{FILE}")}
        found = own or find_huge100k(self.folder)
        if not found:
            raise CrowdGaussianError(
                f"{self.folder} holds nobody to train on: neither NAME/{FILE} nor HuGe100K's "
                "videos/ and param/; see docs/training.md.")
        missing = sorted(set(names) - set(found))
        if missing:
            raise CrowdGaussianError(f"{self.folder} has no person named {missing[0]}.")
        self.names = sorted(names or found)
        self._files = found
        self._read = _read_own if own else read_huge100k

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> TrainingPerson:
        """One person.

        Raises:
            CrowdGaussianError: a file is missing or damaged, the mask is empty, of another size
                than the image or of somebody smaller than 32 pixels, or the pose is not finite;
                begins with the person's name.
        """
        name = self.names[index]
        try:
            photo, mask, body = self._read(self._files[name])
            mask = person_mask(photo, mask)
            person_height(mask)
        except CrowdGaussianError as error:
            raise CrowdGaussianError(f"{name}: {error}") from error
        return place(name, photo, mask, body, self.mesh)


def _read_own(path: Path) -> tuple[np.ndarray, np.ndarray, BodyInPicture]:
    photo, mask = read_image(path.with_name("image.png")), read_image(path.with_name("mask.png"),
                                                                      "L")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        arrays = [np.array(about[name], np.float64) for name in ("betas", "pose", "transl")]
        K, viewmat = (np.array(about["camera"][name], np.float64) for name in ("K", "viewmat"))
        if K.shape != (3, 3) or viewmat.shape != (4, 4) or arrays[2].shape != (3,):
            raise ValueError("K must be 3 x 3, viewmat 4 x 4 and transl 3 numbers")
        camera = Camera(K, viewmat, photo.shape[1], photo.shape[0])
        return photo, mask, BodyInPicture(*arrays, camera, float(about.get("scale", 1.0)))
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = f"the entry {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CrowdGaussianError(f"{path.name} does not describe a person: {reason}.") from error
