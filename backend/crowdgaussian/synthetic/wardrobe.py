# SPDX-License-Identifier: Apache-2.0
"""MakeHuman's garments and hair (CC0), put on the open body by their bindings.

A garment is FOLDER/base/{clothes,hair}/NAME/NAME.obj with NAME.mhclo, which says where each of its
vertices lies from three vertices of the base mesh. Only shapes are read; cloth is painted here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from crowdgaussian_shared.errors import DamagedFileError
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..body import BodyModel
from .garments import BaseMesh, Helper, Helpers, load_helpers, neighbour_mean

CLOTHES, HEADS, PAIRS = "clothes", "hair", "shoes"  # kinds; pairs are shoes
_FOLDERS = {CLOTHES: "clothes", PAIRS: "clothes", HEADS: "hair"}
_SMOOTHED = {CLOTHES: 12, PAIRS: 8, HEADS: 40}  # steps: cloth does not crease, hair moves as one
_SCALES = ("x_scale", "y_scale", "z_scale")
# Shown to no network in training, so that people in them tell how well it does with new ones
HELD_OUT = {
    "female_casualsuit02",
    "female_elegantsuit01",
    "male_casualsuit05",
    "male_elegantsuit01",
    "long01",
    "short02",
    "bob01",
}
_PATCH = 12.0, 8.0  # per metre of height and depth: separate pieces so near are one colour group


@dataclass(frozen=True)
class Garment:
    """One garment with what it needs to be worn."""

    helper: Helper
    group: np.ndarray  # [H] int: pieces of one colour, left and right alike
    hides: np.ndarray  # [V] bool: the body's vertices underneath


@dataclass(frozen=True)
class _Binding:
    """What an .mhclo file says of H vertices."""

    corners: np.ndarray  # [H, 3] vertices of the base mesh
    shares: np.ndarray  # [H, 3]
    off: np.ndarray  # [H, 3] in units of scale
    scale: np.ndarray  # [3, 3] two vertices of the base mesh for each axis, and their distance
    hidden: np.ndarray  # [D] vertices of the base mesh

    def points(self, base: BaseMesh) -> np.ndarray:
        """Where the garment's vertices are.  # [H, 3] metres"""
        first, second = (base.vertices[self.scale[:, k].astype(int)] for k in (0, 1))
        size = np.abs(np.diagonal(first - second)) / self.scale[:, 2]
        return np.einsum("hk,hkc->hc", self.shares, base.vertices[self.corners]) + self.off * size


class Wardrobe:
    """The surfaces of the base mesh, and the garments of a folder, read when they are asked for."""

    def __init__(self, folder: Path, body: BodyModel) -> None:
        """Finds them.

        Args:
            folder: holds MakeHuman's base.obj, and its garments if wanted.
            body: the open body.

        Raises:
            CrowdGaussianError: there is no base mesh.
        """
        self.helpers: Helpers = load_helpers(folder, body)
        self.mean = neighbour_mean(np.asarray(body.faces), body.num_vertices)
        self._folder = folder / "base"
        self.garment = lru_cache(maxsize=None)(self._read)

    def names(self, kind: str, held: bool = False) -> list[str]:
        """The garments of a kind that are there: for training, or those held out from it."""
        found = sorted((self._folder / _FOLDERS[kind]).glob("*/*.mhclo"))
        names = [path.stem for path in found if path.parent.name == path.stem]
        if kind != HEADS:
            names = [name for name in names if name.startswith(PAIRS) == (kind == PAIRS)]
        return [name for name in names if (name in HELD_OUT) == held]

    def _read(self, name: str, kind: str) -> Garment:
        """One garment.

        Raises:
            DamagedFileError: its files are damaged.
        """
        folder, stand = self._folder / _FOLDERS[kind] / name, self.helpers.stand
        try:
            binding = _read_binding(folder / f"{name}.mhclo")
            faces = _read_faces(folder / f"{name}.obj")
            points = binding.points(stand.base)
            helper = stand.bind(points, faces, _SMOOTHED[kind])
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise DamagedFileError(f"{folder} holds no garment: {error}.") from error
        hides = np.isin(stand.own, binding.hidden)
        return Garment(helper, _groups(points, faces), hides)


def _read_binding(path: Path) -> _Binding:
    mode, scale = "", np.zeros((3, 3))
    rows: list[list[float]] = []
    hidden: list[int] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("verts", "delete_verts"):
            mode = words[0]
        elif words[0] in _SCALES:
            scale[_SCALES.index(words[0])] = [float(word) for word in words[1:4]]
        elif words[0][0].isalpha():
            continue
        elif mode == "verts":
            row = [float(word) for word in words]
            rows.append(row if len(row) == 9 else [row[0]] * 3 + [1, 0, 0, 0, 0, 0])
        elif mode == "delete_verts":
            hidden += _ranges(words)
    table = np.array(rows)
    corners = table[:, :3].astype(int)
    return _Binding(corners, table[:, 3:6], table[:, 6:9], scale, np.array(hidden, int))


def _ranges(words: list[str]) -> Iterable[int]:
    """The numbers of "3 5 - 8 11"."""
    text = " ".join(words).replace(" - ", "-").split()
    for part in text:
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _read_faces(path: Path) -> np.ndarray:
    """The triangles of an OBJ file.  # [F, 3]"""
    triangles = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("f "):
            corners = [int(word.split("/")[0]) - 1 for word in line.split()[1:]]
            triangles += [
                [corners[0], corners[k], corners[k + 1]] for k in range(1, len(corners) - 1)
            ]
    return np.array(triangles)


def _groups(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Pieces that hang together, those left and right of each other as one.  # [H]"""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    linked = coo_matrix((np.ones(len(edges)), edges.T), (len(points), len(points)))
    count, piece = connected_components(linked, directed=False)
    weights = np.maximum(np.bincount(piece, minlength=count), 1)
    height, depth = (np.bincount(piece, points[:, axis], count) / weights for axis in (1, 2))
    near = np.stack([height * _PATCH[0], depth * _PATCH[1]], 1).round()
    return np.unique(near, axis=0, return_inverse=True)[1].ravel()[piece]
