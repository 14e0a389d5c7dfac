# SPDX-License-Identifier: Apache-2.0
"""Stage results in the scene folder, so that running again goes on where the last run stopped.

The people stage's result is each person's fit.npz and the camera in scene.json; the masks stage's
is mask.png and amodal.png. The settings in scene.json say which photo and options they are for.
"""

import io
import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from crowdgaussian_shared.errors import (
    Cancelled,
    CrowdGaussianError,
    InputError,
    MissingFileError,
    OutOfMemoryError,
    ResourceError,
    SettingError,
)
from crowdgaussian_shared.formats.atomic import LEASE_FILE, remove_half_written
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.geometry.skinning import pose_body
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import CameraInfo, Ground, PersonEntry, PhotoInfo, SceneInfo
from PIL import Image

from .. import __version__
from ..avatar.types import Outcome
from ..people.types import Certainty, Crowd, Keypoints, Person
from ..refiner.types import STAGE as REFINER_STAGE
from ..segment.types import CrowdView, PersonMask
from . import review
from .config import Job
from .photo import Photo
from .stages import Measure, Stages, files_for

if TYPE_CHECKING:
    from ..body.model import BodyModel

log = logging.getLogger(__name__)
COARSE = "coarse.npz"
REFINER_KEY = "stages.refiner"
PHOTO_KEY = "photo.blake2b"  # in the settings: the hash of the file the user gave
_ARRAYS = ("betas", "pose", "transl", "box", "person_mask")
_NUMBERS = ("scale", "score", "reprojection_px")


def find_run(
    out: Path, settings: dict[str, Any], overwrite: bool, ignored: tuple[str, ...] = ()
) -> SceneFolder | None:
    """The folder of the same run, interrupted or finished, or None when it starts anew.

    A run without refinement is the same run as one with it that has not come so far.

    Args:
        out: where the result goes; need not exist.
        settings: what SceneInfo.settings will say.
        overwrite: start anew whatever the folder holds.
        ignored: settings that may differ.

    Raises:
        CrowdGaussianError: the folder holds something else.
    """
    scene = SceneFolder.exists(out)
    if not scene and out.exists() and not all(_is_begun(path) for path in out.iterdir()):
        raise InputError(f"{out} is not empty and holds no scene; choose another folder.")
    remove_half_written(out)  # by a run that was killed, as no other is at work
    if not scene or overwrite:
        return None
    folder = SceneFolder.open(out)
    stored = folder.info.settings
    if stored.get(PHOTO_KEY) != settings[PHOTO_KEY]:
        raise InputError(f"{out} holds another photo; choose another folder or add --overwrite.")
    names = {*stored, *settings}.difference(ignored)
    changed = sorted(k for k in names if stored.get(k) != settings.get(k))
    if stored.get(REFINER_KEY, "none") == "none":
        changed = [name for name in changed if not is_refinement(name)]
    if changed:
        raise SettingError(
            f"{out} was made with other settings ({', '.join(changed)}); choose another folder "
            "or add --overwrite."
        )
    return folder


def _is_begun(path: Path) -> bool:
    """Whether a file is a run's own lease, or left by one that was killed at its first file."""
    left = re.fullmatch(r"\.(photo|scene|writer)\..*\.tmp", path.name) is not None
    return path.is_file() and (left or path.name == LEASE_FILE)


def is_refinement(setting: str) -> bool:
    """Whether a setting is about nothing but the refinement."""
    return setting == REFINER_KEY or setting.startswith("refine.")


def clear(out: Path) -> None:
    """Removes an older scene's files and nothing else; scene.json goes first."""
    names = (
        "scene.json",
        "timings.json",
        "photo.jpg",
        "people/*/*.npz",
        "people/*/*.ply",
        "people/*/*.png",
        "previews/*.png",
    )
    for name in names:
        for path in out.glob(name):
            path.unlink()


def check_anybody(crowd: Crowd, photo: Path) -> None:
    """Refuse a photo in which nobody was found.

    Raises:
        InputError: the crowd is empty.
    """
    if not crowd.people:
        raise InputError(
            f"No person was found in {photo}; give a photo that shows people whole "
            "and at least about 60 pixels tall."
        )


def start_scene(
    job: Job, photo: Photo, crowd: Crowd, stages: Stages, settings: dict[str, Any]
) -> SceneFolder:
    """A new scene folder with the people stage's result in it.

    Args:
        job: where it goes, and for which photo.
        photo: as it was read.
        crowd: everybody.
        stages: of the run.
        settings: what SceneInfo.settings will say.
    """
    models = tuple(
        file.provenance() for file in files_for(job.config) if file.stage != REFINER_STAGE
    )  # a refiner's are named when somebody is refined
    clear(job.out)
    grounded = zip(crowd.people, crowd.on_ground, strict=True)
    entries = tuple(
        person_entry(index, person, ground, stages.body)
        for index, (person, ground) in enumerate(grounded)
    )
    info = SceneInfo(
        photo=PhotoInfo("", photo.width, photo.height, job.photo_name or photo.path.name),
        camera=camera_info(crowd),
        ground=ground_info(crowd),
        body_model=stages.avatar.body_name,
        preset=job.config.preset,
        people=entries,
        models=models,
        settings=settings,
        warnings=(*review.scene_warnings(crowd), *stages.warnings),
        writer=f"crowdgaussian {__version__}",
    )
    picture = _encoded(Image.fromarray(photo.pixels), "JPEG")
    folder = SceneFolder.create(job.out, picture, ".jpg", info)
    floor = Image.fromarray(review.ground_view(photo.pixels, crowd))
    folder.write_preview(review.GROUND_PREVIEW, _encoded(floor, "PNG"))
    save_crowd(folder, crowd)  # last: a run that finds everybody fitted goes on from here
    return folder


def person_entry(index: int, person: Person, on_ground: bool, body: "BodyModel") -> PersonEntry:
    """What scene.json says of somebody who has been found."""
    x0, y0, x1, y1 = person.box
    return PersonEntry(
        flags=person.flags,
        box=(float(x0), float(y0), float(x1), float(y1)),
        score=float(person.score),
        on_ground=bool(on_ground),
        quality={"reprojection_px": float(person.reprojection_px)},
        warnings=review.person_warnings(index, person, bool(on_ground), body),
    )


def _encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=95)
    return buffer.getvalue()


def save_crowd(folder: SceneFolder, crowd: Crowd) -> None:
    """Writes everybody's fit and marks them as fitted."""
    for index, person in enumerate(crowd.people):
        folder.save_person_fit(index, to_arrays(person))
        folder.update_person(index, state="fitted")


def load_crowd(folder: SceneFolder) -> Crowd | None:
    """The stored people stage, or None when it has to run (again)."""
    info: SceneInfo = folder.info
    if info.camera is None or not info.people:
        return None
    try:
        people = [_from_arrays(folder.read_person_fit(i)) for i in range(len(info.people))]
    except (CrowdGaussianError, KeyError):
        return None
    return Crowd(
        people=tuple(people),
        camera=info.camera.to_camera(),
        focal_source=info.camera.focal_source,
        on_ground=tuple(entry.on_ground for entry in info.people),
        certainty=Certainty(
            info.ground.standing,
            info.ground.pitch_error,
            info.ground.height_error,
            info.camera.focal_error,
        ),
        missed=review.missed_in(info.warnings),
    )


def save_masks(
    folder: SceneFolder, masks: list[PersonMask], chosen: Iterable[int] | None = None
) -> None:
    """Write masks, of the chosen or of everybody, and mark these people as masked."""
    for index in range(len(masks)) if chosen is None else chosen:
        folder.write_mask(index, masks[index].visible)
        folder.write_mask(index, masks[index].amodal, "amodal")
        folder.update_person(index, state="masked", occlusion=float(masks[index].occlusion))


def load_masks(folder: SceneFolder) -> list[PersonMask] | None:
    """The stored masks stage, or None when it has to run (again)."""
    if not all(_has_masks(entry) for entry in folder.info.people):
        return None
    try:
        return read_masks(folder)
    except CrowdGaussianError:
        return None


def read_masks(folder: SceneFolder) -> list[PersonMask]:
    """Everybody's masks; those who have none in the folder, being left out, have no pixel.

    Raises:
        DamagedFileError: a mask is damaged.
    """
    photo = folder.info.photo
    return [
        PersonMask(folder.read_mask(i), folder.read_mask(i, "amodal"), entry.occlusion)
        if _has_masks(entry)
        else no_mask(photo.height, photo.width)
        for i, entry in enumerate(folder.info.people)
    ]


def no_mask(height: int, width: int) -> PersonMask:
    """The masks of somebody who has no pixel."""
    nothing = np.zeros((height, width), bool)
    return PersonMask(nothing, nothing, 0.0)


def _has_masks(entry: PersonEntry) -> bool:
    return {"mask", "amodal"} <= entry.files.keys()


def keep_outcome(
    folder: SceneFolder, view: CrowdView, outcome: Outcome, measure: Measure, begun: float
) -> None:
    """Write a person's first avatar, or why there is none.

    Args:
        folder: the scene.
        view: the photo, everybody in it, and their masks.
        outcome: what the appearance stage made of the person.
        measure: how well an avatar matches the photo.
        begun: when the stage began with the person.  # time.perf_counter

    Raises:
        ResourceError: the disk is full.
    """
    index = outcome.index
    with _failure_is_theirs(folder, index):
        avatar, built = outcome.result(), time.perf_counter()
        quality = measure(avatar, view, index)
        quality["feet"] = float(pose_body(avatar)[:, 1].min())  # metres above the ground
        forget_coarse(folder, index)
        folder.write_avatar(index, avatar)
        folder.write_splats(index)
        seconds = {"avatar": built - begun, "measure": time.perf_counter() - built}
        folder.add_person_timings(index, seconds)
        warnings = review.seen_all_round(folder.info.people[index].warnings, index, quality)
        folder.update_person(index, state="done", error="", quality=quality, warnings=warnings)
    spent = [
        steps.get(step, 0.0)
        for steps in folder.timings.people.values()
        for step in ("avatar", "measure")
    ]
    folder.add_timing("avatars", sum(spent))


def coarse_path(folder: SceneFolder, index: int) -> Path:
    """Where a person's first avatar lies while a refined one takes its place."""
    return folder.resolve(f"people/{index:03d}/{COARSE}")


def forget_coarse(folder: SceneFolder, index: int) -> None:
    """Remove a first avatar that counts no more."""
    coarse_path(folder, index).unlink(missing_ok=True)


def concerns_everybody(error: CrowdGaussianError) -> bool:
    """Whether the disk refused a file, so that the next person would fare no better."""
    disk = isinstance(error, ResourceError | MissingFileError)
    return disk and not isinstance(error, OutOfMemoryError)


@contextmanager
def _failure_is_theirs(folder: SceneFolder, index: int) -> Iterator[None]:
    """Turn an error inside into the state `failed` of one person; a full disk concerns all."""
    try:
        yield
    except Cancelled:
        raise
    except CrowdGaussianError as error:
        if concerns_everybody(error):
            raise
        folder.fail_person(index, str(error))
    except Exception as error:
        log.exception("person %d failed", index)
        folder.fail_person(
            index, f"An unexpected {type(error).__name__} ended this person's fit: {error}."
        )


def finish_avatars(folder: SceneFolder) -> None:
    """Note how level the feet came out.

    Raises:
        InputError: nobody could be reconstructed.
    """
    people = folder.info.people
    feet = [p.quality["feet"] for p in people if p.on_ground and "feet" in p.quality]
    folder.update(ground=replace(folder.info.ground, spread=max(feet) - min(feet) if feet else 0.0))
    if all(person.state == "failed" for person in people):
        raise InputError(f"Nobody could be reconstructed; the first reason: {people[0].error}")


def camera_info(crowd: Crowd) -> CameraInfo:
    """The crowd's camera as scene.json keeps it."""
    return CameraInfo.from_camera(crowd.camera, crowd.focal_source, crowd.certainty.focal_error)


def ground_info(crowd: Crowd) -> Ground:
    """The floor as scene.json keeps it; how level the feet came out is known at the end."""
    sure = crowd.certainty
    return Ground(0.0, 0.0, sure.standing, sure.pitch_error, sure.height_error)


def to_arrays(person: Person) -> dict[str, np.ndarray]:
    """What a person's fit.npz holds."""
    arrays = {name: np.asarray(getattr(person, name)) for name in _ARRAYS}
    arrays |= {name: np.array(float(getattr(person, name))) for name in _NUMBERS}
    arrays |= {
        f"keypoints_{field.name}": np.asarray(getattr(person.keypoints, field.name))
        for field in fields(Keypoints)
    }
    arrays["flags"] = np.array(" ".join(person.flags))
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> Person:
    keypoints = {field.name: arrays[f"keypoints_{field.name}"] for field in fields(Keypoints)}
    return Person(
        keypoints=Keypoints(**keypoints),
        flags=tuple(str(arrays["flags"]).split()),
        params=BodyParams(
            **{name: arrays[name] for name in ("betas", "pose", "transl")},
            scale=float(arrays["scale"]),
        ),
        box=arrays["box"],
        person_mask=arrays["person_mask"],
        score=float(arrays["score"]),
        reprojection_px=float(arrays["reprojection_px"]),
    )
