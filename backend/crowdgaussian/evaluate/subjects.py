# SPDX-License-Identifier: Apache-2.0
"""The people of an evaluation: an image, how they stand, and how they look from all around.

A data set is a folder with one folder a person (docs/evaluation.md):

    NAME/image.png     RGB, the input
    NAME/mask.png      8 bit, 128 and more is the person
    NAME/person.json   body model, its parameters, the input's camera, and the views
    NAME/views/*.png   RGBA, what is really seen from there; alpha is the person
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from crowdgaussian_shared.errors import (
    CrowdGaussianError,
    DamagedFileError,
    InputError,
    MissingFileError,
    ResourceError,
    SettingError,
)
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skeleton import NUM_JOINTS
from PIL import Image, UnidentifiedImageError

from ..body import BodyModel
from ..core.mesh import face_normals, unit
from ..core.progress import Progress, Report, setting, silent
from ..people.types import Crowd, Person, person_from_parameters
from ..splat.cameras import Cameras
from ..synthetic.dressed import dressed_actor, held_out_look
from ..synthetic.people import draw_parameters, lit, on_white, render_rgba
from ..synthetic.scenes import Actor, painted_actor, turned_to_front

if TYPE_CHECKING:
    from ..synthetic.scans import MeshPeople

FILE = "person.json"


@dataclass(frozen=True)
class Subject:
    """One person with known looks. Views are read when they are asked for."""

    name: str
    photo: np.ndarray  # [H, W, 3] uint8 sRGB
    mask: np.ndarray  # [H, W] bool
    body_name: str  # of the model that the parameters are for
    crowd: Crowd  # just this person, with the input's camera
    cameras: Cameras  # of the views
    files: tuple[Path, ...]  # of the views

    @property
    def person(self) -> Person:
        """How they stand."""
        return self.crowd.people[0]

    @cached_property
    def truth(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Views on white [C, H, W, 3] float32 0..1, and which pixels show the person [C, H, W].

        Raises:
            CrowdGaussianError: a view is missing, damaged or of another size.
        """
        size = (self.cameras.height, self.cameras.width, 4)
        pixels = np.stack([_pixels(file, "RGBA", size) for file in self.files])
        alpha = pixels[..., 3:].astype(np.float32) / 255
        colour = pixels[..., :3].astype(np.float32) / 255 * alpha + 1 - alpha
        return torch.from_numpy(colour), torch.from_numpy(alpha[..., 0] >= 0.5)


def read_subjects(folder: str | Path, names: tuple[str, ...] = ()) -> list[Subject]:
    """Everybody in a data set, or those named.

    Raises:
        CrowdGaussianError: there is nobody, or a file is missing or wrong; names it.
    """
    folder = Path(folder)
    found = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
    if not found:
        raise MissingFileError(
            f"{folder} is no data set for an evaluation: it holds no NAME/{FILE}; see "
            "docs/evaluation.md, or make one with `crowdgaussian data people`."
        )
    unknown = sorted(set(names) - set(found))
    if unknown:
        raise InputError(f"{folder} has no person named {unknown[0]}.")
    return [read_subject(folder / name) for name in names or found]


def read_subject(folder: Path) -> Subject:
    """One person; errors as read_subjects."""
    path = folder / FILE
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        photo = _pixels(folder / "image.png", "RGB")
        mask = _pixels(folder / "mask.png", "L", photo.shape[:2]) >= 128
        camera = _camera(about["camera"], photo.shape[1], photo.shape[0])
        files = tuple(folder / view["image"] for view in about["views"])
        first = _pixels(files[0], "RGBA")
        cameras = Cameras.from_cameras(
            [_camera(view, first.shape[1], first.shape[0]) for view in about["views"]]
        )
        crowd = Crowd((_person(about, mask),), camera, "option", (True,))
        return Subject(folder.name, photo, mask, str(about["body"]), crowd, cameras, files)
    except (KeyError, TypeError, ValueError, IndexError, json.JSONDecodeError) as error:
        reason = f"the entry {error} is missing" if isinstance(error, KeyError) else str(error)
        raise DamagedFileError(f"{path} does not describe a person: {reason}.") from error
    except OSError as error:
        raise ResourceError(f"{path} cannot be read: {error.strerror}.") from error


def write_subject(folder: Path, subject: Subject, views: np.ndarray) -> None:
    """A person in the layout above.

    Args:
        folder: made when it is not there.
        subject: everything but the views' files.
        views: [C, H, W, 4] uint8 RGBA.
    """
    (folder / "views").mkdir(parents=True, exist_ok=True)
    Image.fromarray(subject.photo).save(folder / "image.png")
    Image.fromarray(subject.mask.astype(np.uint8) * 255).save(folder / "mask.png")
    person, entries = subject.person, []
    for index, (camera, view) in enumerate(zip(subject.cameras.to_cameras(), views, strict=True)):
        name = f"views/{index:03d}.png"
        Image.fromarray(view, "RGBA").save(folder / name)
        entries.append({"image": name, **_camera_entry(camera)})
    about = {
        "body": subject.body_name,
        "betas": person.betas.tolist(),
        "pose": person.pose.tolist(),
        "transl": person.transl.tolist(),
        "scale": float(person.scale),
        "camera": _camera_entry(subject.crowd.camera),
        "views": entries,
    }
    write_bytes(folder / FILE, json.dumps(about, indent=1).encode())  # last: it says all is there


def joints_in_image(subject: Subject, body: BodyModel) -> np.ndarray:
    """The 55 joints in the input image, pixels.  # [55, 2]"""
    joints = body.posed(subject.person.params).joints.astype(np.float64)
    return subject.crowd.camera.project(joints)[0]


def _person(about: dict, mask: np.ndarray) -> Person:
    arrays = {name: np.array(about[name], np.float32) for name in ("betas", "pose", "transl")}
    shapes = {"pose": (NUM_JOINTS, 3), "transl": (3,)}
    for name, array in arrays.items():
        if array.shape != shapes.get(name, (array.size,)) or not np.isfinite(array).all():
            raise ValueError(f"{name} must be {shapes.get(name, 'a list of')} finite numbers")
    return person_from_parameters(BodyParams(**arrays, scale=float(about.get("scale", 1.0))), mask)


def _camera(entry: dict, width: int, height: int) -> Camera:
    K, viewmat = (np.array(entry[name], np.float64) for name in ("K", "viewmat"))
    if K.shape != (3, 3) or viewmat.shape != (4, 4):
        raise ValueError("K must be 3 x 3 and viewmat 4 x 4 numbers")
    return Camera(K, viewmat, width, height)


def _camera_entry(camera: Camera) -> dict:
    return {"K": camera.K.tolist(), "viewmat": camera.viewmat.tolist()}


def _pixels(path: Path, mode: str, size: tuple[int, ...] | None = None) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert(mode))
    except (OSError, UnidentifiedImageError) as error:
        raise DamagedFileError(f"The image {path} is missing or damaged.") from error
    if size is not None and pixels.shape[:2] != size[:2]:
        raise DamagedFileError(
            f"{path} is {pixels.shape[1]} x {pixels.shape[0]} pixels where {size[1]} x {size[0]} "
            "are expected."
        )
    return pixels


# People from textured scans: the paper's set is 500 of THuman2.1


@dataclass(frozen=True)
class ScansJob:
    """Which scans become a data set, and how."""

    out: Path
    count: int = setting(500, "people, drawn by the seed")
    size: int = setting(512, "side of the views, pixels; the input image has twice that")
    seed: int = setting(0, "of the draw")
    names: tuple[str, ...] = ()  # these people; empty: so many as are counted

    def __post_init__(self) -> None:
        if self.count < 1 or not 32 <= self.size <= 2048:
            raise SettingError("Make at least one person, in views of 32 to 2048 pixels.")


def write_scans(
    people: "MeshPeople", job: ScansJob, report: Report = silent
) -> tuple[list[Path], dict[str, str]]:
    """Scanned people as a data set; a run that was stopped goes on with the next.

    Args:
        people: of a folder.
        job: whom of them.
        report: called before each person.

    Returns:
        The folder of each, and why others are left out. Of a draw, the next takes the place of
        somebody who cannot be read.

    Raises:
        InputError: a name that is not there, or nobody can be read.
    """
    unknown = sorted(set(job.names) - set(people.names))
    if unknown:
        raise InputError(f"{people.folder} has no scan named {unknown[0]}.")
    drawn = np.random.default_rng(job.seed).permutation(people.names).tolist()
    wanted = len(job.names) or min(job.count, len(drawn))
    written: list[Path] = []
    refused: dict[str, str] = {}
    for name in job.names or drawn:
        if len(written) == wanted:
            break
        report(Progress("scans", len(written) / wanted, len(written), wanted, name))
        folder = job.out / name
        try:
            if not _is_written(folder, job.size):
                write_person(folder, turned_to_front(people.person(name)), job.size)
            written.append(folder)
        except CrowdGaussianError as error:
            refused[name] = str(error)
    if not written:
        raise InputError(f"Nobody of {people.folder} can be used: {next(iter(refused.values()))}")
    report(Progress("scans", 1.0))
    return written, refused


def _is_written(folder: Path, size: int) -> bool:
    """Whether a person is there, in views of this size."""
    try:
        with Image.open(folder / "views/000.png") as view:
            return (folder / FILE).is_file() and view.size == (size, size)
    except (OSError, UnidentifiedImageError):
        return False


# A data set of made-up people with known looks, rendered from all around

VIEWS = 24
_FOV = 0.6  # radians, vertical


def write_people(
    folder: str | Path,
    body: BodyModel,
    count: int,
    size: int = 256,
    seed: int = 0,
    makehuman: Path | None = None,
    held_out: bool = False,
) -> list[Path]:
    """Writes made-up people as a data set.

    Args:
        folder: where NAME/ folders go.
        body: the open body.
        count: how many.
        size: side of the views in pixels; the input image has twice that.
        seed: the same seed makes the same people.
        makehuman: holds MakeHuman's base mesh, for people in loose clothes; None: tight ones.
        held_out: in what training never sees.

    Returns:
        The folder of each.

    Raises:
        CrowdGaussianError: there is no base mesh.
    """
    written = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        look = held_out_look(index) if held_out else None
        if makehuman is None:
            actor = tight_actor(body, rng)
        else:
            actor = dressed_actor(body, makehuman, rng, look)
        written.append(write_person(Path(folder) / f"made_up_{index:03d}", actor, size))
    return written


def tight_actor(body: BodyModel, rng: np.random.Generator) -> Actor:
    """Somebody who stands about in clothes that lie on the body, in the usual light."""
    return painted_actor(body, draw_parameters(body, rng), rng, unlit=False)


def write_person(folder: Path, actor: Actor, size: int) -> Path:
    """One person who faces +z: an image from the front, and views from all around."""
    vertices, faces, face_colours = actor.vertices, actor.faces, actor.face_colours
    if actor.unlit:
        face_colours = lit(face_colours, unit(face_normals(vertices, faces)))
    middle = (vertices.min(0) + vertices.max(0)) / 2
    reach = float(0.56 * np.linalg.norm(np.ptp(vertices, axis=0)) / math.tan(_FOV / 2))
    views = Cameras.orbit(middle, reach, VIEWS, fov=_FOV, size=size)
    front = Cameras.orbit(middle, reach, 1, fov=_FOV, size=2 * size).to_cameras()[0]
    image = render_rgba(vertices, faces, face_colours, front)
    mask = image[..., 3] >= 128
    pictures = np.stack(
        [render_rgba(vertices, faces, face_colours, camera) for camera in views.to_cameras()]
    )
    person = person_from_parameters(actor.params, mask)
    crowd = Crowd((person,), front, "option", (True,))
    subject = Subject(folder.name, on_white(image), mask, actor.body.name, crowd, views, ())
    write_subject(folder, subject, pictures)
    return folder
