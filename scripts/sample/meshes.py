# SPDX-License-Identifier: Apache-2.0
"""Small triangle mesh operations. New vertices are linear blends of old ones, so an operation
returns a sparse matrix that resamples any attribute (rest position, posed position, weights)."""

import numpy as np
from scipy import sparse


def edges_of(faces: np.ndarray) -> np.ndarray:
    """Unique undirected edges.  # [F, 3] -> [E, 2]"""
    pairs = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    return np.unique(pairs, axis=0)


def midpoint_subdivide(faces: np.ndarray, count: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Split every triangle in four: (resampling matrix [N + E, N], faces [4F, 3])."""
    pairs = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], axis=2)  # [F, 3, 2]
    edges, index = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
    middle = count + index.reshape(-1, 3)
    rows = np.repeat(np.arange(len(edges)), 2)
    halves = sparse.csr_matrix(
        (np.full(len(rows), 0.5), (rows, edges.ravel())), shape=(len(edges), count)
    )
    matrix = sparse.vstack([sparse.identity(count, format="csr"), halves]).tocsr()
    a, b, c = faces.T
    ab, bc, ca = middle.T
    split = np.concatenate(
        [np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
    )
    return matrix, split


def clip(faces: np.ndarray, field: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Keep where field > 0, cutting triangles along field = 0: (matrix [M, N], faces)."""
    inside = field > 0
    count = inside[faces].sum(axis=1)
    kept = [faces[count == 3]]
    cut = faces[(count == 1) | (count == 2)]
    flags = inside[cut]
    single = flags.sum(axis=1) == 1
    lone = np.argmax(np.where(single[:, None], flags, ~flags), axis=1)
    turned = np.take_along_axis(cut, (lone[:, None] + np.arange(3)) % 3, axis=1)
    first, second = np.sort(turned[:, [0, 1]], 1), np.sort(turned[:, [2, 0]], 1)
    edges, index = np.unique(np.concatenate([first, second]), axis=0, return_inverse=True)
    index = index.ravel() + len(field)
    p, q = index[: len(cut)], index[len(cut) :]
    lone_v, b, c = turned.T
    kept.append(np.stack([lone_v, p, q], 1)[single])
    kept.append(np.stack([p, b, c], 1)[~single])
    kept.append(np.stack([p, c, q], 1)[~single])
    share = field[edges[:, 0]] / (field[edges[:, 0]] - field[edges[:, 1]])
    crossing = sparse.csr_matrix(
        (
            np.stack([1 - share, share], 1).ravel(),
            (np.repeat(np.arange(len(edges)), 2), edges.ravel()),
        ),
        shape=(len(edges), len(field)),
    )
    matrix = sparse.vstack([sparse.identity(len(field), format="csr"), crossing]).tocsr()
    return compact(matrix, np.concatenate(kept))


def compact(matrix: sparse.csr_matrix, faces: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Drop the vertices that no face uses."""
    used, index = np.unique(faces, return_inverse=True)
    return matrix[used], index.reshape(faces.shape)


def smoothing_matrix(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """Row-normalised mean over the neighbours of each vertex.  # [N, N]"""
    edges = edges_of(faces)
    rows, cols = np.concatenate([edges, edges[:, ::-1]]).T
    adjacency = sparse.csr_matrix((np.ones(len(rows)), (rows, cols)), shape=(count, count))
    degree = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)
    return sparse.diags(1 / degree) @ adjacency


def smooth(values: np.ndarray, faces: np.ndarray, rounds: int, step: float = 0.5) -> np.ndarray:
    """Laplacian smoothing of any per-vertex attribute.  # [N, C] -> [N, C]"""
    mean = smoothing_matrix(faces, len(values))
    for _ in range(rounds):
        values = values + step * (mean @ values - values)
    return values


def boundary_vertices(faces: np.ndarray) -> np.ndarray:
    """Indices of the vertices on open edges."""
    pairs = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, uses = np.unique(pairs, axis=0, return_counts=True)
    return np.unique(edges[uses == 1])


def largest_pieces(faces: np.ndarray, count: int, minimum: int) -> np.ndarray:
    """Keep the faces of connected pieces with at least `minimum` vertices.  # [F, 3] -> [G, 3]"""
    edges = edges_of(faces)
    graph = sparse.csr_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    _, label = sparse.csgraph.connected_components(graph, directed=False)
    size = np.bincount(label)
    return faces[size[label[faces[:, 0]]] >= minimum]
