# SPDX-License-Identifier: GPL-3.0-or-later
"""People and poses as assets with pictures, in catalogues beside the .blend file."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from crowdgaussian_shared.errors import DamagedFileError
from crowdgaussian_shared.formats.atomic import read_bytes, write_bytes
from crowdgaussian_shared.geometry.avatar import BodyMesh, Gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.sh import sh_to_colour
from crowdgaussian_shared.geometry.skinning import joint_transforms, skin, skin_gaussians
from crowdgaussian_shared.motion.motion import Motion

from ..motion.apply import standing_photo
from ..people import Person, read_avatar, read_body
from ..rig.read_pose import PHOTO_POSE, read_rest_joints
from .library import add_pose_asset, library_poses, on_floor, pose_assets

# The asset catalogues of the folder that a .blend file lies in: blender_assets.cats.txt

POSES = "9d1f5b0a-64c3-4d63-9a3e-6f0e6a1c7a51"
PEOPLE = "3b8a7c52-0c4f-4f0e-8b5e-2d9f1e7c4b90"
_OURS = {POSES: "CrowdGaussian/Poses", PEOPLE: "CrowdGaussian/People"}
_NAME = "blender_assets.cats.txt"
_HEAD = (
    "# This is an Asset Catalog Definition file for Blender.\n#\n# Empty lines and lines "
    "starting with `#` will be ignored.\n# The first non-ignored line should be the version "
    'indicator.\n# Other lines are of the format "UUID:catalog/path/for/assets:simple '
    'catalog name"\n\nVERSION 1\n\n'
)
_MOST = 16 << 20


def catalogue_file() -> Path | None:
    """Where the catalogues of this .blend are; None while it is not saved."""
    return Path(bpy.data.filepath).parent / _NAME if bpy.data.filepath else None


def write_catalogues() -> bool:
    """Add our catalogues beside the saved .blend -> whether there is a saved .blend.

    Raises:
        CrowdGaussianError: the file is of a newer version or cannot be written.
    """
    path = catalogue_file()
    if path is None:
        return False
    text = _HEAD
    if path.exists():
        text = _read(path)
    known = {line.split(":", 1)[0].strip().lower() for line in text.splitlines()}
    lines = [f"{key}:{place}:{place.replace('/', '-')}\n" for key, place in _OURS.items()
             if key not in known]  # fmt: skip
    if lines:
        text += "" if text.endswith("\n") else "\n"
        write_bytes(path, (text + "".join(lines)).encode())
    return True


def _read(path: Path) -> str:
    try:
        text = read_bytes(path, _MOST).decode()
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path} is not a text; move it away and try again.") from error
    lines = [line.strip() for line in text.splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "VERSION 1")
    if first != "VERSION 1":
        raise DamagedFileError(
            f"{path} is not of the version that this add-on knows; no catalogue was written."
        )
    return text


def add_pose(name: str, pose: np.ndarray, person: Person) -> None:
    """One pose asset with its picture, in place of one of the same name."""
    body = None if person.body is None else read_body(person)
    _replace({name: _make_pose(name, pose, person, body)})


def _make_pose(
    name: str, pose: np.ndarray, person: Person, body: BodyMesh | None
) -> bpy.types.Action:
    action = add_pose_asset(name, pose, person, POSES)
    if body is not None:
        still = on_floor(pose, person, name)
        _set_preview(action, _paint_pose(body, read_rest_joints(person.rig), still))
    return action


def _replace(added: dict[str, bpy.types.Action]) -> None:
    """New pose assets take the place and the names of older ones."""
    fresh = set(added.values())
    for old in [a for a in pose_assets() if a.name in added and a not in fresh]:
        bpy.data.actions.remove(old)
    for name, action in added.items():
        action.name = name


def add_library(people: list[Person]) -> Generator[tuple[float, str], None, None]:
    """The poses of the add-on and everybody's photo pose, as assets; all or none.

    Yields:
        The fraction done, and the next pose.
    """
    poses = {name: (pose, person) for person in reversed(people)
             for name, pose in library_poses(person).items()}  # fmt: skip
    models = {person for _, person in poses.values() if person.body is not None}
    bodies = {person: read_body(person) for person in models}
    added: dict[str, bpy.types.Action] = {}
    done = False
    try:
        for number, (name, (pose, person)) in enumerate(poses.items()):
            yield number / len(poses), name
            added[name] = _make_pose(name, pose, person, bodies.get(person))
        done = True
    finally:
        if not done:
            for action in added.values():
                bpy.data.actions.remove(action)
    _replace(added)


def mark_person(person: Person) -> None:
    """The person's collection becomes an asset with a picture of them in the photo's pose.

    Raises:
        InputError: splats or body were deleted.
    """
    picture = _paint_person(_posed(person))
    collection = person.collection
    collection.asset_mark()
    data = collection.asset_data
    data.catalog_id, data.author = PEOPLE, "CrowdGaussian"
    data.description = "A rigged person of Gaussian splats"
    _set_preview(collection, picture)


def unmark_person(person: Person) -> None:
    """Undoes mark_person."""
    person.collection.asset_clear()


def _posed(person: Person):
    avatar = read_avatar(person)
    pose, transl = avatar.pose, avatar.transl
    if person.rig.get(PHOTO_POSE) is not None:
        still = standing_photo(person)
        pose, transl = still.poses[0], still.transl[0]
    transforms = joint_transforms(avatar.rest_joints, pose, transl)
    return skin_gaussians(avatar.gaussians, avatar.skin_joints, avatar.skin_weights, transforms)


# Preview pictures, painted here: points with colours, the nearest on top. Rendering would need a
# camera, lights and seconds, and would touch the scene.

_SIZE = 192  # pixels
_MARGIN = 0.06
_TURN = 0.35  # radians the viewer stands to the side
_LIGHT = np.array([0.35, 0.55, 0.76])  # towards the light, unit
_SKIN = np.array([0.72, 0.73, 0.78])


def _paint_pose(body: BodyMesh, rest_joints: np.ndarray, still: Motion) -> np.ndarray:
    """A body in a pose, in plain clay.  # [S, S, 4] sRGB with alpha, bottom row first"""
    transforms = joint_transforms(rest_joints, still.poses[0], still.transl[0])
    vertices = skin(body.vertices, body.skin_joints, body.skin_weights, transforms)
    corners = vertices[body.faces].astype(np.float64)  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    shade = 0.35 + 0.65 * np.clip(normals @ _LIGHT, 0, 1)
    # Corners and points between them: triangles are small beside a pixel of the picture.
    weights = np.array([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4]], float)
    weights /= weights.sum(axis=1, keepdims=True)
    points = np.einsum("kc,fcx->fkx", weights, corners).reshape(-1, 3)
    return _paint(points, np.repeat(shade[:, None] * _SKIN, len(weights), axis=0), 2)


def _paint_person(gaussians: Gaussians) -> np.ndarray:
    """Posed Gaussians in their own colours.  # [S, S, 4] sRGB with alpha, bottom row first"""
    solid = gaussians.opacities > 0.4
    colours = np.clip(sh_to_colour(gaussians.sh[solid]), 0, 1)
    return _paint(gaussians.means[solid].astype(np.float64), colours, 3)


def _set_preview(data: bpy.types.ID, picture: np.ndarray) -> None:
    """Give an asset its picture."""
    preview = data.preview_ensure()
    preview.image_size = picture.shape[1::-1]
    pixels: Any = preview.image_pixels_float  # an array of them
    pixels.foreach_set(np.ascontiguousarray(picture, np.float32).ravel())


def _paint(points: np.ndarray, colours: np.ndarray, width: int) -> np.ndarray:
    """Squares of some pixels, drawn from back to front, seen from the front and a little aside."""
    seen = points @ axis_angle_to_matrix(np.array([0.0, -_TURN, 0.0])).T
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    scale = _SIZE * (1 - 2 * _MARGIN) / max((high - low).max(), 1e-6)
    places = (seen[:, :2] - (low + high) / 2) * scale + _SIZE / 2
    order = np.argsort(seen[:, 2], kind="stable")
    depth = np.full((_SIZE, _SIZE), -1)
    columns, rows = np.floor(places[order]).astype(int).T
    for dx in range(width):
        for dy in range(width):
            x = np.clip(columns + dx - width // 2, 0, _SIZE - 1)
            y = np.clip(rows + dy - width // 2, 0, _SIZE - 1)
            np.maximum.at(depth, (y, x), np.arange(len(order)))
    picture = np.zeros((_SIZE, _SIZE, 4))
    drawn = depth >= 0
    picture[drawn, :3] = colours[order][depth[drawn]]
    picture[drawn, 3] = 1.0
    return picture
