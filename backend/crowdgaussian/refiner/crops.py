# SPDX-License-Identifier: Apache-2.0
"""What a step of training looks at: parts of views, drawn at random."""

import numpy as np
import torch
from torch import Tensor

from .pairs import PairDataset

_TRIES = 8  # for a crop that shows somebody
_BODY = 0.05  # share of such a crop that bodies fill


def draw_crop(data: PairDataset, size: int,
              rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse, true [3, s, s] and normals [4, s, s] of a part of a view, on a random plain colour.

    Mirrored half of the time (normals too); white or any colour behind.
    """
    pair = data[int(rng.integers(len(data)))]
    tint = torch.from_numpy(rng.random(3) if rng.random() < 0.6 else np.full(3, 1.0)).float()
    coarse, truth = pair.on(tint[:, None, None])
    height, width = truth.shape[1:]
    side = min(size, height, width) // 16 * 16
    for _ in range(_TRIES):
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        window = (..., slice(top, top + side), slice(left, left + side))
        if pair.normals[3][window].mean() > _BODY:
            break
    parts = [picture[window] for picture in (coarse, truth, pair.normals)]
    if rng.random() < 0.5:
        parts = [part.flip(-1) for part in parts]
        parts[2] = parts[2] * torch.tensor([-1.0, 1, 1, 1])[:, None, None]
    return tuple(parts)
