# SPDX-License-Identifier: Apache-2.0
"""Mesh files and the colours on their surfaces, from a texture or from the vertices."""

from pathlib import Path

import numpy as np
import trimesh
from crowdgaussian_shared.errors import CrowdGaussianError


def read_parts(path: Path) -> list[trimesh.Trimesh]:
    """The meshes of a file.

    Raises:
        CrowdGaussianError: it is missing or damaged, or has no surface.
    """
    try:
        loaded = trimesh.load(path, process=False)
        parts = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
        meshes = [part for part in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
        area = sum(mesh.area for mesh in meshes)
        if not meshes or not np.isfinite(area) or area <= 0:
            raise ValueError("it has no surface")
    except (ValueError, KeyError, IndexError, OSError, TypeError, AttributeError) as error:
        raise CrowdGaussianError(f"{path} cannot be read as a mesh: {error}.") from error
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
