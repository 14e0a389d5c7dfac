# SPDX-License-Identifier: Apache-2.0
"""Folders of single people to train on: the project's own layout, and HuGe100K's.

Own layout, one folder a person (the same that `crowdgaussian evaluate` reads; views are not used):

    NAME/image.png     RGB
    NAME/mask.png      8 bit, 128 and more is the person
    NAME/person.json   {"betas": [..], "pose": [[..] * 3] * 55, "transl": [..], "scale": 1,
                        "camera": {"K": 3 x 3, "viewmat": 4 x 4}}
"""

import json
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    DamagedFileError,
    InputError,
    MissingFileError,
)
from crowdgaussian_shared.geometry.avatar import BodyParams, HoldsBodyParams
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from torch import Tensor

from ...core.crop import read_image
from ...core.landmarks import ARMS, LEGS, Landmark
from ...core.progress import quiet_native_stderr
from ...core.rotations import axis_angle_to_matrix, joint_transforms, skin
from ..inputs import HEAD_SIZE, body_crop, body_size, head_crop, head_points
from ..model.query_points import TemplateMesh
from .huge100k import Read, find_huge100k, read_huge100k
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
    landmarks: np.ndarray | None = None  # [33, 2] MediaPipe's, pixels; far outside where not sure

    @property
    def keypoints(self) -> np.ndarray:
        """Where occluders are centred: what MediaPipe sees, as in the paper, or else the joints."""
        return self.joints if self.landmarks is None else self.landmarks


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
                f"the {what} holds values that are no numbers; "
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


# The people of a folder

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
        self.landmarks: dict[str, np.ndarray] = {}  # [33, 2] by name, see choose_people
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
        self.published = not own  # HuGe100K, whose files nobody here can mend

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
            read = read_huge100k if self.published else _read_own
            photo, mask, params, camera = read(self._files[name])
            mask = person_mask(photo, mask)
            person_height(mask)
            person = place(name, photo, mask, BodyInPicture(params, camera), self.mesh)
        except CrowdGaussianError as error:
            raise InputError(f"{name}: {error}") from error
        return replace(person, landmarks=self.landmarks.get(name))

    def only(self, landmarks: Mapping[str, np.ndarray | None]) -> "PeopleDataset":
        """The same folder with some of its people, and what MediaPipe sees of them."""
        some = copy(self)
        some.names = sorted(landmarks)
        some.landmarks = {name: xy for name, xy in landmarks.items() if xy is not None}
        return some


def read_names(path: Path | None) -> tuple[str, ...]:
    """Names of people in a text file, one a line; none without a file.

    Raises:
        CrowdGaussianError: the file is missing or names nobody.
    """
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MissingFileError(f"The list of people {path} cannot be read.") from error
    names = dict.fromkeys(line.strip() for line in lines if line.strip())
    if not names:
        raise InputError(f"{path} names nobody; write the name of one person a line.")
    return tuple(names)


def _read_own(path: Path) -> Read:
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
        return photo, mask, params, camera
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = f"the entry {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DamagedFileError(f"{path.name} does not describe a person: {reason}.") from error


# Who is trained on: people whose body lies where the picture shows it

_CHECK = np.array([*ARMS, *LEGS])  # landmarks that are joints of the body: shoulders to ankles
_CHECKED = [JOINT_INDEX[Landmark(index).joint] for index in _CHECK]
_NOWHERE = -1e6  # pixels: where a landmark is of which MediaPipe is not sure
_SURE = 0.5  # visibility times presence, from which a landmark counts; MediaPipe's own threshold
_FEWEST = 6  # sure ones of the twelve, without which nothing is said about a body
# Of the person's height, the mean distance of joints and landmarks. On the public sample of
# HuGe100K 0.02 with the frame's own camera and 0.15 for the JPG with poses[0]; on 32 made-up
# people, half of them in loose clothes, 0.008 to 0.027 with the right camera, 0.025 to 0.121 with
# that of a frame 45 degrees on (29 are over 0.04), 0.080 and more with that of the side. Higher
# lets wrong cameras through, lower loses people.
_APART = 0.04
_HEAD_SHOWN = 0.5  # of the head's skin that must lie on the person: less is a blank head image
_ROI = 1.25  # side of the first region over the person's longer side, as MediaPipe's own

Finder = Callable[[np.ndarray, np.ndarray], np.ndarray | None]


def landmark_finder() -> Finder:
    """Finds MediaPipe's landmarks [33, 2] of the person in a photo, given their mask.

    Raises:
        MissingFileError: MediaPipe is not installed.
    """
    try:
        from ...people.detect.landmark_net import PhotoPyramid, PoseNetwork, Roi
        from ...people.detect.tta import refine_roi
    except ImportError as error:
        raise MissingFileError(
            "People to train on are checked with MediaPipe: pip install --no-deps "
            "mediapipe==0.10.21."
        ) from error
    with quiet_native_stderr():
        network = PoseNetwork("full")

    def find(photo: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
        rows, columns = np.nonzero(mask)
        low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()])
        first = Roi((low + high) / 2, _ROI * float((high - low).max()))
        with quiet_native_stderr():
            seen = refine_roi(network, network, PhotoPyramid(photo), first)
        if seen is None:
            return None
        # Whole pixels: the same occluders whatever the processor's last digits are.
        return np.where(seen.confidence[:, None] >= _SURE, np.round(seen.xy), _NOWHERE)

    return find


def blank_head(person: TrainingPerson) -> str:
    """Why the head image would be blank; empty where most of the head's skin lies on the person."""
    height, width = person.mask.shape
    x, y = np.floor(person.head).clip(-1, max(height, width)).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if person.mask[y[inside], x[inside]].sum() >= _HEAD_SHOWN * len(person.head):
        return ""
    return "the head of the body is not on the person, so the head image would be blank"


def misfit(person: TrainingPerson, landmarks: np.ndarray | None) -> str:
    """Why a body is not where the picture shows the person; empty where it is.

    Args:
        person: with the body's joints in the picture.
        landmarks: what MediaPipe sees there, [33, 2]; None: nobody.
    """
    if landmarks is None:
        return "MediaPipe sees nobody in the picture"
    marked, joints = landmarks[_CHECK], person.joints[_CHECKED]
    sure = marked[:, 0] > _NOWHERE
    if sure.sum() < _FEWEST:
        return "MediaPipe sees too little of the person"
    apart = np.linalg.norm(marked[sure] - joints[sure], axis=1).mean()
    if not apart <= _APART * person_height(person.mask):
        return "the body is not where MediaPipe sees the person"
    return ""
