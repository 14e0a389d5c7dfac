# SPDX-License-Identifier: Apache-2.0
"""Garments and long hair, cut from the helper surfaces of MakeHuman's base mesh (CC0).

The base mesh carries, beside its body, surfaces that clothes are modelled on: tights, a skirt and
hair. The body is the open body's, vertex by vertex, so they follow every shape and pose of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
import torch
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from crowdgaussian_shared.geometry.skinning import blend_transforms
from scipy.spatial import cKDTree

from ..avatar.gaussians import top_four
from ..body import BodyModel
from ..body.model import PosedBody
from ..core.mesh import vertex_normals

FILE = "base.obj"
_BODY = ("body", "helper-l-eye", "helper-r-eye")
_SURFACES = {"helper-tights": 1, "helper-skirt": 2, "helper-hair": 2}  # times they are made finer
_SMOOTHED = {"helper-tights": 6, "helper-skirt": 25, "helper-hair": 30}  # steps, of their weights
_UNIT = 0.1  # metres: the base mesh's
_NEAR = 8  # body vertices that move a place of a helper surface
_TOUCH = 0.004  # metres: closer body vertices than this all count much the same
_SAME = 1e-4  # of texture coordinates that are one place
_CLOSE = 5e-4  # metres: a fit that needs no further step
_STEPS, _RATE = 250, 0.03  # of the fit of the open body to the base mesh: 4 mm are left in the mean


@dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's base mesh as its file has it, triangulated; metres, y up, facing +z, A-pose."""

    vertices: np.ndarray  # [N, 3]
    uv: np.ndarray  # [T, 2]
    groups: dict[str, np.ndarray]  # name: [F, 3, 2] vertex and texture coordinate of each corner


@dataclass(frozen=True)
class Helper:
    """One helper surface of H vertices round the body of no particular shape, T-pose."""

    vertices: np.ndarray  # [H, 3] metres
    faces: np.ndarray  # [F, 3]
    near: np.ndarray  # [H, K] vertices of the body
    share: np.ndarray  # [H, K] rows sum to 1
    weights: np.ndarray  # [H, 55] skin weights
    mean: sparse.csr_matrix  # [H, H] average of the neighbours
    smoothed: int  # steps, of its weights and of how it follows the body


@dataclass(frozen=True)
class Stand:
    """The open body where the base mesh stands: what garments are bound to."""

    base: BaseMesh
    own: np.ndarray  # [V] vertex of the base mesh that each of the body's is
    outer: np.ndarray  # [O] vertices of the body's outside
    weights: np.ndarray  # [O, 55]
    transforms: np.ndarray  # [55, 4, 4] T-pose -> stand

    def bind(self, points: np.ndarray, faces: np.ndarray, smoothed: int) -> Helper:
        """A surface round the standing body [H, 3], bound to it and brought to the T-pose."""
        far, near = cKDTree(self.base.vertices[self.own][self.outer]).query(points, k=_NEAR)
        share = 1 / (far + _TOUCH) ** 2
        share /= share.sum(1, keepdims=True)
        mean = neighbour_mean(faces, len(points))
        weights = np.einsum("hk,hkj->hj", share, self.weights[near])
        for _ in range(smoothed):
            weights = 0.5 * (weights + mean @ weights)
        rest = _unposed(points, *top_four(weights), self.transforms)
        return Helper(rest, faces, self.outer[near], share, weights, mean, smoothed)


@dataclass(frozen=True)
class Helpers:
    """All helper surfaces and the body that they belong to."""

    body: np.ndarray  # [V, 3] metres, T-pose, vertices in the open body's order
    stand: Stand
    surfaces: dict[str, Helper]

    def on(self, helper: Helper, posed: PosedBody) -> np.ndarray:
        """A surface round somebody's body at rest.  # [H, 3] metres"""
        drift = (posed.rest - self.body)[helper.near]  # [H, K, 3]
        moved = np.einsum("hk,hkc->hc", helper.share, drift)
        for _ in range(helper.smoothed):
            moved = 0.5 * (moved + helper.mean @ moved)
        return helper.vertices + moved


@dataclass(frozen=True)
class Piece:
    """A garment, a head of hair or the body itself at rest."""

    kind: str
    vertices: np.ndarray  # [N, 3] metres, canonical
    faces: np.ndarray  # [F, 3]
    weights: np.ndarray  # [N, 55]


def cut(piece: Piece, inside: np.ndarray) -> Piece:
    """What of a piece is where inside [N] is positive; its edge lies where that is 0."""
    faces = piece.faces[(inside[piece.faces] > 0).any(1)]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    out, within = edges[(inside[edges[:, 0]] <= 0) & (inside[edges[:, 1]] > 0)].T
    t = (inside[out] / (inside[out] - inside[within]))[:, None]
    crossing = piece.vertices[out] + t * (piece.vertices[within] - piece.vertices[out])
    count = np.maximum(np.bincount(out, minlength=len(inside)), 1)
    vertices = piece.vertices.copy()
    for axis in range(3):
        sums = np.bincount(out, crossing[:, axis], len(inside))
        vertices[out, axis] = (sums / count)[out]
    kept = np.unique(faces)
    number = np.zeros(len(inside), int)
    number[kept] = np.arange(len(kept))
    return Piece(piece.kind, vertices[kept], number[faces], piece.weights[kept])


def off(piece: Piece, far: np.ndarray) -> Piece:
    """A piece moved along its normals, metres [N]."""
    moved = piece.vertices + vertex_normals(piece.vertices, piece.faces) * far[:, None]
    return replace(piece, vertices=moved)


def join(pieces: Sequence[Piece]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [N, 3], faces [F, 3], and the four joints and weights of each vertex [N, 4]."""
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    faces = [piece.faces + start for piece, start in zip(pieces, starts)]
    joints, weights = top_four(np.concatenate([piece.weights for piece in pieces]))
    vertices = np.concatenate([piece.vertices for piece in pieces])
    return vertices, np.concatenate(faces), joints, weights


def puffed(helpers: Helpers, name: str, posed: PosedBody, thickness: float, rng) -> Piece:
    """A helper surface so far outside itself, with soft folds.

    Args:
        helpers: the surfaces.
        name: of one of them.
        posed: whose body it is on.
        thickness: metres.
        rng: of the folds.
    """
    helper = helpers.surfaces[name]
    points = helpers.on(helper, posed)
    normals = vertex_normals(points, helper.faces)
    folds = np.sin(points @ rng.normal(0, 9, (3, 3)) + rng.uniform(0, 6, 3)).mean(1)
    moved = points + normals * (thickness * (1 + 0.35 * folds))[:, None]
    return Piece(name, moved, helper.faces, helper.weights)


@lru_cache(maxsize=2)
def load_helpers(folder: Path, body: BodyModel) -> Helpers:
    """The helper surfaces round the open body; takes some seconds.

    Args:
        folder: holds MakeHuman's base.obj.
        body: the open body.

    Raises:
        CrowdGaussianError: there is no base mesh, or it is another one.
    """
    base = read_base(folder / FILE)
    own = _own_vertices(base, body)
    transforms = _transforms_to(base.vertices[own], body)
    weights = np.asarray(body.skin_weights, np.float64)
    rest = _unposed(base.vertices[own], *top_four(weights), transforms)
    outer = np.flatnonzero(~np.asarray(body.interior, bool))
    stand = Stand(base, own, outer, weights[outer], transforms)
    return Helpers(rest, stand, {name: _helper(name, stand) for name in _SURFACES})


def read_base(path: Path) -> BaseMesh:
    """MakeHuman's base mesh.

    Raises:
        CrowdGaussianError: it is not there or no base mesh.
    """
    if not path.is_file():
        raise MissingFileError(
            f"{path} is missing; give the folder that holds MakeHuman's {FILE} (CC0)."
        )
    vertices, uv, name = [], [], ""
    groups: dict[str, list[list[list[int]]]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            word, *rest = line.split() or [""]
            if word == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif word == "vt":
                uv.append([float(x) for x in rest[:2]])
            elif word == "g":
                name = rest[0]
            elif word == "f":
                corners = [[int(x) - 1 for x in corner.split("/")[:2]] for corner in rest]
                triangles = groups.setdefault(name, [])
                triangles += [
                    [corners[0], corners[k], corners[k + 1]] for k in range(1, len(corners) - 1)
                ]
        used = {name: np.array(groups[name]) for name in (*_BODY, *_SURFACES)}
        return BaseMesh(_UNIT * np.array(vertices), np.array(uv), used)
    except (ValueError, IndexError, KeyError) as error:
        raise DamagedFileError(f"{path} is not MakeHuman's base mesh: {error}.") from error


def _own_vertices(base: BaseMesh, body: BodyModel) -> np.ndarray:
    """The vertex of the base mesh that each of the open body's is, by texture place.  # [V]"""
    corners = np.concatenate([base.groups[name].reshape(-1, 2) for name in _BODY])
    vertex_of = np.full(len(base.uv), -1)
    vertex_of[corners[:, 1]] = corners[:, 0]
    known = np.flatnonzero(vertex_of >= 0)
    far, near = cKDTree(base.uv[known]).query(np.asarray(body.uv))
    own = np.zeros(len(body.template), int)
    own[np.asarray(body.faces).ravel()] = vertex_of[known[near]][np.asarray(body.uv_faces).ravel()]
    if np.median(far) > _SAME:
        raise DamagedFileError("The base mesh is not the one that the open body was made from.")
    return own


def _transforms_to(target: np.ndarray, body: BodyModel) -> np.ndarray:
    """Joint transforms of the open body where it stands as points [V, 3] do.  # [55, 4, 4]"""
    wanted = torch.as_tensor(target, dtype=torch.float32)
    betas, pose = torch.zeros(1, body.num_betas), torch.zeros(1, 55, 3)
    shift = torch.zeros(1, 3)
    shift[0] = wanted.mean(0) - body.template.mean(0)
    unknowns = [value.requires_grad_() for value in (betas, pose, shift)]
    seen = torch.as_tensor(~np.asarray(body.interior, bool))
    optimiser = torch.optim.Adam(unknowns, lr=_RATE)
    for step in range(_STEPS):
        optimiser.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
        optimiser.zero_grad()
        apart = body(betas, pose, shift).vertices[0] - wanted
        loss = apart[seen].square().sum(1).mean() + 1e-6 * betas.square().sum()
        if loss < _CLOSE**2:
            break
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return body(betas, pose, shift).transforms[0].double().numpy()


def _unposed(
    points: np.ndarray, joints: np.ndarray, weights: np.ndarray, transforms: np.ndarray
) -> np.ndarray:
    """Points [N, 3] back in the T-pose."""
    affines = blend_transforms(joints, weights, transforms)
    local = points - affines[:, :, 3]
    return np.linalg.solve(affines[:, :, :3], local[..., None])[..., 0]


def _helper(name: str, stand: Stand) -> Helper:
    """One surface of the base mesh made finer."""
    corners = stand.base.groups[name][:, :, 0]
    ids, faces = np.unique(corners, return_inverse=True)
    points, faces = stand.base.vertices[ids], faces.reshape(corners.shape)
    for _ in range(_SURFACES[name]):
        points, faces = _finer(points, faces)
    return stand.bind(points, faces, _SMOOTHED[name])


def _finer(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every triangle in four."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    unique, middle = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = np.split(middle.ravel() + len(points), 3)
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    finer = np.concatenate([np.stack(part, 1) for part in parts])
    return np.concatenate([points, points[unique].mean(1)]), finer


def neighbour_mean(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """The average of each vertex's neighbours as a matrix.  # [N, N]"""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    linked = sparse.coo_matrix((np.ones(len(edges)), edges.T), (count, count)).tocsr()
    linked = ((linked + linked.T) > 0).astype(float)
    return sparse.diags(1 / np.maximum(np.asarray(linked.sum(1)).ravel(), 1)) @ linked
