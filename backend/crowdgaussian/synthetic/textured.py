# SPDX-License-Identifier: Apache-2.0
"""Textured meshes as coloured faces, neither too many nor too large."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError

# Mesh files and the colours on their surfaces, from a texture or from the vertices


def read_parts(path: Path) -> list[trimesh.Trimesh]:
    """The meshes of a file.

    Raises:
        DamagedFileError: it is missing or damaged, or has no surface.
    """
    try:
        loaded = trimesh.load(path, process=False)
        parts = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
        meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
        area = sum(mesh.area for mesh in meshes)
        if not meshes or not np.isfinite(area) or area <= 0:
            raise ValueError("it has no surface")
    except (ValueError, KeyError, IndexError, OSError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path} cannot be read as a mesh: {error}.") from error
    return meshes


def texture_of(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """The mesh's texture, where it has one and says where it lies.  # [H, W, 3] uint8"""
    visual = mesh.visual
    if not isinstance(visual, trimesh.visual.TextureVisuals) or visual.uv is None:
        return None
    image = getattr(visual.material, "image", None)
    image = image or getattr(visual.material, "baseColorTexture", None)
    return None if image is None else np.asarray(image.convert("RGB"))


def surface_colours(mesh: trimesh.Trimesh, corners: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Colours at points of faces: from the texture, or else from the vertices.

    # [N, 3] vertices, [N, 3] shares of each -> [N, 3] 0..1
    """
    pixels = texture_of(mesh)
    if pixels is not None:
        return texels(pixels, np.einsum("nk,nkc->nc", shares, mesh.visual.uv[corners]))
    visual = mesh.visual
    if isinstance(visual, trimesh.visual.TextureVisuals):
        visual = visual.to_color()
    vertex_colors = np.asarray(visual.vertex_colors)[:, :3] / 255
    return np.einsum("nk,nkc->nc", shares, vertex_colors[corners])


def texels(pixels: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels; v counts upwards.  # [H, W, 3] uint8, [N, 2] -> [N, 3] 0..1"""
    height, width = pixels.shape[:2]
    column = np.floor((uv[:, 0] % 1) * width).astype(int).clip(0, width - 1)
    row = np.floor((1 - uv[:, 1] % 1) * height).astype(int).clip(0, height - 1)
    return pixels[row, column] / 255


_MOST = 150_000  # faces of a person
_LONGEST = 0.02  # metres, of an edge: larger faces are split, to have the texture's colours
_PER_CELL = 3.0  # faces by area, in cells, that merging vertices leaves
_PLACES = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2]]) / 6  # in a face, where it is seen


@dataclass(frozen=True)
class ColouredMesh:
    """A surface whose faces have one colour each."""

    vertices: np.ndarray  # [V, 3] metres
    faces: np.ndarray  # [F, 3]
    colours: np.ndarray  # [F, 3] sRGB 0..1


def read_textured(path: Path, unit: float, most: int = _MOST) -> ColouredMesh:
    """A mesh file with its texture.

    Args:
        path: OBJ with .mtl and image beside it.
        unit: metres of one unit of the file.
        most: faces, about, that finer meshes are simplified to.

    Raises:
        CrowdGaussianError: it cannot be read, or has no texture.
    """
    parts = [_coloured(part, unit, path) for part in read_parts(path)]
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    whole = ColouredMesh(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + s for part, s in zip(parts, starts)]),
        np.concatenate([part.colours for part in parts]),
    )
    return simplified(whole, most)


def _coloured(part: trimesh.Trimesh, unit: float, path: Path) -> ColouredMesh:
    pixels = texture_of(part)
    if pixels is None:
        raise MissingFileError(f"{path} has no texture; put its .mtl file and its image beside it.")
    vertices, faces = np.asarray(part.vertices) * unit, np.asarray(part.faces)
    finer, split, source = trimesh.remesh.subdivide_to_size(
        vertices, faces, _LONGEST, max_iter=12, return_index=True
    )
    uv = part.visual.uv[faces[source]]  # [F, 3, 2]
    colours = np.zeros((len(split), 3))
    for place in _PLACES:
        points = np.einsum("k,fkc->fc", place, finer[split])
        shares = trimesh.triangles.points_to_barycentric(vertices[faces[source]], points)
        shares = np.nan_to_num(shares, nan=1 / 3)
        colours += texels(pixels, np.einsum("fk,fkc->fc", shares, uv)) / len(_PLACES)
    return ColouredMesh(finer, split, colours)


def simplified(mesh: ColouredMesh, most: int) -> ColouredMesh:
    """Fewer faces: vertices of the same small cell become one.

    Args:
        mesh: any.
        most: faces, about; a mesh with fewer stays as it is.
    """
    if len(mesh.faces) <= most:
        return mesh
    areas = trimesh.triangles.area(mesh.vertices[mesh.faces])
    cell = np.sqrt(_PER_CELL * areas.sum() / most)
    keys = np.floor((mesh.vertices - mesh.vertices.min(0)) / cell).astype(np.int64)
    _, members = np.unique(keys @ np.array([1, 1 << 20, 1 << 40]), return_inverse=True)
    counts = np.bincount(members)
    vertices = np.stack([np.bincount(members, axis) / counts for axis in mesh.vertices.T], 1)
    faces = members[mesh.faces]
    ordered = np.sort(faces, 1)
    kept = np.flatnonzero((np.diff(ordered, axis=1) > 0).all(1))
    _, first, same = np.unique(ordered[kept], axis=0, return_index=True, return_inverse=True)
    weights, same = areas[kept] + 1e-12, same.reshape(-1)
    sums = np.stack([np.bincount(same, weights * c) for c in mesh.colours[kept].T], 1)
    return ColouredMesh(vertices, faces[kept[first]], sums / np.bincount(same, weights)[:, None])
