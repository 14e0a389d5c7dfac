# SPDX-License-Identifier: Apache-2.0
"""Folders of single people to train on: the project's own layout, and HuGe100K's.

Own layout, one folder a person (the same that `crowdgaussian evaluate` reads; views are not used):

    NAME/image.png     RGB
    NAME/mask.png      8 bit, 128 and more is the person
    NAME/person.json   {"betas": [..], "pose": [[..] * 3] * 55, "transl": [..], "scale": 1,
                        "camera": {"K": 3 x 3, "viewmat": 4 x 4}}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    DamagedFileError,
    InputError,
    MissingFileError,
)
from crowdgaussian_shared.formats.npz import ArrayHeader, read_npz
from crowdgaussian_shared.geometry.avatar import BodyParams, HoldsBodyParams
from crowdgaussian_shared.geometry.camera import Camera
from torch import Tensor

from ...core.crop import read_image
from ...core.rotations import axis_angle_to_matrix, joint_transforms, skin
from ..inputs import HEAD_SIZE, body_crop, body_size, head_crop, head_points
from ..model.query_points import TemplateMesh
from .occlusion import Occluded, person_height, person_mask

# One person to learn from: a picture, who is in it, and how their body stands in it


@dataclass(frozen=True)
class TrainingPerson:
    """A picture of one complete person and the parameters of the network's body in it."""

    name: str
    photo: np.ndarray  # [H, W, 3] uint8 sRGB
    mask: np.ndarray  # [H, W] bool
    betas: np.ndarray  # [S] float32
    pose: np.ndarray  # [55, 3] float32 axis-angle, radians
    joints: np.ndarray  # [55, 2] in the picture, pixels
    head: np.ndarray  # [N, 2] skin of the head in the picture, pixels


@dataclass(frozen=True)
class BodyInPicture(HoldsBodyParams):
    """Where a body stands before the camera of its picture."""

    params: BodyParams
    camera: Camera


@dataclass(frozen=True)
class InputSizes:
    """Sizes of the two images that the network sees, pixels."""

    body: tuple[int, int] = body_size()  # height, width
    head: int = HEAD_SIZE
    photo_behind_head: bool = True  # as published: the head image keeps the picture's background


def place(
    name: str, photo: np.ndarray, mask: np.ndarray, body: BodyInPicture, mesh: TemplateMesh
) -> TrainingPerson:
    """Project a body into its picture.

    Raises:
        InputError: a parameter is not finite.
    """
    betas = fitting_betas(body.betas, mesh.shape_dirs.shape[2])
    pose = np.asarray(body.pose, np.float32)
    for what, value in (
        ("pose", pose),
        ("betas", betas),
        ("transl", body.transl),
        ("camera", body.camera.K),
        ("camera", body.camera.viewmat),
    ):
        if not np.isfinite(value).all():
            raise InputError(
                f"{name}: the {what} holds values that are no numbers; "
                "estimate this person again or leave them out."
            )
    vertices, joints = _posed(mesh, betas, pose, body)
    camera = body.camera
    pixels, _ = camera.project(joints)
    return TrainingPerson(
        name, photo, mask, betas, pose, pixels, head_points(vertices, mesh.parts, camera)
    )


def fitting_betas(betas: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` shape coefficients; missing ones are 0.  # [S] float32"""
    values = np.zeros(count, np.float32)
    given = np.asarray(betas, np.float32).reshape(-1)[:count]
    values[: len(given)] = given
    return values


def _posed(
    mesh: TemplateMesh, betas: np.ndarray, pose: np.ndarray, body: BodyInPicture
) -> tuple[np.ndarray, np.ndarray]:
    """Skin [V, 3] and joints [55, 3] in the frame of the camera's viewmat, metres."""
    shape = torch.from_numpy(betas)
    vertices = (mesh.vertices + mesh.shape_dirs @ shape) * body.scale
    rest = (mesh.joints + mesh.joint_dirs @ shape) * body.scale
    transl = torch.as_tensor(np.asarray(body.transl, np.float32))
    transforms, joints = joint_transforms(
        rest[None], axis_angle_to_matrix(torch.from_numpy(pose)[None]), transl[None]
    )
    posed = skin(vertices[None], mesh.skin_weights, transforms)[0]
    return posed.double().numpy(), joints[0].double().numpy()


def complete_inputs(person: TrainingPerson, sizes: InputSizes) -> tuple[Tensor, Tensor]:
    """What the teacher sees.  # [3, h, w] and [3, s, s] float32 0..1"""
    return _inputs(person, person.photo, person.mask, sizes)


def occluded_inputs(
    person: TrainingPerson, occluded: Occluded, sizes: InputSizes
) -> tuple[Tensor, Tensor]:
    """What the student sees: body and head image are framed as the complete person's.

    The pixels hidden in one image are hidden in the other.  # [3, h, w] and [3, s, s] float32
    """
    return _inputs(person, occluded.image, occluded.visible, sizes)


def _inputs(
    person: TrainingPerson, photo: np.ndarray, visible: np.ndarray, sizes: InputSizes
) -> tuple[Tensor, Tensor]:
    body = body_crop(photo, visible, person.mask, sizes.body).image
    shown = visible | ~person.mask if sizes.photo_behind_head else visible
    head = head_crop(photo, shown, person.head, sizes.head).image
    whole, face = (
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0))) for image in (body, head)
    )
    return whole, face


# Reading HuGe100K (Zhuang et al. 2025, IDOL): pictures in videos/, parameters in param/

_PARTS = (
    ("scale", 1),
    ("transl", 3),
    ("root", 3),
    ("body", 63),
    ("betas", 10),
    ("left", 45),
    ("right", 45),
    ("jaw", 3),
    ("left_eye", 3),
    ("right_eye", 3),
    ("expression", 10),
)
_POSE = ("root", "body", "jaw", "left_eye", "right_eye", "left", "right")  # the order of 55 joints
_SHAPES = {
    "smpl_params": (sum(count for _, count in _PARTS),),
    "viewmat": (4, 4),
    "intrinsics": (4,),
}
_PLAIN = 14  # levels that a plain background may differ from its corner
_SILHOUETTE = (0.02, 0.8)  # of the picture


def find_huge100k(folder: Path) -> dict[str, Path]:
    """Parameter files by name; images with the same name in several parts get the part's name.

    Raises:
        InputError: only the data set's pickles are there.
    """
    found: dict[str, Path] = {}
    if not any(folder.glob("**/param/*.npz")) and any(folder.glob("**/param/*.npy")):
        raise InputError(
            f"{folder} holds HuGe100K's pickles, which are not read; run "
            f"`python scripts/huge100k_to_npz.py {folder}` once."
        )
    for path in sorted(folder.glob("**/param/*.npz")):
        batch = path.parent.parent.relative_to(folder).as_posix()
        found[path.stem if batch == "." else f"{batch}/{path.stem}"] = path
    return found


def read_huge100k(path: Path) -> tuple[np.ndarray, np.ndarray, BodyInPicture]:
    """Picture [H, W, 3] uint8, mask [H, W] bool and body of one parameter file.

    Raises:
        CrowdGaussianError: a file is missing, damaged or not of this layout, or no mask is there
            and the background is not plain.
    """
    photo = read_image(path.parent.parent / "videos" / f"{path.stem}.jpg")
    values, viewmat, (fx, fy, cx, cy) = _parameters(path)
    edges = np.cumsum([count for _, count in _PARTS])[:-1]
    parts = dict(zip([name for name, _ in _PARTS], np.split(values, edges), strict=True))
    pose = np.concatenate([parts[name] for name in _POSE]).reshape(-1, 3)
    camera = Camera(
        np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), viewmat, photo.shape[1], photo.shape[0]
    )
    drawn = path.parent.parent / "masks" / f"{path.stem}.png"
    mask = read_image(drawn, "L") >= 128 if drawn.is_file() else silhouette(photo)
    return photo, mask, BodyInPicture(BodyParams(parts["betas"], pose, np.zeros(3)), camera)


def silhouette(photo: np.ndarray) -> np.ndarray:
    """Everything that is not the plain background around it.  # [H, W, 3] uint8 -> [H, W] bool

    Raises:
        InputError: the background is not plain.
    """
    border = cv2.copyMakeBorder(
        photo, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=[int(v) for v in np.median(photo[0], axis=0)]
    )
    area = np.zeros((border.shape[0] + 2, border.shape[1] + 2), np.uint8)
    near = (_PLAIN,) * 3
    flags = 4 | (255 << 8) | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
    cv2.floodFill(border, area, (0, 0), 0, near, near, flags)
    mask = area[2:-2, 2:-2] == 0
    if not _SILHOUETTE[0] <= mask.mean() <= _SILHOUETTE[1]:
        raise InputError(
            "the background is not plain, so the person cannot be cut out; "
            "put a mask of the person beside it, in masks/."
        )
    return mask


def _parameters(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The 189 numbers, world to camera [4, 4], and fx, fy, cx, cy of the picture."""
    arrays = read_npz(path, _check_shapes, _SHAPES, ours=False)
    body, viewmat, lens = (arrays[name].astype(np.float64) for name in _SHAPES)
    return body, viewmat, lens


def _check_shapes(headers: Mapping[str, ArrayHeader]) -> None:
    for name, shape in _SHAPES.items():
        if name not in headers or headers[name].shape != shape:
            raise DamagedFileError(
                f"{name} of a HuGe100K file is missing or of another shape than {shape}; run "
                "scripts/huge100k_to_npz.py on the data set again."
            )


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
            raise MissingFileError(
                f"{self.folder} holds nobody to train on: neither NAME/{FILE} nor HuGe100K's "
                "videos/ and param/; see docs/training.md."
            )
        missing = sorted(set(names) - set(found))
        if missing:
            raise InputError(f"{self.folder} has no person named {missing[0]}.")
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
            raise InputError(f"{name}: {error}") from error
        return place(name, photo, mask, body, self.mesh)


def _read_own(path: Path) -> tuple[np.ndarray, np.ndarray, BodyInPicture]:
    photo, mask = (
        read_image(path.with_name("image.png")),
        read_image(path.with_name("mask.png"), "L"),
    )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        betas, pose, transl = (
            np.array(about[name], np.float64) for name in ("betas", "pose", "transl")
        )
        K, viewmat = (np.array(about["camera"][name], np.float64) for name in ("K", "viewmat"))
        if K.shape != (3, 3) or viewmat.shape != (4, 4) or transl.shape != (3,):
            raise ValueError("K must be 3 x 3, viewmat 4 x 4 and transl 3 numbers")
        camera = Camera(K, viewmat, photo.shape[1], photo.shape[0])
        params = BodyParams(betas.reshape(-1), pose, transl, float(about.get("scale", 1.0)))
        return photo, mask, BodyInPicture(params, camera)
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = f"the entry {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DamagedFileError(f"{path.name} does not describe a person: {reason}.") from error
