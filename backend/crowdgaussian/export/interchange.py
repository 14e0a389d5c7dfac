# SPDX-License-Identifier: Apache-2.0
"""Splats in scene files of other programs: glTF 2.0, with rig and motion if wanted, and OpenUSD.

glTF: the container is made by pygltflib (MIT). Source of the layout: the specification of
KHR_gaussian_splatting (Khronos, ratified 2026): one POINTS primitive; rotations xyzw, scales linear
in metres, opacity 0..1, one VEC3 for each coefficient of the spherical harmonics, whose basis is
that of 3DGS. glTF is y up and z to the viewer: our scene frame. COLOR_0 shows viewers that do not
know the extension coloured points. _MATERIAL, an attribute of our own as glTF allows them, says
what a splat shows: a place in MATERIALS.

With a rig the splats are those of the T-pose, with JOINTS_0 and WEIGHTS_0 as for any skinned mesh;
the 55 joints stand as in the photo. Who skins them turns each splat's axes and harmonics with the
rotation of its blended matrix, as geometry/skinning.py does.
"""

import tempfile
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from crowdgaussian_shared.errors import InputError, MissingFileError
from crowdgaussian_shared.formats.atomic import write_bytes, write_error
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians
from crowdgaussian_shared.geometry.rotations import axis_angle_to_quat
from crowdgaussian_shared.geometry.sh import sh_to_colour
from crowdgaussian_shared.geometry.skeleton import JOINT_NAMES, PARENTS
from crowdgaussian_shared.motion.motion import Motion

EXTENSION = "KHR_gaussian_splatting"
_FLOAT, _UNSIGNED_BYTE, _UNSIGNED_SHORT = 5126, 5121, 5123
_ARRAY_BUFFER, _POINTS = 34962, 0
_KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_STILL = 1e-6  # joints that turn by less during a motion get one key


@dataclass(frozen=True)
class Cloud:
    """Splats under one name, in the scene frame, and what else is known of them."""

    name: str
    gaussians: Gaussians  # N, posed
    labels: np.ndarray | None = None  # [N] uint8, places in MATERIALS
    avatar: Avatar | None = None  # whose Gaussians they are, in the same order
    motion: Motion | None = None  # of the avatar, where it shall play


# A file for libraries that only write to a path; what they wrote is then put in place whole


@contextmanager
def scratch_file(suffix: str) -> Iterator[Path]:
    """A path in a folder that is gone afterwards.

    Raises:
        ResourceError: the disk is full, or there is no folder for temporary files.
    """
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryDirectory(prefix="crowdgaussian-") as name:
            folder = Path(name)
            yield folder / f"export{suffix}"
    except OSError as error:
        raise write_error(folder, error) from error


def check_filled(path: Path, parts: Sequence[Sized]) -> None:
    """Refuse to write a file without splats.

    Raises:
        InputError: there is no part, or one has none.
    """
    if not parts or not all(len(part) for part in parts):
        raise InputError(f"{path} would hold no splat; choose at least one person.")


def write_gltf(path: Path, clouds: Sequence[Cloud], rig: bool = False) -> None:
    """Write a .glb, or a .gltf with its data inside, atomically.

    Args:
        path: where to write; the suffix decides.
        clouds: each a node of its own; at least one Gaussian each.
        rig: of clouds with an avatar bones and weights, and the motion as an animation.

    Raises:
        CrowdGaussianError: pygltflib is missing, nothing to write, or the disk is full.
    """
    try:
        import pygltflib
    except ImportError as error:
        raise MissingFileError(
            "glTF needs the package pygltflib; run `pip install 'crowdgaussian[export]'`."
        ) from error
    check_filled(path, [cloud.gaussians for cloud in clouds])
    document = pygltflib.GLTF2(
        asset=pygltflib.Asset(generator="CrowdGaussian"),
        extensionsUsed=[EXTENSION],
        scene=0,
        scenes=[pygltflib.Scene(nodes=list(range(len(clouds))))],
    )
    blob = _Blob(document, pygltflib)
    for number, cloud in enumerate(clouds):
        document.nodes.append(pygltflib.Node(name=cloud.name, mesh=number))
        rigged = cloud.avatar if rig else None
        columns = _attributes(cloud.gaussians if rigged is None else rigged.gaussians)
        if cloud.labels is not None:
            columns["_MATERIAL"] = cloud.labels.astype(np.float32)
        if rigged is not None:
            columns |= _weights(rigged)
        document.meshes.append(_mesh(cloud.name, columns, blob, pygltflib))
    for number, cloud in enumerate(clouds):
        if rig and cloud.avatar is not None:
            _Rig(document, blob, pygltflib).add(number, cloud, cloud.avatar)
    _unlit(document, pygltflib)
    blob.close()
    if path.suffix.lower() == ".glb":
        write_bytes(path, b"".join(document.save_to_bytes()))
    else:
        document.convert_buffers(pygltflib.BufferFormat.DATAURI)
        write_bytes(path, document.to_json(separators=(",", ":")).encode())


class _Blob:
    """The one binary buffer, and the accessors into it."""

    def __init__(self, document, library) -> None:
        self._document, self._library = document, library
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, values: np.ndarray, key: str = "") -> int:
        """Append numbers, of a mesh those of attribute key -> the number of their accessor."""
        data = np.ascontiguousarray(values).tobytes()
        library, document = self._library, self._document
        kind = {"|u1": _UNSIGNED_BYTE, "<u2": _UNSIGNED_SHORT}.get(values.dtype.str, _FLOAT)
        document.bufferViews.append(library.BufferView(
            buffer=0, byteOffset=self._length, byteLength=len(data),
            target=_ARRAY_BUFFER if key else None,
        ))  # fmt: skip
        width = 1 if values.ndim == 1 else values.shape[1]
        accessor = library.Accessor(
            bufferView=len(document.bufferViews) - 1, byteOffset=0, count=len(values),
            componentType=kind, type=_KINDS[width],
            normalized=kind != _FLOAT and not key.startswith("JOINTS"),
        )  # fmt: skip
        if key in ("POSITION", ""):  # the others may do without
            rows = values.reshape(len(values), -1)
            accessor.min = rows.min(axis=0).astype(float).tolist()
            accessor.max = rows.max(axis=0).astype(float).tolist()
        document.accessors.append(accessor)
        self._parts.append(data)
        self._length += len(data)
        return len(document.accessors) - 1

    def close(self) -> None:
        """Hands the data to the document."""
        self._document.buffers.append(self._library.Buffer(byteLength=self._length))
        self._document.set_binary_blob(b"".join(self._parts))


def _mesh(name: str, columns: dict[str, np.ndarray], blob: _Blob, library) -> Any:
    attributes = {key: blob.add(value, key) for key, value in columns.items()}
    primitive = library.Primitive(
        attributes=library.Attributes(**attributes), mode=_POINTS, material=0,
        extensions={EXTENSION: {
            "kernel": "ellipse", "colorSpace": "srgb_rec709_display",
            "sortingMethod": "cameraDistance", "projection": "perspective",
        }},
    )  # fmt: skip
    return library.Mesh(name=name, primitives=[primitive])


def _attributes(cloud: Gaussians) -> dict[str, np.ndarray]:
    colours = np.clip(sh_to_colour(cloud.sh), 0, 1)
    shown = np.c_[_srgb_to_linear(colours), cloud.opacities]
    columns = {
        "POSITION": cloud.means.astype(np.float32),
        # bytes of linear light would be 6/255 off in the dark
        "COLOR_0": np.round(65535 * np.clip(shown, 0, 1)).astype(np.uint16),
        f"{EXTENSION}:ROTATION": cloud.quats[:, [1, 2, 3, 0]].astype(np.float32),
        f"{EXTENSION}:SCALE": cloud.scales.astype(np.float32),
        f"{EXTENSION}:OPACITY": np.clip(cloud.opacities, 0, 1).astype(np.float32),
    }
    for k in range(cloud.sh.shape[1]):
        degree = int(k**0.5)
        name = f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{k - degree**2}"
        columns[name] = cloud.sh[:, k].astype(np.float32)
    return columns


def _srgb_to_linear(colours: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: what COLOR_0 is measured in."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _unlit(document, library) -> None:
    """One material: points of viewers without the extension show their colour without lights."""
    unlit = "KHR_materials_unlit"
    document.extensionsUsed.append(unlit)
    surface = library.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=1.0)
    document.materials.append(library.Material(
        name="Splats as points", pbrMetallicRoughness=surface, extensions={unlit: {}},
    ))  # fmt: skip


def _weights(avatar: Avatar) -> dict[str, np.ndarray]:
    """Whom a splat follows; as glTF wants it, a joint once, and joint 0 where no weight is."""
    joints, weights = avatar.skin_joints, avatar.skin_weights.astype(np.float32)
    for first, again in combinations(range(joints.shape[1]), 2):
        twice = joints[:, first] == joints[:, again]
        weights[:, first] += np.where(twice, weights[:, again], 0)
        weights[twice, again] = 0
    return {"JOINTS_0": np.where(weights > 0, joints, 0).astype(np.uint8), "WEIGHTS_0": weights}


class _Rig:
    """Adds the 55 joints of a person, and how they move."""

    def __init__(self, document, blob: _Blob, library) -> None:
        self._document, self._blob, self._library = document, blob, library

    def add(self, number: int, cloud: Cloud, avatar: Avatar) -> None:
        """Joints in the photo's pose, the skin of node `number`, and the animation."""
        document, library = self._document, self._library
        root = len(document.nodes)
        first = root + 1
        document.nodes.append(library.Node(name=f"{cloud.name} rig", children=[first]))
        rest = avatar.rest_joints.astype(np.float64)
        turns = axis_angle_to_quat(avatar.pose.astype(np.float64))[:, [1, 2, 3, 0]]
        for joint, name in enumerate(JOINT_NAMES):
            parent = PARENTS[joint]
            place = rest[joint] - rest[parent] if parent >= 0 else rest[0] + avatar.transl
            below = [first + k for k, above in enumerate(PARENTS) if above == joint]
            document.nodes.append(library.Node(
                name=name, translation=place.tolist(), rotation=turns[joint].tolist(),
                children=below or None,
            ))  # fmt: skip
        document.scenes[0].nodes.append(root)
        inverse = np.tile(np.eye(4, dtype=np.float32), (len(rest), 1, 1))
        inverse[:, 3, :3] = -rest  # column by column, as glTF has matrices
        document.skins.append(library.Skin(
            name=cloud.name, skeleton=root, joints=list(range(first, first + len(rest))),
            inverseBindMatrices=self._blob.add(inverse.reshape(-1, 16)),
        ))  # fmt: skip
        document.nodes[number].skin = len(document.skins) - 1
        if cloud.motion is not None:
            self._animate(cloud.name, cloud.motion, first, rest[0])

    def _animate(self, name: str, motion: Motion, first: int, pelvis: np.ndarray) -> None:
        """A curve for each joint that moves, and one for the place of the pelvis."""
        library = self._library
        times = self._blob.add((np.arange(motion.frames) / motion.fps).astype(np.float32))
        quats = axis_angle_to_quat(motion.poses)[..., [1, 2, 3, 0]]  # [T, 55, 4]
        curves = [(0, "translation", (pelvis + motion.transl).astype(np.float32))]
        for joint in range(len(JOINT_NAMES)):
            curve = _continuous(quats[:, joint]).astype(np.float32)
            still = np.ptp(curve, axis=0).max() < _STILL
            curves.append((joint, "rotation", curve[:1] if still else curve))
        samplers, channels = [], []
        for joint, path, values in curves:
            moves = len(values) == motion.frames
            when = times if moves else self._blob.add(np.zeros(1, np.float32))
            samplers.append(library.AnimationSampler(
                input=when, output=self._blob.add(values), interpolation="LINEAR"
            ))  # fmt: skip
            target = library.AnimationChannelTarget(node=first + joint, path=path)
            channels.append(library.AnimationChannel(sampler=len(samplers) - 1, target=target))
        self._document.animations.append(library.Animation(
            name=f"{name} {motion.name}", samplers=samplers, channels=channels
        ))  # fmt: skip


def _continuous(quats: np.ndarray) -> np.ndarray:
    """Signs such that neighbours in time lie close.  # [T, 4]"""
    jumps = np.sum(quats[1:] * quats[:-1], axis=-1) < 0
    return quats * np.r_[1.0, np.cumprod(np.where(jumps, -1.0, 1.0))][:, None]


# OpenUSD, through usd-core (a modified Apache 2.0): ParticleField3DGaussianSplat, which OpenUSD has
# since 26.03. Coefficients lie splat by splat in the order of 3DGS; the stage is y up, in metres.


def write_usd(path: Path, clouds: Sequence[Cloud]) -> None:
    """Write a .usd, .usdc (binary) or .usda (text) with one prim for each cloud, atomically.

    Raises:
        CrowdGaussianError: usd-core is missing or too old, nothing to write, or the disk is full.
    """
    try:
        from pxr import Usd, UsdGeom, UsdVol, Vt

        define = UsdVol.ParticleField3DGaussianSplat.Define
    except (ImportError, AttributeError) as error:
        raise MissingFileError(
            "OpenUSD needs the package usd-core, 26.3 or newer; run "
            "`pip install 'crowdgaussian[usd]'`."
        ) from error
    check_filled(path, [cloud.gaussians for cloud in clouds])
    with scratch_file(path.suffix.lower()) as temp:
        stage = Usd.Stage.CreateNew(str(temp))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Crowd").GetPrim())
        for number, cloud in enumerate(clouds):
            prim = define(stage, f"/Crowd/Splats_{number:03d}")
            prim.GetPrim().SetDisplayName(cloud.name)
            _fill_field(prim, cloud.gaussians, Vt)
        stage.GetRootLayer().Save()
        del stage
        write_bytes(path, temp.read_bytes())


def _fill_field(prim, cloud: Gaussians, vt) -> None:
    colours, quats = np.clip(sh_to_colour(cloud.sh), 0, 1), cloud.quats[:, [1, 2, 3, 0]]
    edge = 3 * cloud.scales.max(axis=1, keepdims=True)  # three standard deviations are seen
    extent = np.stack([(cloud.means - edge).min(axis=0), (cloud.means + edge).max(axis=0)])

    def vectors(values: np.ndarray) -> Any:
        return vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))

    prim.CreatePositionsAttr(vectors(cloud.means))
    prim.CreateOrientationsAttr(vt.QuatfArray.FromNumpy(np.ascontiguousarray(quats, np.float32)))
    prim.CreateScalesAttr(vectors(cloud.scales))
    prim.CreateOpacitiesAttr(vt.FloatArray.FromNumpy(cloud.opacities.astype(np.float32)))
    prim.CreateRadianceSphericalHarmonicsDegreeAttr(cloud.sh_degree)
    prim.CreateRadianceSphericalHarmonicsCoefficientsAttr(vectors(cloud.sh.reshape(-1, 3)))
    prim.CreateExtentAttr(vectors(extent))
    prim.CreateDisplayColorPrimvar("vertex").Set(vectors(_srgb_to_linear(colours)))
