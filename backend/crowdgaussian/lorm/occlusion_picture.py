# SPDX-License-Identifier: Apache-2.0
"""The steps of an occlusion side by side, as in the paper's figure 9."""

import cv2
import numpy as np

from .occlude import hide, person_mask
from .occlusion import DEFAULT, OcclusionConfig, simulate

STEPS = ("person", "ellipses", "bands", "cuts", "union", "closed", "dilated", "result")
_OUTSIDE, _PERSON, _OCCLUDER, _HIDDEN = (24, 26, 30), (120, 126, 138), (214, 132, 60), (240, 84, 60)


def stage_picture(image: np.ndarray, mask: np.ndarray, keypoints: np.ndarray | None = None,
                  seed: int = 0, config: OcclusionConfig = DEFAULT) -> np.ndarray:
    """One row of panels: the person, each kind of occluder, union, closing, dilation, the result.

    Args:
        image: RGB.  # [H, W, 3] uint8
        mask: the person.  # [H, W] bool or uint8
        keypoints: as for ``occlude``.
        seed: which occluders.
        config: counts and sizes.

    Returns:
        # [H + 24, 8 W, 3] uint8
    """
    mask = person_mask(image, mask)
    stages = simulate(mask, keypoints, np.random.default_rng(seed), config)
    result = hide(image, mask, stages.hidden)
    white = np.full_like(image, 255)
    panels = [np.where(mask[..., None], image, white)]
    panels += [_panel(mask, getattr(stages, name)) for name in STEPS[1:-1]]
    panels.append(np.where(result.visible[..., None], image, white))
    titles = [*STEPS[:-1], f"{result.ratio:.0%} hidden"]
    return np.concatenate([_titled(p, t) for p, t in zip(panels, titles, strict=True)], axis=1)


def _panel(mask: np.ndarray, occluder: np.ndarray) -> np.ndarray:
    colours = np.array([_OUTSIDE, _PERSON, _OCCLUDER, _HIDDEN], np.uint8)
    return colours[mask + 2 * occluder.astype(np.int64)]


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    bar = np.full((24, panel.shape[1], 3), 255, np.uint8)
    size = min(0.45, panel.shape[1] / 250)
    cv2.putText(bar, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, size, (30, 30, 30), 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.concatenate([bar, panel]))
