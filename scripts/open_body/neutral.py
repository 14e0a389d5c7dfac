# SPDX-License-Identifier: Apache-2.0
"""Smooth the crotch of the base mesh: the open body is a neutral mannequin under clothes."""

from dataclasses import replace

import numpy as np

from open_body.shape import ShapeSpace
from open_body.skin import neighbour_mean

_CENTRE = np.array([0.0, -0.15, 0.03])  # metres from the pelvis, mean body
_RADII = np.array([0.055, 0.075, 0.11])
_ROUNDS = 16


def smooth_crotch(space: ShapeSpace, faces: np.ndarray) -> ShapeSpace:
    """The same space with the crotch relaxed; linear, so betas keep their meaning."""
    distance = np.linalg.norm((space.template - _CENTRE) / _RADII, axis=1)
    share = (2.0 * (1.0 - distance)).clip(0, 1)[:, None]
    columns = np.concatenate([space.template[None], space.directions]).transpose(1, 0, 2)
    values = columns.reshape(len(share), -1).astype(np.float64)
    for _ in range(_ROUNDS):
        values += 0.5 * share * (neighbour_mean(values, faces) - values)
    smooth = values.reshape(columns.shape).transpose(1, 0, 2)
    return replace(space, template=smooth[0], directions=smooth[1:])
