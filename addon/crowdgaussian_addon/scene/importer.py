# SPDX-License-Identifier: GPL-3.0-or-later
"""A scene folder becomes a Blender collection: people with rigs, the photo's camera, the floor."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import bpy
import numpy as np
from crowdgaussian_shared.errors import CrowdGaussianError, InputError
from crowdgaussian_shared.geometry.avatar import Avatar
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skinning import joint_transforms
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import LEFT_OUT, MISSED, SceneInfo

from .attributes import camera_data
from .people import PERSON, REFINED, note_names, set_role
from .render.camera import build_camera, show_photo
from .render.photo_match import SOURCE
from .render.settings import GROUND, build_ground, cover_people, engine_of
from .rig.armature import build_rigs, metres_per_unit, place_rig, rest_pose, set_pose
from .rig.body import build_body
from .rig.read_pose import PHOTO_FRAME, store_photo_pose
from .shot import Shot, fit_into_shot, is_new_shot, set_up_shot
from .splats.build import build_splats, set_depth_sort, set_footprint
from .splats.nodes.project import DILATION

PROVENANCE = "crowdgaussian_models"  # collection property: JSON list, as in scene.json
COMMERCIAL_USE = "crowdgaussian_commercial_use"
GONE = "crowdgaussian_left_out"  # numbers of people in scene.json
WARNINGS = "crowdgaussian_warnings"  # JSON: sentences by number in scene.json; "": of the scene
MISSING = "crowdgaussian_missing"  # JSON: the face's box by the sentence that says who was missed


@dataclass(frozen=True)
class ImportedPerson:
    """One person in Blender."""

    index: int  # in scene.json
    collection: bpy.types.Collection
    rig: bpy.types.Object
    splats: bpy.types.Object
    body: bpy.types.Object


@dataclass(frozen=True)
class ImportResult:
    """What import_scene made, and who was left out."""

    collection: bpy.types.Collection
    people: tuple[ImportedPerson, ...]
    camera: bpy.types.Object
    ground: bpy.types.Object
    skipped: tuple[str, ...]  # one sentence for each person left out


def import_scene(folder: SceneFolder | str | Path, shot: Shot = "NEW") -> ImportResult:
    """Build everyone who is finished, and set the scene up to render like the photo.

    A person who failed, is not finished or cannot be read is skipped with a sentence.

    Args:
        folder: a scene folder or its path.
        shot: "ADD" leaves the scene's camera and settings alone, "AUTO" where it holds work.

    Raises:
        CrowdGaussianError: not a scene folder, damaged, of a newer version, or without a camera.
    """
    if not isinstance(folder, SceneFolder):
        folder = SceneFolder.open(folder)
    _camera_of(folder)
    avatars, skipped = _read_people(folder)
    crowd = start_crowd(folder, shot)
    people = add_people(crowd, folder, avatars)
    camera = next(obj for obj in crowd.objects if obj.type == "CAMERA")
    return ImportResult(crowd, tuple(people), camera, ground_of(crowd), tuple(skipped))


def start_crowd(folder: SceneFolder, shot: Shot = "NEW") -> bpy.types.Collection:
    """A crowd without people: collection, photo camera, floor, and in a new shot its settings.

    Args:
        folder: gives camera and floor.
        shot: as for import_scene.

    Raises:
        CrowdGaussianError: the scene has no camera yet.
    """
    camera, scene = _camera_of(folder), bpy.context.scene
    unit = metres_per_unit(scene)
    new = is_new_shot(scene, shot)
    title = Path(folder.info.photo.name).stem or folder.path.resolve().name
    crowd = bpy.data.collections.new(f"Crowd {title}")
    scene.collection.children.link(crowd)
    _record_origin(crowd, folder)
    photo_camera = _build_photo_camera(crowd, folder, camera)
    ground = build_ground(folder.info.ground.height, "Ground")
    crowd.objects.link(ground)
    _to_units(photo_camera, ground, unit)
    if new:
        set_up_shot(scene, photo_camera, camera)
    else:
        fit_into_shot(scene)
    return crowd


def add_people(
    crowd: bpy.types.Collection, folder: SceneFolder, avatars: dict[int, Avatar]
) -> list[ImportedPerson]:
    """Build people into a crowd that start_crowd made, and widen its floor.

    Args:
        crowd: must be in the active view layer.
        folder: the crowd's scene.
        avatars: by index in scene.json.
    """
    people = _build_people(crowd, avatars, folder.info)
    if engine_of(bpy.context.scene) == "EEVEE":
        set_depth_sort([person.splats for person in people], True)
    ground = ground_of(crowd)
    if ground is not None:
        rigs = [obj for obj in crowd.all_objects if obj.type == "ARMATURE"]
        cover_people(ground, np.array([rig.location for rig in rigs]).reshape(-1, 3))
    return people


def ground_of(crowd: bpy.types.Collection) -> bpy.types.Object | None:
    """The crowd's floor, unless it was deleted."""
    return next((obj for obj in crowd.objects if obj.get(GROUND)), None)


def _camera_of(folder: SceneFolder) -> Camera:
    if folder.info.camera is None:
        raise InputError(f"{folder.path} has no camera yet; wait until its people have been found.")
    return folder.info.camera.to_camera()


def _read_people(folder: SceneFolder) -> tuple[dict[int, Avatar], list[str]]:
    avatars, skipped = {}, []
    for index, person in enumerate(folder.info.people):
        if LEFT_OUT in person.flags:
            continue
        if person.state == "failed":
            skipped.append(f"Person {index} was not reconstructed: {person.error}")
            continue
        try:
            avatars[index] = folder.read_avatar(index)
        except CrowdGaussianError as error:
            skipped.append(f"Person {index} is left out: {error}")
    return avatars, skipped


def _build_people(
    crowd: bpy.types.Collection, avatars: dict[int, Avatar], info: SceneInfo
) -> list[ImportedPerson]:
    unit = metres_per_unit(bpy.context.scene)
    names = {index: f"Person {index:03d}" for index in avatars}
    collections = []
    for index, name in names.items():
        collection = bpy.data.collections.new(name)
        collection[PERSON] = index
        collection[REFINED] = info.people[index].refinement == "refined"
        crowd.children.link(collection)
        collections.append(collection)
    rests = [rest_pose(avatar, names[index]) for index, avatar in avatars.items()]
    rigs = build_rigs(rests, collections)
    people = []
    for (index, avatar), collection, rig in zip(avatars.items(), collections, rigs):
        note_names(collection, rig)
        place_rig(rig, avatar, info.ground.height, unit)
        set_pose(rig, avatar.pose, avatar.transl, frame=PHOTO_FRAME)
        rig.animation_data.action.name = f"{names[index]} photo pose"
        splats = build_splats(avatar, rig, f"{names[index]} splats")
        set_footprint(splats, photo_footprint(avatar, info.camera.to_camera()))
        body = build_body(avatar, rig, f"{names[index]} body")
        store_photo_pose(rig, avatar)
        set_role(rig, "rig")
        set_role(splats, "splats")
        set_role(body, "body")
        people.append(ImportedPerson(index, collection, rig, splats, body))
    for person in people:
        for obj in (person.splats, person.body):
            person.collection.objects.link(obj)
        person.body.hide_set(True)  # shown instead of the splats when wanted, never with them
    return people


def photo_footprint(avatar: Avatar, camera: Camera) -> float:
    """The blur that fitting at the photo's resolution put on the nearest part, in metres."""
    transforms = joint_transforms(avatar.rest_joints, avatar.pose, avatar.transl)
    joints = np.einsum("jab,jb->ja", transforms[:, :3, :3], avatar.rest_joints)
    joints = joints + transforms[:, :3, 3]
    depths = joints @ camera.viewmat[2, :3] + camera.viewmat[2, 3]
    return float(np.sqrt(DILATION) * max(depths.min(), 0.0) / camera.K[0, 0])


def _build_photo_camera(
    crowd: bpy.types.Collection, folder: SceneFolder, camera: Camera
) -> bpy.types.Object:
    obj = build_camera(camera, "Photo camera")
    crowd.objects.link(obj)
    if folder.photo_path.is_file():
        show_photo(obj, folder.photo_path)
    return obj


def _to_units(camera: bpy.types.Object, ground: bpy.types.Object, unit: float) -> None:
    """From metres to a scene whose units are longer or shorter; `unit` in metres."""
    for obj in (camera, ground):
        obj.location = obj.location / unit
    data = camera_data(camera)
    data.clip_start, data.clip_end = data.clip_start / unit, data.clip_end / unit
    data.display_size /= unit
    ground.scale = (1 / unit,) * 3


def _record_origin(crowd: bpy.types.Collection, folder: SceneFolder) -> None:
    """Models, licences and whether the result may be sold travel with the people."""
    info = folder.info
    crowd[PROVENANCE] = json.dumps([asdict(model) for model in info.models])
    crowd[COMMERCIAL_USE] = info.commercial_use
    note_result(crowd, folder)


def note_result(crowd: bpy.types.Collection, folder: SceneFolder) -> None:
    """Which scene folder a crowd shows, who was left out on request, and what is doubtful."""
    info = folder.info
    crowd[SOURCE] = str(folder.path.resolve())
    crowd[GONE] = [i for i, person in enumerate(info.people) if LEFT_OUT in person.flags]
    owners = {"": info} | {str(i): person for i, person in enumerate(info.people)}
    said = {name: [one.sentence for one in owner.warnings] for name, owner in owners.items()}
    crowd[WARNINGS] = json.dumps({name: sentences for name, sentences in said.items() if sentences})
    missed = [one for one in info.warnings if one.code == MISSED and one.box is not None]
    crowd[MISSING] = json.dumps({one.sentence: one.box for one in missed})
