# SPDX-License-Identifier: Apache-2.0
"""glTF files with KHR_gaussian_splatting, of any maker -> Gaussians as the file poses them.

Source of the layout: the glTF 2.0 specification and that of the extension, as interchange.py writes
it; also its drafts, whose attributes are _ROTATION, _SCALE and COLOR_0, numbers in integers
(KHR_mesh_quantization) and splats packed as SPZ. Nodes are moved as their parents say, skins pose
their splats. Counts and sizes are compared with the file before anything is unpacked.
"""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from crowdgaussian_shared.errors import InputError, MissingFileError
from crowdgaussian_shared.geometry.avatar import MATERIALS, Gaussians
from crowdgaussian_shared.geometry.rotations import quat_to_matrix
from crowdgaussian_shared.geometry.sh import colour_to_sh
from crowdgaussian_shared.geometry.skinning import (
    join_gaussians,
    skin_gaussians,
    transform_gaussians,
)

from .interchange import EXTENSION

GLB = b"glTF"
_JSON, _BINARY = 0x4E4F534A, 0x004E4942  # kinds of a .glb's parts
_TEXT_LIMIT = 1 << 30  # bytes of JSON; a .gltf with all its data inside has as many
_KINDS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_SPZ = ("KHR_gaussian_splatting_compression_spz_2", "KHR_gaussian_splatting_compression_spz")
_KNOWN = {EXTENSION, *_SPZ, "KHR_mesh_quantization", "KHR_materials_unlit", "KHR_node_visibility"}
_DEEPEST = 500  # nodes above each other; more is a circle
Unpack = Callable[[bytes], Gaussians]


def read_gltf(
    path: Path, check_count: Callable[[int], None], unpack_spz: Unpack
) -> tuple[Gaussians, np.ndarray | None]:
    """Every splat of the file's scene, and what they show where all of them say so.

    Args:
        path: a .glb, or a .gltf with its data inside or beside it.
        check_count: raises where the file announces too many splats.
        unpack_spz: an SPZ file's bytes -> its Gaussians.

    Returns:
        Gaussians in the scene frame (glTF is y up, as ours is), labels [N] uint8 or None.

    Raises:
        CrowdGaussianError: no splats, or a layout that is not known.
        Exception: of the kinds that read.py takes for damage.
    """
    file = _File(path)
    needed = sorted(set(file.root.get("extensionsRequired", ())) - _KNOWN)
    if needed:
        raise InputError(f"{path} needs {needed[0]}, which is not read here; save it without.")
    primitives = list(file.splats())
    if not primitives:
        raise InputError(f"{path} holds no splats ({EXTENSION}); choose a file that does.")
    check_count(sum(file.count(primitive) for primitive, _, _ in primitives))
    clouds, labels = [], []
    for primitive, matrix, skin in primitives:
        cloud = _unpacked(file, primitive, unpack_spz)
        attributes = primitive["attributes"]
        if skin is not None and "JOINTS_0" in attributes:
            cloud = skin_gaussians(
                cloud,
                file.numbers(attributes["JOINTS_0"]).astype(np.int64),
                file.numbers(attributes["WEIGHTS_0"]),
                file.skin_matrices(skin),
            )
        elif not np.array_equal(matrix, np.eye(4)):
            cloud = transform_gaussians(cloud, matrix)
        clouds.append(cloud)
        if "_MATERIAL" in attributes:
            labels.append(file.numbers(attributes["_MATERIAL"]).reshape(-1))
    shown = np.concatenate(labels) if len(labels) == len(clouds) else np.array([-1.0])
    known = ((shown >= 0) & (shown < len(MATERIALS)) & (shown % 1 == 0)).all()
    return join_gaussians(clouds), shown.astype(np.uint8) if known else None


def _unpacked(file: "_File", primitive: dict[str, Any], unpack_spz: Unpack) -> Gaussians:
    inside = primitive["extensions"][EXTENSION].get("extensions", {})
    packed = next((inside[name] for name in _SPZ if name in inside), None)
    if packed is not None:
        return unpack_spz(file.view(packed["bufferView"]).tobytes())
    attributes = primitive["attributes"]

    def column(name: str, old: str = "") -> np.ndarray | None:
        number = attributes.get(f"{EXTENSION}:{name}", attributes.get(old))
        return None if number is None else file.numbers(number)

    rotation, scale = column("ROTATION", "_ROTATION"), column("SCALE", "_SCALE")
    opacity, colour = column("OPACITY"), column("COLOR_0", "COLOR_0")
    places = [(degree, k) for degree in range(4) for k in range(2 * degree + 1)]
    bands: list[np.ndarray] = []
    for degree, k in places:
        band = column(f"SH_DEGREE_{degree}_COEF_{k}")
        if band is None:
            break
        bands.append(band)
    if rotation is None or scale is None:
        raise ValueError("rotations or scales are missing")
    if not bands and colour is not None:  # the drafts' only colour
        bands = [colour_to_sh(colour[:, :3])[:, 0]]
        opacity = colour[:, 3:] if opacity is None else opacity
    count = next((whole for whole in (16, 9, 4, 1) if whole <= len(bands)), 0)
    if not count or opacity is None:
        raise ValueError("colours or opacities are missing")
    return Gaussians(
        means=file.numbers(attributes["POSITION"]).astype(np.float32),
        quats=rotation[:, [3, 0, 1, 2]].astype(np.float32),
        scales=scale.astype(np.float32),
        opacities=opacity.reshape(-1).astype(np.float32),
        sh=np.stack(bands[:count], axis=1).astype(np.float32),
    )


class _File:
    """A glTF document and its binary data.

    Attributes:
        root: the JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._buffers: dict[int, np.ndarray] = {}
        self._world: dict[int, np.ndarray] = {}  # of nodes, once they were walked through
        with path.open("rb") as stream:
            start = stream.read(20)
            if not start.startswith(GLB):
                stream.seek(0)
                text = stream.read(_TEXT_LIMIT + 1)
            else:
                size, kind = struct.unpack_from("<II", start, 12)
                if kind != _JSON:
                    raise ValueError("its first part is not JSON")
                text = stream.read(min(size, _TEXT_LIMIT + 1))
                following = stream.read(8)
                if len(following) == 8 and struct.unpack("<II", following)[1] == _BINARY:
                    self._buffers[0] = np.memmap(path, "u1", "r", stream.tell())
        if len(text) > _TEXT_LIMIT:
            raise ValueError("its JSON is too long")
        self.root: dict[str, Any] = json.loads(text)

    def splats(self) -> Iterator[tuple[dict[str, Any], np.ndarray, int | None]]:
        """Each primitive of splats in the scene, its matrix [4, 4] and its skin."""
        nodes, scenes = self.root.get("nodes", []), self.root.get("scenes", [])
        under = {child for node in nodes for child in node.get("children", ())}
        roots = [k for k in range(len(nodes)) if k not in under]
        if scenes:
            roots = scenes[self.root.get("scene", 0)].get("nodes", [])
        self._world = {}  # of a walk that was not finished
        waiting = [(k, np.eye(4), 0) for k in reversed(roots)]
        while waiting:
            number, above, depth = waiting.pop()
            if depth > _DEEPEST or number in self._world:
                raise ValueError("its nodes form a circle")
            node = nodes[number]
            matrix = self._world[number] = above @ _matrix(node)
            waiting += [(k, matrix, depth + 1) for k in reversed(node.get("children", ()))]
            if "mesh" in node:
                for primitive in self.root["meshes"][node["mesh"]]["primitives"]:
                    if EXTENSION in primitive.get("extensions", {}):
                        yield primitive, matrix, node.get("skin")

    def count(self, primitive: dict[str, Any]) -> int:
        """Splats of a primitive, as its positions announce them."""
        return int(self.root["accessors"][primitive["attributes"]["POSITION"]]["count"])

    def skin_matrices(self, skin: int) -> np.ndarray:
        """From the rest pose to where the joints are now.  # [J, 4, 4]"""
        told = self.root["skins"][skin]
        worlds = np.stack([self._world[joint] for joint in told["joints"]])
        if "inverseBindMatrices" not in told:
            return worlds
        inverse = self.numbers(told["inverseBindMatrices"]).reshape(-1, 4, 4)
        return worlds @ inverse.transpose(0, 2, 1)  # files have them column by column

    def numbers(self, accessor: int) -> np.ndarray:
        """The rows of an accessor, integers that stand for 0..1 or -1..1 as those.  # [N, width]"""
        told = self.root["accessors"][accessor]
        if "sparse" in told or "bufferView" not in told:
            raise ValueError("an accessor is sparse")
        dtype, width = np.dtype(_KINDS[told["componentType"]]), _WIDTHS[told["type"]]
        data = self.view(told["bufferView"])
        step = self.root["bufferViews"][told["bufferView"]].get(
            "byteStride", dtype.itemsize * width
        )
        start, count = told.get("byteOffset", 0), told["count"]
        if count < 1 or start < 0 or step < 1:
            raise ValueError("an accessor makes no sense")
        if start + step * (count - 1) + dtype.itemsize * width > len(data):
            raise ValueError("an accessor is longer than its data")
        rows = np.ndarray((count, width), dtype, data, start, (step, dtype.itemsize))
        if not told.get("normalized") or dtype.kind == "f":
            return rows.astype(np.float64)
        return np.maximum(rows / np.iinfo(dtype).max, -1.0)

    def view(self, number: int) -> np.ndarray:
        """The bytes of a buffer view."""
        told = self.root["bufferViews"][number]
        data = self._buffer(told["buffer"])
        start = told.get("byteOffset", 0)
        if start < 0 or start + told["byteLength"] > len(data):
            raise ValueError("a buffer view is longer than its buffer")
        return data[start : start + told["byteLength"]]

    def _buffer(self, number: int) -> np.ndarray:
        if number not in self._buffers:
            address = self.root["buffers"][number]["uri"]
            if address.startswith("data:"):
                data = base64.b64decode(address.partition(",")[2], validate=True)
                self._buffers[number] = np.frombuffer(data, "u1")
            else:
                self._buffers[number] = np.memmap(self._beside(address), "u1", "r")
        return self._buffers[number]

    def _beside(self, address: str) -> Path:
        beside = self._path.parent / unquote(address)
        if "://" in address or not beside.resolve().is_relative_to(self._path.parent.resolve()):
            raise InputError(
                f"{self._path} keeps its data elsewhere; save it with its data inside."
            )
        if not beside.is_file():
            raise MissingFileError(f"{beside} is missing, which {self._path} needs; copy it too.")
        return beside


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """Where a node stands in its parent.  # [4, 4]"""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    matrix = np.eye(4)
    turn = quat_to_matrix(np.array([[w, x, y, z]], np.float64))[0]
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix
