# SPDX-License-Identifier: Apache-2.0
"""Results of other systems: splat PLY, or OBJ and GLB meshes as flat Gaussians on their surface.

IDOL writes no file by itself (export its posed Gaussians as a splat PLY), PSHuman writes OBJ with
colours at the vertices, SyncHuman a textured GLB.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import trimesh
from crowdgaussian_shared.errors import CrowdGaussianError
from crowdgaussian_shared.gaussians import Gaussians
from crowdgaussian_shared.rotations import matrix_to_quat, quat_multiply
from crowdgaussian_shared.sh import rotate_sh
from crowdgaussian_shared.splat_ply import read_splat_ply

from ..made_up.mesh_files import read_parts, surface_colours
from ..made_up.surfaces import spread_points, surface_gaussians
from .align import Similarity, align, axes_rotation

SUFFIXES = (".ply", ".obj", ".glb")
_AXES = {name: sign * np.eye(3)[k] for k, axis in enumerate("xyz")
         for name, sign in ((axis, 1.0), (f"-{axis}", -1.0))}
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
            CrowdGaussianError: no axis of that name, or both along the same one.
        """
        known = [_AXES.get(name) for name in (self.up, self.front)]
        if any(v is None for v in known) or self.up.strip("-") == self.front.strip("-"):
            raise CrowdGaussianError(
                f"'{self.up},{self.front}' are no axes; give up and front, such as y,z or -y,-z.")
        return known[0], known[1]


DEFAULT_AXES = {".ply": Axes("-y", "-z"), ".obj": Axes("y", "z"), ".glb": Axes("y", "z")}


def find_result(folder: Path, name: str, percent: int) -> Path:
    """NAME_PERCENT.ply, .obj or .glb in a folder, such as ann_40.glb.

    Raises:
        CrowdGaussianError: there is none.
    """
    for suffix in SUFFIXES:
        path = folder / f"{name}_{percent:02d}{suffix}"
        if path.is_file():
            return path
    raise CrowdGaussianError(
        f"{folder} has no result {name}_{percent:02d} with the ending .ply, .obj or .glb.")


def read_result(path: Path) -> Gaussians:
    """A file as Gaussians, in its own frame.

    Raises:
        CrowdGaussianError: the file is damaged, empty, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise CrowdGaussianError(f"{path} is none of: {', '.join(SUFFIXES)}.")
    if suffix == ".ply":
        return read_splat_ply(path)
    return surface_gaussians(*_surface(path))


def onto_person(gaussians: Gaussians, surface: np.ndarray, axes: Axes,
                to_camera: np.ndarray) -> tuple[Gaussians, float]:
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
        gaussians, means=how(gaussians.means.astype(np.float64)).astype(np.float32),
        quats=quat_multiply(turn, gaussians.quats.astype(np.float64)).astype(np.float32),
        scales=(gaussians.scales * how.scale).astype(np.float32),
        sh=rotate_sh(gaussians.sh, how.rotation).astype(np.float32))


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
