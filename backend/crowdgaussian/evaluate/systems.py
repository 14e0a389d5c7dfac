# SPDX-License-Identifier: Apache-2.0
"""What is compared: the program's own appearance stages, and files of other systems, aligned."""

import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import trimesh
from crowdgaussian_shared.errors import InputError, MissingFileError, SettingError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.rotations import matrix_to_quat, quat_multiply
from crowdgaussian_shared.geometry.sh import rotate_sh
from crowdgaussian_shared.geometry.skinning import pose_avatar
from scipy.spatial import cKDTree

from ..avatar.types import AvatarBuilder
from ..body import BodyModel
from ..core.device import choose_device
from ..core.progress import silent
from ..lorm.training.occlusion import Occluded
from ..pipeline.config import Config
from ..segment.types import CrowdView, PersonMask
from ..splat.splats import Splats
from ..synthetic.people import spread_points, surface_gaussians
from ..synthetic.scans import read_parts, surface_colours
from .subjects import Subject

if TYPE_CHECKING:
    from ..lorm.model.lorm import LormModel

OWN = ("lhm", "lorm", "photo_fit")


class System(Protocol):
    """One row of the tables."""

    name: str

    def splats(self, subject: Subject, hidden: Occluded, percent: int) -> Splats:
        """The person as this system completes them, in the scene frame.

        Args:
            subject: the person, with true body parameters and silhouette.
            hidden: the image of which a part is hidden.
            percent: how much, for file names.
        """
        ...


@dataclass
class BuilderSystem:
    """An appearance stage, given the true body parameters and silhouette."""

    name: str
    builder: AvatarBuilder
    around: AbstractContextManager = field(default_factory=nullcontext)

    def splats(self, subject: Subject, hidden: Occluded, percent: int) -> Splats:
        """See System."""
        masks = [PersonMask(hidden.visible, subject.mask, hidden.ratio)]
        with self.around:
            view = CrowdView(hidden.image, subject.crowd, masks)
            avatar = next(self.builder.reconstruct(view, [0], silent)).result()
        return Splats.from_gaussians(pose_avatar(avatar), choose_device())


@dataclass
class ImportedSystem:
    """Files NAME_PERCENT.ply, .obj or .glb of another system."""

    name: str
    folder: Path
    body: BodyModel
    axes: "Axes | None" = None  # None: those usual for the kind of file
    errors: list[float] = field(default_factory=list)  # metres left after each alignment

    def splats(self, subject: Subject, hidden: Occluded, percent: int) -> Splats:
        """See System."""
        path = find_result(self.folder, subject.name, percent)
        surface = self.body.posed(subject.person.params).vertices.astype(np.float64)
        eye = subject.crowd.camera.eye
        laid, error = onto_person(
            read_result(path),
            surface,
            self.axes or DEFAULT_AXES[path.suffix.lower()],
            eye - surface.mean(0),
        )
        self.errors.append(error)
        return Splats.from_gaussians(laid, choose_device())


class _AdaptersOff:
    """adapters_off that can be entered again and again."""

    def __init__(self, model: "LormModel") -> None:
        self.model = model

    def __enter__(self) -> None:
        from ..lorm.model.adapters import adapters_off

        self.context = adapters_off(self.model)
        self.context.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.context.__exit__(kind, error, trace)


def own_systems(names: tuple[str, ...], config: Config, body: BodyModel) -> list[System]:
    """The program's own stages; the network is loaded once for LHM and LORM.

    Raises:
        CrowdGaussianError: an unknown name, or files that are missing.
    """
    unknown = [name for name in names if name not in OWN]
    if unknown:
        raise SettingError(
            f"There is no system '{unknown[0]}' to evaluate; choose from {', '.join(OWN)}."
        )
    if "lorm" in names and not config.lorm.adapters:
        raise SettingError(
            "LORM is LHM with trained adapters: set lorm.adapters to their file, or leave 'lorm' "
            "out."
        )
    systems: list[System] = []
    if "lhm" in names or "lorm" in names:
        from ..lorm.stage import LormReconstructor

        network = LormReconstructor(config.lorm, body)
        if "lhm" in names:
            systems.append(BuilderSystem("LHM", network, _AdaptersOff(network.model)))
        if "lorm" in names:
            systems.append(BuilderSystem("LORM", network))
    if "photo_fit" in names:
        from ..avatar.photo_fit import PhotoFit

        systems.append(BuilderSystem("photo_fit", PhotoFit(config.avatar, body)))
    return systems


def occlusion_seed(name: str, percent: int) -> int:
    """The same person and share are hidden in the same way in every run."""
    return zlib.crc32(f"{name} {percent}".encode())


# Results of other systems: splat PLY, or OBJ and GLB meshes as flat Gaussians on their surface.
# IDOL writes no file by itself (export its posed Gaussians as a splat PLY), PSHuman writes OBJ with
# colours at the vertices, SyncHuman a textured GLB.

# Laying another system's result on a person: a similarity, by axes and height, then by ICP

_POINTS = 3000  # on each side
_STEPS = 60
_KEPT = 0.85  # share of the pairs that count: loose clothes and hair have no partner
_SETTLED = 1e-6
_LOW, _HIGH = 1.0, 99.0  # percentiles that stand for feet and crown: splats have outliers


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation x + shift."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    shift: np.ndarray  # [3]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """# [N, 3] -> [N, 3]"""
        return self.scale * points @ self.rotation.T + self.shift

    def after(self, first: "Similarity") -> "Similarity":
        """First that one, then this."""
        return Similarity(
            self.scale * first.scale, self.rotation @ first.rotation, self(first.shift[None])[0]
        )


def umeyama(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity with the least squared error from N points to N points (Umeyama 1991).

    # [N, 3] twice
    """
    middle, goal = source.mean(0), target.mean(0)
    a, b = source - middle, target - goal
    u, spread, vt = np.linalg.svd(b.T @ a / len(a))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float((spread * signs).sum() / max((a**2).sum() / len(a), 1e-12))
    return Similarity(scale, rotation, goal - scale * rotation @ middle)


def axes_rotation(up: np.ndarray, front: np.ndarray, target_front: np.ndarray) -> np.ndarray:
    """The rotation that brings up to +y and front, as far as it is level, to the target's.

    # [3], [3], [3] -> [3, 3]
    """

    def frame(up: np.ndarray, front: np.ndarray) -> np.ndarray:
        up = up / np.linalg.norm(up)
        front = front - up * (up @ front)
        front = front / np.linalg.norm(front)
        return np.stack([np.cross(up, front), up, front], 1)

    return frame(np.array([0.0, 1.0, 0.0]), target_front) @ frame(up, front).T


def align(
    source: np.ndarray, target: np.ndarray, rotation: np.ndarray, seed: int = 0
) -> tuple[Similarity, float]:
    """The similarity that lays a result on a person, and how far apart they stay.

    Height and middle of the hips first, then iterative closest points in both directions, in which
    the worst 15 % of the pairs do not count.

    Args:
        source: points of the result in its own frame.  # [N, 3]
        target: points of the person's surface in the scene frame.  # [M, 3]
        rotation: the result's axes -> scene axes, from ``axes_rotation``.  # [3, 3]
        seed: of the subsampling.

    Returns:
        The similarity, and the root mean square distance of the counting pairs in metres.
    """
    rng = np.random.default_rng(seed)
    source, target = (points[rng.permutation(len(points))[:_POINTS]] for points in (source, target))
    turned = source @ rotation.T
    scale = _height(target) / max(_height(turned), 1e-9)
    found = Similarity(scale, rotation, _hips(target) - scale * _hips(turned))
    tree, before = cKDTree(target), np.inf
    for _ in range(_STEPS):
        moved = found(source)
        there, back = tree.query(moved)[1], cKDTree(moved).query(target)[1]
        pairs = np.concatenate([source, source[back]]), np.concatenate([target[there], target])
        apart = np.linalg.norm(found(pairs[0]) - pairs[1], axis=1)
        near = apart <= np.quantile(apart, _KEPT)
        error = float(np.sqrt((apart[near] ** 2).mean()))
        if before - error < _SETTLED * scale:
            break
        before, found = error, umeyama(pairs[0][near], pairs[1][near])
    return found, error


def _height(points: np.ndarray) -> float:
    low, high = np.percentile(points[:, 1], (_LOW, _HIGH))
    return float(high - low)


def _hips(points: np.ndarray) -> np.ndarray:
    """The middle of what is between 48 and 58 % of the height.  # [3]"""
    low = np.percentile(points[:, 1], _LOW)
    share = (points[:, 1] - low) / max(_height(points), 1e-9)
    band = points[(share > 0.48) & (share < 0.58)]
    middle = np.median(band if len(band) else points, axis=0)
    return np.array([middle[0], low + 0.53 * _height(points), middle[2]])


SUFFIXES = (".ply", ".obj", ".glb")
_AXES = {
    name: sign * np.eye(3)[k]
    for k, axis in enumerate("xyz")
    for name, sign in ((axis, 1.0), (f"-{axis}", -1.0))
}
_SURFACE_POINTS = 60_000
_SOLID = 0.3  # opacity from which a splat counts in the alignment


@dataclass(frozen=True)
class Axes:
    """Which way a system's files point."""

    up: str  # "x", "-x", "y", ...: towards the head
    front: str  # towards the camera of the input image

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors.

        Raises:
            SettingError: no axis of that name, or both along the same one.
        """
        up, front = _AXES.get(self.up), _AXES.get(self.front)
        if up is None or front is None or self.up.strip("-") == self.front.strip("-"):
            raise SettingError(
                f"'{self.up},{self.front}' are no axes; give up and front, such as y,z or -y,-z."
            )
        return up, front


DEFAULT_AXES = {".ply": Axes("-y", "-z"), ".obj": Axes("y", "z"), ".glb": Axes("y", "z")}


def find_result(folder: Path, name: str, percent: int) -> Path:
    """NAME_PERCENT.ply, .obj or .glb in a folder, such as ann_40.glb.

    Raises:
        MissingFileError: there is none.
    """
    for suffix in SUFFIXES:
        path = folder / f"{name}_{percent:02d}{suffix}"
        if path.is_file():
            return path
    raise MissingFileError(
        f"{folder} has no result {name}_{percent:02d} with the ending .ply, .obj or .glb."
    )


def read_result(path: Path) -> Gaussians:
    """A file as Gaussians, in its own frame.

    Raises:
        CrowdGaussianError: the file is damaged, empty, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is none of: {', '.join(SUFFIXES)}.")
    if suffix == ".ply":
        return read_splat_ply(path)
    return surface_gaussians(*_surface(path))


def onto_person(
    gaussians: Gaussians, surface: np.ndarray, axes: Axes, to_camera: np.ndarray
) -> tuple[Gaussians, float]:
    """A result laid on a person's posed body by a similarity; see align.

    Args:
        gaussians: in the frame of the file.
        surface: vertices of the posed body.  # [V, 3] metres, scene frame
        axes: of the file.
        to_camera: direction from the person to the camera of the input image.  # [3]

    Returns:
        The Gaussians in the scene frame, and the distance that stays, metres.
    """
    solid = gaussians.means[gaussians.opacities > _SOLID]
    points = solid if len(solid) > 100 else gaussians.means
    rotation = axes_rotation(*axes.vectors(), to_camera)
    found, error = align(points.astype(np.float64), surface.astype(np.float64), rotation)
    return moved(gaussians, found), error


def moved(gaussians: Gaussians, how: Similarity) -> Gaussians:
    """Gaussians under a similarity."""
    turn = matrix_to_quat(how.rotation)
    return replace(
        gaussians,
        means=how(gaussians.means.astype(np.float64)).astype(np.float32),
        quats=quat_multiply(turn, gaussians.quats.astype(np.float64)).astype(np.float32),
        scales=(gaussians.scales * how.scale).astype(np.float32),
        sh=rotate_sh(gaussians.sh, how.rotation).astype(np.float32),
    )


def _surface(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Points on a mesh, spread evenly, with normals, colours and their distance."""
    meshes = read_parts(path)
    area = sum(mesh.area for mesh in meshes)
    pieces = [_sample(mesh, max(1, round(_SURFACE_POINTS * mesh.area / area))) for mesh in meshes]
    points, normals, colours = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return points, normals, colours, float(np.sqrt(area / len(points)))


def _sample(mesh: trimesh.Trimesh, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    faces, shares = spread_points(mesh.area_faces, count, np.random.default_rng(0))
    corners = mesh.faces[faces]
    points = np.einsum("nk,nkc->nc", shares, mesh.vertices[corners])
    return points, mesh.face_normals[faces], surface_colours(mesh, corners, shares)
