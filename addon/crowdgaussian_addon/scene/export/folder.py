# SPDX-License-Identifier: GPL-3.0-or-later
"""People back into a scene folder: as they stand now, for the importer and for every other tool.

Avatars are read from the meshes, weights as painted. The pose is that of the current frame; the
scale of a rig object goes into the avatar, as its mean where it is not the same in all directions.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import bpy
import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError, InputError
from crowdgaussian_shared.formats.atomic import read_bytes, write_error
from crowdgaussian_shared.formats.png import encode_grey
from crowdgaussian_shared.geometry.avatar import Avatar, BodyParams
from crowdgaussian_shared.geometry.axes import blender_camera_to_viewmat
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import (
    CameraInfo,
    Ground,
    ModelProvenance,
    PersonEntry,
    PhotoInfo,
    SceneInfo,
)

from ..attributes import camera_data
from ..importer import PROVENANCE, SOURCE, ground_of
from ..people import Person, read_avatar, read_pose, world_scale
from ..rig.armature import unit_of

_PHOTO_LIMIT = 512 << 20  # bytes
_GREY = 128


def write_folder(target: Path, people: list[Person]) -> Iterator[tuple[float, str]]:
    """Write a scene folder, whole or not at all; yields how far it is.

    Args:
        target: a folder that is not there yet, or is empty.
        people: at least one; they get new numbers, in this order.

    Raises:
        CrowdGaussianError: the folder holds something, the scene has no camera, somebody's splats
            or body are gone, or the folder cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} is not empty; choose a new folder.")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        folder = _start(part, people)
        for index, person in enumerate(people):
            yield index / len(people), f"Writing {person.name}"
            folder.write_avatar(index, avatar_now(person))
            yield (index + 0.5) / len(people), f"Writing {person.name}"
            folder.write_splats(index)
            folder.update_person(index, state="done")
        if target.exists():
            target.rmdir()  # it is empty, and Windows does not rename onto a folder
        os.replace(part, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def avatar_now(person: Person) -> Avatar:
    """The avatar in the pose, at the place and in the size of the current frame."""
    avatar = read_avatar(person)
    pose, transl = read_pose(person.rig)
    factor = world_scale(person.rig)
    pelvis = avatar.rest_joints[0].astype(np.float64)  # stays where it is seen
    transl = transl + (1 - factor) * pelvis
    cloud, body = avatar.gaussians, avatar.body
    size = np.float32(factor)
    return replace(
        avatar,
        gaussians=replace(cloud, means=cloud.means * size, scales=cloud.scales * size),
        body=replace(body, vertices=body.vertices * size),
        rest_joints=avatar.rest_joints * size,
        params=BodyParams(
            avatar.betas,
            pose.astype(np.float32),
            transl.astype(np.float32),
            avatar.scale * factor,
        ),
    )


def camera_of(scene: bpy.types.Scene, width: int, height: int, unit: float = 1.0) -> Camera:
    """The scene's camera as it sees a picture of that many pixels; inverts camera.build_camera.

    Args:
        scene: has the camera.
        width: pixels.
        height: pixels.
        unit: metres in a unit of the scene.

    Raises:
        InputError: no camera, or one without perspective.
    """
    obj = scene.camera
    if obj is None or obj.type != "CAMERA" or camera_data(obj).type != "PERSP":
        raise InputError(
            "The scene has no perspective camera, which a scene folder needs; add one first."
        )
    data, render = camera_data(obj), scene.render
    pitch_x, pitch_y = render.pixel_aspect_x, render.pixel_aspect_y
    across = width * pitch_x >= height * pitch_y
    if data.sensor_fit != "AUTO":
        across = data.sensor_fit == "HORIZONTAL"
    side = width * pitch_x if across else height * pitch_y
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    focal = data.lens / sensor * side
    K = np.array([
        [focal / pitch_x, 0, width / 2 - data.shift_x * side / pitch_x],
        [0, focal / pitch_y, height / 2 + data.shift_y * side / pitch_y],
        [0, 0, 1],
    ])  # fmt: skip
    posed = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    placed = np.array(posed.matrix_world)
    placed[:3, 3] *= unit
    return Camera(K, blender_camera_to_viewmat(placed), width, height)


def _start(part: Path, people: list[Person]) -> SceneFolder:
    scene, unit = bpy.context.scene, unit_of(people[0].rig)
    crowds = _crowds(people)
    photo, suffix, size = _photo(crowds, scene)
    camera = CameraInfo.from_camera(camera_of(scene, size.width, size.height, unit), "option")
    floor = next((floor for floor in map(ground_of, crowds) if floor is not None), None)
    info = SceneInfo(
        photo=size,
        camera=camera,
        ground=Ground(unit * float(floor.matrix_world.translation.z) if floor else 0.0),
        people=(PersonEntry(),) * len(people),
        models=_models(crowds),
        writer="CrowdGaussian add-on",
    )
    return SceneFolder.create(part, photo, suffix, info)


def _crowds(people: list[Person]) -> list[bpy.types.Collection]:
    """The collections that people were imported into."""
    crowds = [
        c for c in bpy.context.scene.collection.children_recursive if c.get(SOURCE) is not None
    ]
    own = {person.collection for person in people}
    return [crowd for crowd in crowds if own & set(crowd.children_recursive)]


def _photo(
    crowds: list[bpy.types.Collection], scene: bpy.types.Scene
) -> tuple[bytes, str, PhotoInfo]:
    """The photo of the crowd where it can still be found, else a grey picture in its place."""
    for crowd in crowds:
        try:
            source = SceneFolder.open(crowd[SOURCE])
            path = source.photo_path
            data = read_bytes(path, _PHOTO_LIMIT)
        except CrowdGaussianError:
            continue
        return data, path.suffix, replace(source.info.photo, file="", blake2b="")
    render = scene.render
    share = render.resolution_percentage / 100
    width = max(1, round(render.resolution_x * share))
    height = max(1, round(render.resolution_y * share))
    name = Path(bpy.data.filepath).stem or "crowd"
    grey = encode_grey(np.full((height, width), _GREY, np.uint8))
    return grey, ".png", PhotoInfo("", width, height, f"{name}.png")


def _models(crowds: list[bpy.types.Collection]) -> tuple[ModelProvenance, ...]:
    """Licences travel on: everything that had a hand in any of the crowds."""
    models = [ModelProvenance(**m) for c in crowds for m in json.loads(c.get(PROVENANCE, "[]"))]
    return tuple(dict.fromkeys(models))


# Names of the files of one export: one or many, for each person, for each frame

FRAME_DIGITS = 4
T = TypeVar("T")


def export_path(text: str, ending: str) -> Path:
    """What a file browser or a script gave, with the ending of the format.

    Args:
        text: an absolute path.
        ending: such as ".ply"; put in the place of any other ending of a format.

    Raises:
        InputError: no file name.
    """
    path = Path(text)
    if not text.strip() or not path.name or path.is_dir():
        raise InputError("No file name was given; type one in the file browser.")
    known = {".ply", ".spz", ".sog", ".glb", ".gltf", ".fbx", ".bvh", ".npz"}
    return path.with_suffix(ending) if path.suffix.lower() in known else Path(f"{path}{ending}")


def person_paths(path: Path, names: Sequence[str]) -> list[Path]:
    """One file for each person: crowd.ply -> crowd_Person_000.ply; never two the same."""
    return file_names(path.parent, [f"{path.stem}_{name}" for name in names], path.suffix)


def file_groups(
    path: Path, names: Sequence[str], members: Sequence[T], separate: bool
) -> dict[Path, list[T]]:
    """What goes into which file: everybody into one, or each into one of their own.

    Args:
        path: the file, or the beginning of each one's name.
        names: of the members.
        members: of the export, in the order of names.
        separate: a file for each.
    """
    if not separate:
        return {path: list(members)}
    return {own: [member] for own, member in zip(person_paths(path, names), members)}


def file_names(folder: Path, names: Sequence[str], ending: str) -> list[Path]:
    """Files named after people or objects, as far as every system allows; never two the same."""
    paths: list[Path] = []
    for name in names:
        word = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "person"
        stem, number = word, 2
        while folder / f"{stem}{ending}" in paths:
            stem, number = f"{word}_{number}", number + 1
        paths.append(folder / f"{stem}{ending}")
    return paths


def frame_path(path: Path, frame: int) -> Path:
    """One file for each frame: crowd.ply -> crowd_0012.ply, crowd_-0003.ply before frame 0."""
    sign = "-" if frame < 0 else ""
    return path.with_stem(f"{path.stem}_{sign}{abs(frame):0{FRAME_DIGITS}d}")


def first_lines(paths: Sequence[Path]) -> str:
    """What was written, in words."""
    if len(paths) == 1:
        return str(paths[0])
    return f"{len(paths)} files, {paths[0].name} to {paths[-1].name}, in {paths[0].parent}"
