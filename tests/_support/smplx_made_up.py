# SPDX-License-Identifier: Apache-2.0
"""An SMPL-X file of random numbers with the real file's keys and shapes."""

import numpy as np
from crowdgaussian_shared.geometry.skeleton import PARENTS

VERTICES, FACES = 10475, 20908


def synthetic(rng: np.random.Generator) -> dict[str, np.ndarray]:
    def normal(*shape: int) -> np.ndarray:
        return 0.01 * rng.standard_normal(shape, dtype=np.float32)

    regressor = np.zeros((55, VERTICES), dtype=np.float32)
    np.put_along_axis(regressor, rng.integers(0, VERTICES, (55, 8)), 0.125, axis=1)
    regressor /= regressor.sum(axis=1, keepdims=True)
    weights = np.zeros((VERTICES, 55), dtype=np.float32)
    np.put_along_axis(weights, rng.integers(0, 55, (VERTICES, 4)), 0.25, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    parents = np.array(PARENTS, dtype=np.int64)
    parents[0] = 2**32 - 1
    return {
        "v_template": rng.normal(size=(VERTICES, 3), scale=0.5).astype(np.float32),
        "f": rng.integers(0, VERTICES, (FACES, 3)).astype(np.uint32),
        "shapedirs": normal(VERTICES, 3, 400),
        "posedirs": normal(VERTICES, 3, 486) * 0.1,
        "J_regressor": regressor,
        "kintree_table": np.stack([parents, np.arange(55)]),
        "weights": weights,
        "lmk_faces_idx": rng.integers(0, FACES, 51),
        "lmk_bary_coords": rng.dirichlet([1, 1, 1], 51),
        **{f"hands_components{s}": normal(45, 45) for s in "lr"},
        **{f"hands_mean{s}": normal(45) for s in "lr"},
    }
