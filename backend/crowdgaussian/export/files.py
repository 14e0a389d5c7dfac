# SPDX-License-Identifier: Apache-2.0
"""What is exported to which files: people of a scene folder or the splats of other files."""

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import InputError, MissingFileError, SettingError
from crowdgaussian_shared.formats.atomic import write_bytes
from crowdgaussian_shared.formats.splat_ply import write_splat_ply
from crowdgaussian_shared.geometry.avatar import Avatar, Gaussians
from crowdgaussian_shared.geometry.axes import Frame, convert_gaussians
from crowdgaussian_shared.geometry.sh import sh_to_colour
from crowdgaussian_shared.geometry.skinning import join_gaussians, pose_avatar, pose_body
from crowdgaussian_shared.motion.fit import play_in_place_of
from crowdgaussian_shared.motion.motion import Motion
from crowdgaussian_shared.motion.read import read_motion
from crowdgaussian_shared.motion.time import resample
from crowdgaussian_shared.scene.folder import SceneFolder
from crowdgaussian_shared.scene.schema import PersonEntry

from .interchange import Cloud, check_filled, scratch_file, write_gltf, write_usd
from .read import SPLAT_DTYPE, read_splats
from .sog import write_sog

_GLTF, _USD = ("glb", "gltf"), ("usd", "usda", "usdc")
FORMATS = {kind: f".{kind}" for kind in ("ply", "spz", "sog", "splat", *_GLTF, *_USD)}
FRAMES_FILE = "frames.json"


@dataclass(frozen=True)
class ExportJob:
    """One export.

    Attributes:
        sources: a scene folder, or splat files, which are joined; glTF and USD keep them apart.
        target: the file to write; with a motion, unless it is glTF, the folder of the frames.
        format: of FORMATS; None takes it from the target's ending.
        person: index in scene.json; None for everybody who is there.
        separate: one file for each person, `-NNN` before the ending.
        axes: of a PLY, SOG or .splat that is written; SPZ, glTF and USD always are y up.
        source_axes: of the files that are read; SPZ and glTF always are y up.
        rig: bones and weights go along; glTF alone has room for them.
        motion: what everybody does, from where they stand: a rig's animation in glTF, else a file
            for each frame.
        fps: frames a second of the motion; None keeps its own.
        spz_version: of SPZ_VERSIONS.
    """

    sources: tuple[Path, ...]
    target: Path
    format: str | None = None
    person: int | None = None
    separate: bool = False
    axes: Frame = "opencv"
    source_axes: Frame = "opencv"
    rig: bool = False
    motion: Path | None = None
    fps: float | None = None
    spz_version: int = 3


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
    folders = [source for source in job.sources if source.is_dir()]
    job = _checked(job, folders)
    motion = None if job.motion is None else motion_file(job.motion, job.fps)
    clouds = _read_scene(folders[0], job.person, motion) if folders else _read_clouds(job, warn)
    if motion is not None and job.format not in _GLTF:
        return _write_frames(job, motion, clouds, report)
    groups = {job.target: clouds}
    if job.separate:
        stem = job.target.stem
        groups = {job.target.with_stem(f"{stem}-{cloud.name[-3:]}"): [cloud] for cloud in clouds}
    for target, members in groups.items():
        _write(target, members, job)
        report(target)
    return list(groups)


def write_splats(path: str | Path, gaussians: Gaussians, axes: Frame = "opencv") -> None:
    """Write Gaussians of the scene frame as one file, atomically.

    Args:
        path: its ending says the format, of FORMATS.
        gaussians: N of them; torch Splats have to_gaussians.
        axes: of a PLY, SOG or .splat.

    Raises:
        CrowdGaussianError: an unknown format, nothing to write, or it cannot be written.
    """
    path = Path(path)
    _write(path, [Cloud(path.stem, gaussians)], _checked(ExportJob((path,), path, axes=axes), []))


def _checked(job: ExportJob, folders: list[Path]) -> ExportJob:
    """The job with its format, if its parts fit together."""
    kind = job.format or next(
        (name for name, end in FORMATS.items() if end == job.target.suffix.lower()), ""
    )
    if kind not in FORMATS:
        raise SettingError(
            f"{job.target} does not say its format; let it end in {', '.join(FORMATS.values())} "
            "or give --format."
        )
    if folders and len(job.sources) > 1:
        raise SettingError(f"{folders[0]} is a folder; give it alone, without other sources.")
    asked = {"--person": job.person is not None, "--separate": job.separate, "--rig": job.rig}
    asked["--motion"] = job.motion is not None
    named = " and ".join(name for name, given in asked.items() if given)
    if named and not folders:
        raise SettingError(
            f"{job.sources[0]} is a file of splats without people; leave {named} out."
        )
    if job.rig and kind not in _GLTF:
        raise SettingError(f"A {kind} has no room for a rig; write a .glb, or leave --rig out.")
    if job.motion is not None and job.separate:
        raise SettingError("--separate and --motion do not go together; give --person N instead.")
    return replace(job, format=kind, rig=job.rig or job.motion is not None)


def motion_file(path: Path, fps: float | None) -> Motion:
    """A motion file, at another frame rate if one is given."""
    motion = read_motion(path)
    return motion if fps is None else resample(motion, fps)


def on_person(motion: Motion, entry: PersonEntry, avatar: Avatar) -> Motion:
    """The motion for somebody of a scene, from where they stand: the floor, or as high as now."""
    floor = 0.0 if entry.on_ground else float(pose_body(avatar)[:, 1].min())
    return play_in_place_of(motion, avatar, floor)


def _read_clouds(job: ExportJob, warn: Callable[[str], None]) -> list[Cloud]:
    clouds: dict[str, Cloud] = {}
    for number, source in enumerate(job.sources):
        name = source.stem if source.stem not in clouds else f"{source.stem} {number}"
        read = read_splats(source, job.source_axes)
        if read.dropped:
            warn(f"{source}: {read.dropped} that are no splats were left out.")
        clouds[name] = Cloud(name, read.gaussians, read.labels)
    return list(clouds.values())


def _read_scene(path: Path, person: int | None, motion: Motion | None) -> list[Cloud]:
    """The people, posed as in the photo."""
    folder = SceneFolder.open(path)
    entries = folder.info.people
    done = [i for i, e in enumerate(entries) if "avatar" in e.files and e.state == "done"]
    indices = done if person is None else [person]
    if not indices:
        raise InputError(
            f"{path} has no finished person; run `crowdgaussian reconstruct` to its end."
        )
    clouds = []
    for index in indices:
        avatar = folder.read_avatar(index)
        labels = avatar.materials.label if avatar.materials is not None else None
        cloud = Cloud(f"Person {index:03d}", pose_avatar(avatar), labels, avatar)
        if motion is not None:
            cloud = replace(cloud, motion=on_person(motion, entries[index], avatar))
        clouds.append(cloud)
    return clouds


def _write(path: Path, clouds: list[Cloud], job: ExportJob) -> None:
    kind = job.format or ""
    if kind in _GLTF:
        write_gltf(path.with_suffix(FORMATS[kind]), clouds, job.rig)
    elif kind in _USD:
        write_usd(path.with_suffix(FORMATS[kind]), clouds)
    elif kind == "spz":
        write_spz(path, _joined(path, clouds), job.spz_version)
    else:
        together = convert_gaussians(_joined(path, clouds), "scene", job.axes)
        if kind == "sog":
            write_sog(path, together)
        elif kind == "splat":
            write_dot_splat(path, together)
        else:
            write_splat_ply(path, together, labels=_joined_labels(clouds))


def _joined(path: Path, clouds: list[Cloud]) -> Gaussians:
    parts = [cloud.gaussians for cloud in clouds]
    check_filled(path, parts)
    return join_gaussians(parts)


def _joined_labels(clouds: list[Cloud]) -> np.ndarray | None:
    """Of all Gaussians in order, other where unknown; None if none is known."""
    if all(cloud.labels is None for cloud in clouds):
        return None
    unknown = (np.zeros(len(cloud.gaussians), np.uint8) for cloud in clouds)
    pairs = zip(clouds, unknown)
    return np.concatenate([c.labels if c.labels is not None else none for c, none in pairs])


# A file for each frame of a motion: splat k is the same one in all of them


def _write_frames(
    job: ExportJob, motion: Motion, clouds: list[Cloud], report: Callable[[Path], None]
) -> list[Path]:
    """The files in the folder job.target, and last the list that names them all."""
    ending = FORMATS[job.format or ""]
    files = []
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for frame in range(motion.frames):
        path = job.target / f"frame_{frame + 1:04d}{ending}"
        posed = [_at(cloud, frame) for cloud in clouds]
        _write(path, posed, job)
        report(path)
        files.append(path)
        for cloud in posed:
            low = np.minimum(low, cloud.gaussians.means.min(axis=0))
            high = np.maximum(high, cloud.gaussians.means.max(axis=0))
    listed = {
        "version": 1, "format": job.format, "fps": motion.fps, "files": [p.name for p in files],
        "people": [{"name": c.name, "splats": len(c.gaussians)} for c in clouds],
        "axes": "scene" if job.format in ("spz", *_USD) else job.axes,
        "box": {"low": low.tolist(), "high": high.tolist()},  # of the centres, scene frame, metres
    }  # fmt: skip
    listing = job.target / FRAMES_FILE
    write_bytes(listing, json.dumps(listed, indent=1).encode())
    report(listing)
    return [*files, listing]


def _at(cloud: Cloud, frame: int) -> Cloud:
    """The person at a frame of their motion."""
    if cloud.avatar is None or cloud.motion is None:
        return cloud
    poses, transl = cloud.motion.poses, cloud.motion.transl
    return replace(cloud, gaussians=pose_avatar(cloud.avatar, poses[frame], transl[frame]))


# antimatter15's .splat: 32 bytes each, colours without view dependence; read in read.py


def write_dot_splat(path: Path, gaussians: Gaussians) -> None:
    """Write a .splat file in the axes of the Gaussians, atomically."""
    rows = np.empty(len(gaussians), SPLAT_DTYPE)
    colours = np.c_[sh_to_colour(gaussians.sh), gaussians.opacities]
    rows["xyz"], rows["scale"] = gaussians.means, gaussians.scales
    rows["rgba"] = np.round(255 * np.clip(colours, 0, 1))
    rows["quat"] = np.clip(np.round(128 * gaussians.quats + 128), 0, 255)
    write_bytes(path, rows.tobytes())


# SPZ, the compressed format of Niantic: versions 3 and 4 through gsply (MIT), version 2 by
# ourselves from the description in nianticlabs/spz. It rounds: centres to a fixed step, colours
# and opacity to 8 bits, scales to a sixteenth of their logarithm, rotations to 10 bits (8 in
# version 2), harmonics to 1/128. Its axes are x right, y up, z to the viewer: our scene frame.

SPZ_VERSIONS = (2, 3, 4)
_LIMIT = (1 << 23) - 1  # a centre's coordinate is a signed number of 24 bits
_FINEST = 16  # fractional bits: 0.015 mm
_MIN_ODDS, _MIN_SCALE = 1e-7, 1e-12
_COLOUR = 0.15  # of a coefficient of degree 0, which then lies around one half


def write_spz(path: Path, gaussians: Gaussians, version: int = 3) -> None:
    """Write an SPZ file, atomically.

    Args:
        path: where to write.
        gaussians: N Gaussians of degree 0..3, scene frame.
        version: 2 and 3 are compressed by gzip, 4 by zstandard.

    Raises:
        CrowdGaussianError: gsply is missing, no such version, too far apart, or the disk is full.
    """
    if version not in SPZ_VERSIONS:
        raise SettingError(f"There is no SPZ of version {version} here; choose 2, 3 or 4.")
    bits = fractional_bits(path, gaussians.means)
    if version == 2:
        write_bytes(path, gzip.compress(_packed_spz(gaussians, bits), mtime=0))
        return
    try:
        import gsply
        import zstandard  # noqa: F401  # gsply writes version 4 with it
    except ImportError as error:
        raise MissingFileError(
            "SPZ needs the package gsply; run `pip install 'crowdgaussian[export]'`."
        ) from error
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
        gsply.write_spz(temp, data, fractional_bits=bits, version=version)
        write_bytes(path, temp.read_bytes())


def _packed_spz(cloud: Gaussians, bits: int) -> bytes:
    """Version 2 before compression: a head, then column after column."""
    head = struct.pack("<4sIIBBBB", b"NGSP", 2, len(cloud), cloud.sh_degree, bits, 0, 0)
    fixed = np.round(cloud.means.astype(np.float64) * 2.0**bits).astype("<i4")
    columns = (
        fixed.view("u1").reshape(-1, 3, 4)[:, :, :3],
        255 * cloud.opacities,
        255 * (_COLOUR * cloud.sh[:, 0] + 0.5),
        16 * (np.log(np.maximum(cloud.scales, _MIN_SCALE)) + 10),
        _spz_rotations(cloud.quats),
        128 * cloud.sh[:, 1:] + 128,
    )
    return head + b"".join(
        np.clip(np.round(column), 0, 255).astype("u1").tobytes() for column in columns
    )


def _spz_rotations(quats: np.ndarray) -> np.ndarray:
    """A byte for each of x, y, z; w >= 0 is what is left of one.  # [N, 4] -> [N, 3]

    A small w would be lost in the rounding. Half a turn about an own axis leaves a Gaussian as it
    is, so of the four rotations that mean the same the one with the largest w is taken.
    """
    w, x, y, z = quats.astype(np.float64).T
    same = np.array([(w, x, y, z), (-x, w, z, -y), (-y, -z, w, x), (-z, y, -x, w)])  # [4, 4, N]
    best = np.take_along_axis(same, np.abs(same[:, 0]).argmax(axis=0)[None, None], axis=0)[0]
    return 127.5 * np.where(best[0] < 0, -1, 1)[:, None] * best[1:].T + 127.5


def fractional_bits(path: Path, means: np.ndarray) -> int:
    """The finest step that still reaches the farthest centre: 2^-bits metres.

    Raises:
        InputError: there is no splat, or one lies farther away than SPZ can say.
    """
    check_filled(path, [means])
    far = float(np.abs(means).max())
    bits = int(np.floor(np.log2(_LIMIT / max(far, 1e-6))))
    if bits < 1:
        raise InputError(
            f"{path} cannot hold splats {far:.0f} metres from the origin; move them closer."
        )
    return min(bits, _FINEST)
