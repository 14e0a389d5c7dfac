# SPDX-License-Identifier: Apache-2.0
"""Splats as glTF 2.0 with KHR_gaussian_splatting, the container by pygltflib (MIT).

Source of the layout: the extension's specification (Khronos, ratified 2026): one POINTS primitive;
rotations xyzw, scales linear in metres, opacity 0..1, one VEC3 for each coefficient of the
spherical harmonics, whose basis is that of 3DGS. glTF is y up and z to the viewer: our scene frame.
COLOR_0 shows viewers that do not know the extension coloured points. _MATERIAL, an attribute of our
own as glTF allows them, says what a splat shows: a place in MATERIALS.
"""

from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import InputError, MissingFileError
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.sh import sh_to_colour

EXTENSION = "KHR_gaussian_splatting"
_FLOAT, _UNSIGNED_BYTE, _ARRAY_BUFFER, _POINTS = 5126, 5121, 34962, 0
_KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def write_gltf(
    path: Path, clouds: dict[str, Gaussians], labels: dict[str, np.ndarray] | None = None
) -> None:
    """Write a .glb, or a .gltf with its data inside, atomically.

    Args:
        path: where to write; the suffix decides.
        clouds: by name, each a node of its own; at least one Gaussian each, scene frame.
        labels: by name [N], what the Gaussians show, for those of whom that is known.

    Raises:
        CrowdGaussianError: pygltflib is missing, nothing to write, or the disk is full.
    """
    try:
        import pygltflib
    except ImportError as error:
        raise MissingFileError(
            "glTF needs the package pygltflib; run `pip install 'crowdgaussian[export]'`."
        ) from error
    if not clouds or not all(len(cloud) for cloud in clouds.values()):
        raise InputError(f"{path} would hold no splat; choose at least one person.")
    document = pygltflib.GLTF2(
        asset=pygltflib.Asset(generator="CrowdGaussian"),
        extensionsUsed=[EXTENSION],
        scene=0,
        scenes=[pygltflib.Scene(nodes=list(range(len(clouds))))],
    )
    blob = _Blob(document, pygltflib)
    for number, (name, cloud) in enumerate(clouds.items()):
        document.nodes.append(pygltflib.Node(name=name, mesh=number))
        columns = _attributes(cloud)
        if labels and name in labels:
            columns["_MATERIAL"] = labels[name].astype(np.float32)
        attributes = {key: blob.add(key, value) for key, value in columns.items()}
        primitive = pygltflib.Primitive(
            attributes=pygltflib.Attributes(**attributes), mode=_POINTS, material=0,
            extensions={EXTENSION: {
                "kernel": "ellipse", "colorSpace": "srgb_rec709_display",
                "sortingMethod": "cameraDistance", "projection": "perspective",
            }},
        )  # fmt: skip
        document.meshes.append(pygltflib.Mesh(name=name, primitives=[primitive]))
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

    def add(self, key: str, values: np.ndarray) -> int:
        """Append an attribute -> the number of its accessor."""
        data = np.ascontiguousarray(values).tobytes()
        library, document = self._library, self._document
        byte = values.dtype == np.uint8
        document.bufferViews.append(library.BufferView(
            buffer=0, byteOffset=self._length, byteLength=len(data), target=_ARRAY_BUFFER,
        ))  # fmt: skip
        width = 1 if values.ndim == 1 else values.shape[1]
        accessor = library.Accessor(
            bufferView=len(document.bufferViews) - 1, byteOffset=0, count=len(values),
            componentType=_UNSIGNED_BYTE if byte else _FLOAT, normalized=byte, type=_KINDS[width],
        )  # fmt: skip
        if key == "POSITION":
            accessor.min = values.min(axis=0).astype(float).tolist()
            accessor.max = values.max(axis=0).astype(float).tolist()
        document.accessors.append(accessor)
        self._parts.append(data)
        self._length += len(data)
        return len(document.accessors) - 1

    def close(self) -> None:
        """Hands the data to the document."""
        self._document.buffers.append(self._library.Buffer(byteLength=self._length))
        self._document.set_binary_blob(b"".join(self._parts))


def _attributes(cloud: Gaussians) -> dict[str, np.ndarray]:
    colours = np.clip(sh_to_colour(cloud.sh), 0, 1)
    shown = np.c_[_srgb_to_linear(colours), cloud.opacities]
    columns = {
        "POSITION": cloud.means.astype(np.float32),
        "COLOR_0": np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8),
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
