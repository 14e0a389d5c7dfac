# SPDX-License-Identifier: Apache-2.0
"""Stage results in the scene folder, so that running again goes on where the last run stopped.

The people stage's result is each person's fit.npz and the camera in scene.json; the masks stage's
is mask.png and amodal.png. The settings in scene.json say which photo and options they are for.
"""

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.geometry.avatar import BodyParams
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import CameraInfo, Ground, SceneInfo

from ..people.types import Certainty, Crowd, Keypoints, Person
from ..segment.types import PersonMask

REFINER_KEY = "stages.refiner"
PHOTO_KEY = "photo.blake2b"  # in the settings: the hash of the file the user gave
_ARRAYS = ("betas", "pose", "transl", "box", "person_mask")
_NUMBERS = ("scale", "score", "reprojection_px")


def find_run(
    out: Path, settings: dict, overwrite: bool, ignored: tuple[str, ...] = ()
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
    if out.exists() and not out.is_dir():
        raise CrowdGaussianError(f"{out} is a file; give the name of a folder.")
    _check_writable(out)
    if not SceneFolder.exists(out):
        if out.exists() and any(out.iterdir()):
            raise CrowdGaussianError(
                f"{out} is not empty and holds no scene; choose another folder."
            )
        return None
    if overwrite:
        return None
    folder = SceneFolder.open(out)
    stored = folder.info.settings
    if stored.get(PHOTO_KEY) != settings[PHOTO_KEY]:
        raise CrowdGaussianError(
            f"{out} holds another photo; choose another folder or add --overwrite."
        )
    names = {*stored, *settings}.difference(ignored)
    changed = sorted(k for k in names if stored.get(k) != settings.get(k))
    if stored.get(REFINER_KEY, "none") == "none":
        changed = [name for name in changed if not is_refinement(name)]
    if changed:
        raise CrowdGaussianError(
            f"{out} was made with other settings ({', '.join(changed)}); choose another folder "
            "or add --overwrite."
        )
    return folder


def is_refinement(setting: str) -> bool:
    """Whether a setting is about nothing but the refinement."""
    return setting == REFINER_KEY or setting.startswith("refine.")


def _check_writable(out: Path) -> None:
    """Says so before minutes of work, not after them."""
    place = out
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise CrowdGaussianError(f"Nothing can be written to {place}; choose another folder.")


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
    )


def save_masks(folder: SceneFolder, masks: list[PersonMask]) -> None:
    """Writes everybody's masks and marks them as masked."""
    for index, mask in enumerate(masks):
        save_mask(folder, index, mask)


def save_mask(folder: SceneFolder, index: int, mask: PersonMask) -> None:
    """Writes a person's masks and marks them as masked."""
    folder.write_mask(index, mask.visible)
    folder.write_mask(index, mask.amodal, "amodal")
    folder.update_person(index, state="masked", occlusion=float(mask.occlusion))


def load_masks(folder: SceneFolder) -> list[PersonMask] | None:
    """The stored masks stage, or None when it has to run (again)."""
    try:
        return [
            PersonMask(folder.read_mask(i), folder.read_mask(i, "amodal"), entry.occlusion)
            for i, entry in enumerate(folder.info.people)
        ]
    except CrowdGaussianError:
        return None


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
        **{name: arrays[name] for name in ("box", "person_mask")},
        **{name: float(arrays[name]) for name in _NUMBERS if name != "scale"},
    )
