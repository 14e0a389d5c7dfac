# SPDX-License-Identifier: Apache-2.0
"""Made-up people with a plausible skeleton, for the tests and benchmarks of the add-on.

Only numpy and shared/: the same people are built inside Blender and in the backend's environment.
"""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.formats.png import encode_grey
from crowdgaussian_shared.geometry.avatar import Avatar, BodyMesh, BodyParams, Gaussians
from crowdgaussian_shared.geometry.axes import scene_viewmat
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.sh import SH_C0
from crowdgaussian_shared.geometry.skeleton import FINGERS, JOINT_INDEX, JOINT_NAMES, PARENTS
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import (
    CameraInfo,
    ModelProvenance,
    PersonEntry,
    PhotoInfo,
    SceneInfo,
)

_HALF = {  # joints on the midline and on the left, metres; the pelvis is the origin
    "pelvis": (0, 0, 0), "spine1": (0, 0.12, -0.02), "spine2": (0, 0.25, 0), "spine3": (0, 0.31, 0),
    "neck": (0, 0.5, -0.02), "head": (0, 0.6, 0.02), "jaw": (0, 0.61, 0.03),
    "left_eye_smplhf": (0.03, 0.67, 0.09), "left_hip": (0.08, -0.09, 0),
    "left_knee": (0.1, -0.48, 0), "left_ankle": (0.1, -0.89, -0.03),
    "left_foot": (0.12, -0.95, 0.1), "left_collar": (0.05, 0.41, 0),
    "left_shoulder": (0.17, 0.44, -0.01), "left_elbow": (0.43, 0.44, -0.03),
    "left_wrist": (0.68, 0.44, -0.02),
}  # fmt: skip
_RADIUS = {"head": 0.1, "pelvis": 0.14, "spine1": 0.13, "spine2": 0.13, "spine3": 0.14}
SOLE = -0.98  # metres, canonical height of the soles


def rest_joints() -> np.ndarray:
    """A T-pose skeleton.  # [55, 3] float32"""
    places = {name: np.array(place, float) for name, place in _HALF.items()}
    for row, finger in enumerate(FINGERS):
        for k in range(3):
            place = (0.77 + 0.03 * k, 0.44, 0.04 - 0.02 * row)
            places[f"left_{finger}{k + 1}"] = np.array(place)
    for name, place in list(places.items()):
        if name.startswith("left_"):
            places["right_" + name[5:]] = place * (-1, 1, 1)
    return np.stack([places[name] for name in JOINT_NAMES]).astype(np.float32)


def make_avatar(count: int = 2000, degree: int = 0, seed: int = 0) -> Avatar:
    """A person of Gaussian-covered bones in bright clothes, posed at random."""
    rng = np.random.default_rng(seed)
    joints = rest_joints()
    means, normals, bones, along = _surface(rng, joints, count)
    skin_joints, skin_weights = _skin(rng, bones, along)
    spacing = np.sqrt(1.9 / count)  # metres between Gaussians on 1.9 square metres of skin
    scales = spacing * np.exp(rng.normal(-0.3, 0.35, (count, 3))) * (1, 1, 0.35)
    sh = rng.normal(0, 0.1, (count, (degree + 1) ** 2, 3))
    sh[:, 0] = (_paint(rng, means, bones) - 0.5) / SH_C0
    return Avatar(
        gaussians=Gaussians(
            means.astype(np.float32), _facing(normals), scales.astype(np.float32),
            rng.uniform(0.3, 0.99, count).astype(np.float32), sh.astype(np.float32),
        ),
        skin_joints=skin_joints,
        skin_weights=skin_weights,
        rest_joints=joints,
        body=_body(rng, joints),
        params=BodyParams(
            np.zeros(10, np.float32), random_pose(rng, seed),
            np.array([0.9 * (seed - 1), -SOLE, -4.0 - 0.3 * seed], np.float32),
        ),
    )  # fmt: skip


def random_pose(rng: np.random.Generator, seed: int) -> np.ndarray:
    """Arms down, everything a little bent, turned by the seed.  # [55, 3] float32"""
    pose = rng.normal(0, 0.15, (55, 3))
    pose[0] = (0, 0.4 * (seed - 1), 0)
    pose[JOINT_INDEX["left_shoulder"]] += (0, 0, -0.9)
    pose[JOINT_INDEX["right_shoulder"]] += (0, 0, 0.9)
    return pose.astype(np.float32)


def make_camera(width: int = 192, height: int = 144, off_centre: bool = True) -> Camera:
    """A photo camera 1.5 m high that looks slightly down."""
    focal = 1.1 * max(width, height)
    shift = 0.06 * width if off_centre else 0.0
    K = np.array([[focal, 0, width / 2 + shift], [0, focal, height / 2 - shift], [0, 0, 1]])
    return Camera(K, scene_viewmat(1.5, pitch=0.08, roll=0.02), width, height)


def write_scene(path: Path, avatars: list[Avatar], camera: Camera) -> SceneFolder:
    """A scene folder of finished people."""
    info = SceneInfo(
        photo=PhotoInfo("", camera.width, camera.height, "made_up.png"),
        camera=CameraInfo.from_camera(camera),
        people=(PersonEntry(),) * len(avatars),
        models=(ModelProvenance("made-up", "1", "", "", "CC0-1.0", True, "body"),),
    )
    photo = encode_grey(np.full((camera.height, camera.width), 128, np.uint8))
    folder = SceneFolder.create(path, photo, ".png", info)
    for index, avatar in enumerate(avatars):
        folder.write_avatar(index, avatar)
        folder.update_person(index, state="done")
    return folder


def _surface(rng, joints, count):
    """Points on capsules around the bones: means, normals, child joint, place along the bone."""
    children = np.arange(1, len(PARENTS))
    starts, ends = joints[np.array(PARENTS)[1:]], joints[1:]
    radii = np.array([_RADIUS.get(JOINT_NAMES[j], 0.055) for j in children])
    radii[24:] = 0.012  # fingers
    area = (np.linalg.norm(ends - starts, axis=1) + 2 * radii) * radii
    bone = rng.choice(len(children), count, p=area / area.sum())
    along = rng.uniform(-0.1, 1.1, count)
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    spine = starts[bone] + along[:, None] * (ends - starts)[bone]
    return spine + radii[bone, None] * normals, normals, children[bone], along.clip(0, 1)


def _skin(rng, bones, along):
    parent = np.array(PARENTS)[bones]
    grand = np.maximum(np.array(PARENTS)[parent], 0)
    joints = np.stack([parent, bones, grand, np.zeros_like(bones)], axis=1)
    weights = np.stack([1.2 - along, along, 0.3 * (1 - along), 0.05 * rng.random(len(bones))], 1)
    return joints.astype(np.uint8), (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _facing(normals):
    """Quaternions whose z axis is the normal: the half-way rotation from +z.  # [N, 4]"""
    half = normals + (0, 0, 1 + 1e-6)
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    quats = np.stack([half[:, 2], -half[:, 1], half[:, 0], 0 * half[:, 0]], axis=1)
    return (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)


def _paint(rng, means, bones):
    """Skin, a striped shirt and trousers, with speckles.  # [N, 3] sRGB"""
    shirt, trousers = rng.uniform(0.1, 0.9, (2, 3))
    colours = np.tile([0.85, 0.65, 0.55], (len(means), 1))
    torso = np.isin(bones, [j for j, n in enumerate(JOINT_NAMES) if _wears_shirt(n)])
    stripes = 0.5 + 0.5 * np.sign(np.sin(60 * means[:, 1:2]))
    colours[torso] = (shirt * (0.6 + 0.4 * stripes))[torso]
    colours[means[:, 1] < -0.02] = trousers
    return np.clip(colours + rng.normal(0, 0.04, colours.shape), 0, 1)


def _wears_shirt(name: str) -> bool:
    return name.startswith("spine") or name.endswith(("collar", "shoulder", "elbow", "neck"))


def _body(rng, joints):
    """One tetrahedron per joint, down to the soles."""
    corners = 0.03 * np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]])
    vertices = (joints[:, None] + corners).reshape(-1, 3)
    vertices[:, 1] = np.maximum(vertices[:, 1], SOLE)
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    faces = (faces + 4 * np.arange(len(joints))[:, None, None]).reshape(-1, 3)
    skin_joints = np.repeat(np.arange(len(joints)), 4)[:, None] * np.array([[1, 0, 0, 0]])
    return BodyMesh(
        vertices.astype(np.float32), faces.astype(np.int32), skin_joints.astype(np.uint8),
        np.tile(np.float32([1, 0, 0, 0]), (len(vertices), 1)),
    )  # fmt: skip
