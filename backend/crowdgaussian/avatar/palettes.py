# SPDX-License-Identifier: Apache-2.0
"""The colours of one material: skin, a head of hair, a garment.

A palette is learnt from what the photo shows of one person and says how likely another colour is.
"""

from dataclasses import dataclass

import cv2
import numpy as np

_SHADE, _HUE = 15.0, 6.0  # CIELAB: spread of a colour from shade to light, and across it
_COLOURS = 4  # of a palette; more follow patterns, and dirt
_SOURCES = 1200  # colours that a palette is learnt from, at most
_ROUNDS = 5  # of the clustering
_INLIER = 0.9  # quantile of the distances at which a further cluster starts; more: at a stray one
_STRAY = 0.02  # share of a material that has any colour
ANY_COLOR = -float(np.log(1e6))  # logarithm of any colour's density: CIELAB has about 10^6 units


@dataclass(frozen=True)
class Palette:
    """A few colours, each in light and shade: along the way to black they may differ more."""

    centres: np.ndarray  # [C, 3] CIELAB
    shares: np.ndarray  # [C] sum to 1
    shade: float = _SHADE
    hue: float = _HUE

    def log_density(self, lab: np.ndarray) -> np.ndarray:
        """How likely colours [N, 3] are.  # [N]"""
        toward = self.centres / (np.linalg.norm(self.centres, axis=1, keepdims=True) + 1e-6)
        along = lab @ toward.T - (self.centres * toward).sum(1)  # [N, C]
        away = np.square(lab).sum(1)[:, None] + np.square(self.centres).sum(1)
        across = away - 2 * lab @ self.centres.T - along**2
        exponent = 0.5 * (along / self.shade) ** 2 + 0.5 * across / self.hue**2
        peak = (1 - _STRAY) * self.shares / ((2 * np.pi) ** 1.5 * self.shade * self.hue**2)
        return np.log(np.exp(-exponent) @ peak + _STRAY * np.exp(ANY_COLOR))

    def like(self, lab: np.ndarray, depth: float) -> np.ndarray:
        """Colours [N, 3] at most so much less likely (logarithm) than the likeliest.  # [N] bool"""
        return self.log_density(lab) > self.log_density(self.centres).max() - depth


def palette_of(lab: np.ndarray, shade: float = _SHADE, hue: float = _HUE) -> Palette:
    """Clusters of colours [N, 3], N > 0; the same on every run."""
    lab = lab[:: max(1, len(lab) // _SOURCES)]
    centres = np.median(lab, axis=0)[None]
    while len(centres) < min(_COLOURS, len(lab)):
        apart = np.square(lab[:, None] - centres).sum(2).min(1)
        far = np.argsort(apart, kind="stable")[int(_INLIER * (len(lab) - 1))]
        centres = np.concatenate([centres, lab[far][None]])
    for _ in range(_ROUNDS):
        mine = np.square(lab[:, None] - centres).sum(2).argmin(1)
        counts = np.bincount(mine, minlength=len(centres))
        sums = np.stack([np.bincount(mine, lab[:, k], len(centres)) for k in range(3)], 1)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return Palette(centres, counts / counts.sum(), shade, hue)


def to_lab(colours: np.ndarray) -> np.ndarray:
    """sRGB 0..1 to CIELAB.  # [N, 3]"""
    rgb = np.clip(colours, 0, 1).astype(np.float32)
    return cv2.cvtColor(rgb[None], cv2.COLOR_RGB2LAB)[0].astype(np.float64)
