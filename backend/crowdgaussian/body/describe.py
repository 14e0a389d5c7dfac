# SPDX-License-Identifier: Apache-2.0
"""Betas of a described person: multilinear interpolation between tabulated bodies.

The phenotype space of MakeHuman and anny is itself multilinear in these sliders.
"""

import numpy as np

from .data import BetasTable


def _hat(value: float, nodes: np.ndarray) -> np.ndarray:
    """Linear interpolation weights of a value between nodes, clamped to their range.  # [N]"""
    return np.array([np.interp(value, nodes, row) for row in np.eye(len(nodes))])


def interpolate_betas(
    table: BetasTable, sex: float, age: float, weight: float, height: float, muscle: float
) -> np.ndarray:
    """Betas of a person: age in years, the others 0..1 (sex 0 male, 1 female).  # [B]"""
    slider = np.interp(age, table.age_years, table.age_slider)
    betas = table.betas
    for value, nodes in zip((sex, slider, muscle, weight, height), table.axes, strict=True):
        betas = np.tensordot(_hat(value, nodes), betas, axes=1)
    return betas
