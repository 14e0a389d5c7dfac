# SPDX-License-Identifier: Apache-2.0
"""What is exported to which files: people of a scene folder or the splats of a PLY."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import InputError, MissingFileError, SettingError
from crowdgaussian_shared.formats.atomic import write_bytes, write_error
from crowdgaussian_shared.formats.splat_ply import write_splat_ply
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.axes import Frame, convert_gaussians
from crowdgaussian_shared.geometry.sh import sh_to_colour
from crowdgaussian_shared.geometry.skinning import join_gaussians, pose_avatar
from crowdgaussian_shared.scene.folder import SceneFolder

from .read import read_splats

FORMATS = {"ply": ".ply", "spz": ".spz", "glb": ".glb", "gltf": ".gltf"}


@dataclass(frozen=True)
class ExportJob:
    """One export.

    Attributes:
        sources: a scene folder, or splat files, which are joined; glTF keeps them apart.
        target: the file to write.
        format: of FORMATS; None takes it from the target's ending.
        person: index in scene.json; None for everybody who is there.
        separate: one file for each person, `-NNN` before the ending.
        axes: of a PLY that is written; SPZ and glTF always are y up.
        source_axes: of the files that are read; SPZ always is y up.
    """

    sources: tuple[Path, ...]
    target: Path
    format: str | None = None
    person: int | None = None
    separate: bool = False
    axes: Frame = "opencv"
    source_axes: Frame = "opencv"


@dataclass(frozen=True)
class _Clouds:
    """What is exported, by name: Gaussians of the scene frame, and what they show where known."""

    gaussians: dict[str, Gaussians] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # [N] uint8 each

    def add(self, name: str, gaussians: Gaussians, labels: np.ndarray | None) -> None:
        """One more of them."""
        self.gaussians[name] = gaussians
        if labels is not None:
            self.labels[name] = labels

    def only(self, name: str) -> "_Clouds":
        """That one alone."""
        kept = {name: self.labels[name]} if name in self.labels else {}
        return _Clouds({name: self.gaussians[name]}, kept)

    def joined_labels(self) -> np.ndarray | None:
        """Of all Gaussians in order, other where unknown; None if none is known."""
        if not self.labels:
            return None
        unknown = {name: np.zeros(len(c), np.uint8) for name, c in self.gaussians.items()}
        return np.concatenate(list({**unknown, **self.labels}.values()))


def export_files(
    job: ExportJob,
    report: Callable[[Path], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Write the files, each whole or not at all.

    Args:
        job: what to export.
        report: called with each file that is written.
        warn: called with a sentence about each source of which something was left out.

    Returns:
        The files.

    Raises:
        CrowdGaussianError: nobody to export, a damaged source, an unknown format, or the file
            cannot be written.
    """
    kind = _format_of(job)
    folders = [source for source in job.sources if source.is_dir()]
    if folders and len(job.sources) > 1:
        raise SettingError(f"{folders[0]} is a folder; give it alone, without other sources.")
    clouds = _read_scene(folders[0], job.person) if folders else _read_clouds(job, warn)
    groups = {job.target: clouds}
    if job.separate:
        target = job.target
        groups = {
            target.with_stem(f"{target.stem}-{name[-3:]}"): clouds.only(name)
            for name in clouds.gaussians
        }
    for target, members in groups.items():
        _write(target, kind, members, job.axes)
        report(target)
    return list(groups)


def _format_of(job: ExportJob) -> str:
    kind = job.format or next(
        (name for name, end in FORMATS.items() if end == job.target.suffix.lower()), ""
    )
    if kind not in FORMATS:
        raise SettingError(
            f"{job.target} does not say its format; let it end in {', '.join(FORMATS.values())} "
            "or give --format."
        )
    return kind


def _read_clouds(job: ExportJob, warn: Callable[[str], None]) -> _Clouds:
    if job.person is not None or job.separate:
        raise SettingError(
            f"{job.sources[0]} is a file of splats without people; leave --person and --separate "
            "out."
        )
    clouds = _Clouds()
    for number, source in enumerate(job.sources):
        name = source.stem if source.stem not in clouds.gaussians else f"{source.stem} {number}"
        read = read_splats(source, job.source_axes)
        if read.dropped:
            warn(f"{source}: {read.dropped} that are no splats were left out.")
        clouds.add(name, read.gaussians, read.labels)
    return clouds


def _read_scene(path: Path, person: int | None) -> _Clouds:
    """The posed people by name."""
    folder = SceneFolder.open(path)
    entries = enumerate(folder.info.people)
    done = [i for i, entry in entries if "avatar" in entry.files and entry.state == "done"]
    indices = done if person is None else [person]
    if not indices:
        raise InputError(
            f"{path} has no finished person; run `crowdgaussian reconstruct` to its end."
        )
    clouds = _Clouds()
    for index in indices:
        avatar = folder.read_avatar(index)
        labels = avatar.materials.label if avatar.materials is not None else None
        clouds.add(f"Person {index:03d}", pose_avatar(avatar), labels)
    return clouds


def _write(path: Path, kind: str, clouds: _Clouds, axes: Frame) -> None:
    if kind in ("glb", "gltf"):
        write_gltf(path.with_suffix(FORMATS[kind]), clouds.gaussians, clouds.labels)
        return
    together = join_gaussians(list(clouds.gaussians.values()))
    if kind == "spz":
        write_spz(path, together)
    else:
        labels = clouds.joined_labels()
        write_splat_ply(path, convert_gaussians(together, "scene", axes), labels=labels)


# SPZ, the compressed format of Niantic, through gsply (MIT). It rounds: centres to a fixed step,
# colours and opacity to 8 bits, scales to a sixteenth of their logarithm, rotations to 10 bits. Its
# axes are x right, y up, z to the viewer: our scene frame.


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


_LIMIT = (1 << 23) - 1  # a centre's coordinate is a signed number of 24 bits
_FINEST = 16  # fractional bits: 0.015 mm
_MIN_ODDS, _MIN_SCALE = 1e-7, 1e-12


def write_spz(path: Path, gaussians: Gaussians) -> None:
    """Write an SPZ file of version 3 (gzip), atomically.

    Args:
        path: where to write.
        gaussians: N Gaussians of degree 0..3, scene frame.

    Raises:
        CrowdGaussianError: gsply is missing, nothing to write, too far apart, or the disk is full.
    """
    try:
        import gsply
    except ImportError as error:
        raise MissingFileError(
            "SPZ needs the package gsply; run `pip install 'crowdgaussian[export]'`."
        ) from error
    bits = fractional_bits(path, gaussians.means)
    odds = np.clip(gaussians.opacities.astype(np.float64), _MIN_ODDS, 1 - _MIN_ODDS)
    data = gsply.GSData.from_arrays(
        means=np.ascontiguousarray(gaussians.means, np.float32),
        scales=np.log(np.maximum(gaussians.scales, _MIN_SCALE)).astype(np.float32),
        quats=np.ascontiguousarray(gaussians.quats, np.float32),
        opacities=np.log(odds / (1 - odds)).astype(np.float32),
        sh0=np.ascontiguousarray(gaussians.sh[:, 0], np.float32),
        shN=np.ascontiguousarray(gaussians.sh[:, 1:], np.float32),
        format="ply",
    )
    with scratch_file(".spz") as temp:
        gsply.write_spz(temp, data, fractional_bits=bits)
        write_bytes(path, temp.read_bytes())


def fractional_bits(path: Path, means: np.ndarray) -> int:
    """The finest step that still reaches the farthest centre: 2^-bits metres.

    Raises:
        InputError: there is no splat, or one lies farther away than SPZ can say.
    """
    if not len(means):
        raise InputError(f"{path} would hold no splat; choose at least one person.")
    far = float(np.abs(means).max())
    bits = int(np.floor(np.log2(_LIMIT / max(far, 1e-6))))
    if bits < 1:
        raise InputError(
            f"{path} cannot hold splats {far:.0f} metres from the origin; move them closer."
        )
    return min(bits, _FINEST)


# Splats as glTF 2.0 with KHR_gaussian_splatting, the container by pygltflib (MIT).
#
# Source of the layout: the extension's specification (Khronos, ratified 2026): one POINTS
# primitive; rotations xyzw, scales linear in metres, opacity 0..1, one VEC3 for each coefficient
# of the spherical harmonics, whose basis is that of 3DGS. glTF is y up and z to the viewer: our
# scene frame. COLOR_0 shows viewers that do not know the extension coloured points. _MATERIAL, an
# attribute of our own as glTF allows them, says what a splat shows: a place in MATERIALS.

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
