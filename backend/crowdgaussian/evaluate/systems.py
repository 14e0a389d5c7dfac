# SPDX-License-Identifier: Apache-2.0
"""What is compared: the program's own appearance stages, and files of other systems, aligned."""

import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import trimesh
from crowdgaussian_shared.errors import InputError, MissingFileError, SettingError
from crowdgaussian_shared.formats.splat_ply import read_splat_ply
from crowdgaussian_shared.geometry.avatar import Gaussians
from crowdgaussian_shared.geometry.rotations import matrix_to_quat, quat_multiply
from crowdgaussian_shared.geometry.sh import rotate_sh
from crowdgaussian_shared.geometry.skinning import pose_avatar

from ..avatar.types import AvatarBuilder
from ..body import BodyModel
from ..core.device import choose_device
from ..core.mesh import Similarity, align, axes_rotation
from ..core.progress import silent
from ..lorm.training.occlusion import Occluded
from ..pipeline.config import Config
from ..pipeline.reconstruct import refine_crowd
from ..pipeline.stages import load_stage
from ..segment.types import CrowdView, PersonMask
from ..splat.splats import Splats
from ..synthetic.people import spread_points, surface_gaussians
from ..synthetic.scans import read_parts, surface_colours
from .subjects import Subject

if TYPE_CHECKING:
    from ..lorm.model.lorm import LormModel
    from ..refiner.stage import CrowdRefinement

OWN = ("lhm", "lorm", "photo_fit", "completion")
REFINED = "+refiner"  # after a name: with CrowdRefinement after it, as in the paper's Table 1


class System(Protocol):
    """One row of the tables."""

    name: str

    def splats(self, subject: Subject, hidden: Occluded, occlusion: str) -> Splats:
        """The person as this system completes them, in the scene frame.

        Args:
            subject: the person, with true body parameters and silhouette.
            hidden: the image of which a part is hidden.
            occlusion: what is hidden, as file names say it: "40", "random" or "rectangles".
        """
        ...


@dataclass
class BuilderSystem:
    """An appearance stage, given the true body parameters and silhouette; refined if asked."""

    name: str
    builder: AvatarBuilder
    around: AbstractContextManager = field(default_factory=nullcontext)
    refinement: "CrowdRefinement | None" = None

    def splats(self, subject: Subject, hidden: Occluded, occlusion: str) -> Splats:
        """See System."""
        masks = [PersonMask(hidden.visible, subject.mask, hidden.ratio)]
        view = CrowdView(hidden.image, subject.crowd, masks)
        with self.around:
            avatar = next(self.builder.reconstruct(view, [0], silent)).result()
        if self.refinement is not None:
            (cluster,) = refine_crowd(self.refinement, view, {0: avatar}, silent)
            if cluster.error:
                raise InputError(cluster.error)
            (avatar,) = cluster.avatars
        return Splats.from_gaussians(pose_avatar(avatar), choose_device())


@dataclass
class ImportedSystem:
    """Files NAME_OCCLUSION.ply, .obj or .glb of another system."""

    name: str
    folder: Path
    body: BodyModel
    axes: "Axes | None" = None  # None: those usual for the kind of file
    errors: list[float] = field(default_factory=list)  # metres left after each alignment

    def splats(self, subject: Subject, hidden: Occluded, occlusion: str) -> Splats:
        """See System."""
        path = find_result(self.folder, subject.name, occlusion)
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

    Args:
        names: some of OWN, each also with REFINED after it.
        config: their settings.
        body: of the people.

    Raises:
        CrowdGaussianError: an unknown name, or files that are missing.
    """
    plain = [name.removesuffix(REFINED) for name in names]
    unknown = [name for name, known in zip(names, plain) if known not in OWN]
    if unknown:
        raise SettingError(
            f"There is no system '{unknown[0]}' to evaluate; choose from {', '.join(OWN)}, each "
            f"also with {REFINED}."
        )
    if "lorm" in plain and not config.lorm.adapters:
        raise SettingError(
            "LORM is LHM with trained adapters: set lorm.adapters to their file, or leave 'lorm' "
            "out."
        )
    refinement = _refinement(config, body) if tuple(plain) != names else None
    builders = _builders(set(plain), config, body)
    systems: list[System] = []
    for name, known in zip(names, plain):
        label = _LABELS.get(known, known) + name.removeprefix(known)
        around = _AdaptersOff(builders[known].model) if known == "lhm" else nullcontext()
        after = None if name == known else refinement
        systems.append(BuilderSystem(label, builders[known], around, after))
    return systems


_LABELS = {"lhm": "LHM", "lorm": "LORM"}


def _builders(names: set[str], config: Config, body: BodyModel) -> dict[str, Any]:
    """The appearance stage of each name."""
    builders: dict[str, Any] = {}
    if names & {"lhm", "lorm"}:
        from ..lorm.stage import LormReconstructor

        builders["lhm"] = builders["lorm"] = LormReconstructor(config.lorm, body)
    if names & {"photo_fit", "completion"}:
        from ..avatar.photo_fit import PhotoFit

        builders["photo_fit"] = PhotoFit(config.avatar, body)
    if "completion" in names:
        from ..completion.stage import open_completion

        completion = open_completion(config.complete, body)
        builders["completion"] = PhotoFit(config.avatar, body, completion)
    return builders


def _refinement(config: Config, body: BodyModel) -> "CrowdRefinement":
    if config.stages.refiner == "none":
        raise SettingError(
            f"A system with {REFINED} needs a refiner: set stages.refiner to small or turbo."
        )
    return load_stage("refiner", config, body)


def occlusion_seed(name: str, occlusion: str) -> int:
    """The same person is hidden in the same way in every run."""
    return zlib.crc32(f"{name} {occlusion}".encode())


# Results of other systems: splat PLY, or OBJ and GLB meshes as flat Gaussians on their surface.
# IDOL writes no file by itself (export its posed Gaussians as a splat PLY), PSHuman writes OBJ with
# colours at the vertices, SyncHuman a textured GLB.

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


def find_result(folder: Path, name: str, occlusion: str) -> Path:
    """NAME_OCCLUSION.ply, .obj or .glb in a folder, such as ann_40.glb.

    Raises:
        MissingFileError: there is none.
    """
    for suffix in SUFFIXES:
        path = folder / f"{name}_{occlusion}{suffix}"
        if path.is_file():
            return path
    raise MissingFileError(
        f"{folder} has no result {name}_{occlusion} with the ending .ply, .obj or .glb."
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
