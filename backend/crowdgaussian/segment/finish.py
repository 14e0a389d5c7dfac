# SPDX-License-Identifier: Apache-2.0
"""From shared pixels to each person's final mask: clean, disjoint, with what is hidden."""

import numpy as np

from .cleanup import clean
from .config import SegmentConfig
from .types import PersonMask


def settle_mask(owner: np.ndarray, index: int, keypoints: np.ndarray, height_px: float,
                config: SegmentConfig) -> np.ndarray:
    """Cleans one person's pixels; what a clean-up adds never belongs to somebody else.

    Args:
        owner: [H, W] int, index of the person who has each pixel, -1 for nobody; updated.
        index: of the person.
        keypoints: [N, 2] trusted keypoints, pixels of owner.
        height_px: of the body.
        config: of the clean-up.

    Returns:
        [H, W] bool.
    """
    cleaned = clean(owner == index, keypoints, config.smooth * height_px, config.min_component,
                    config.max_hole)
    visible = cleaned & ((owner == index) | (owner < 0))
    owner[(owner == index) & ~visible] = -1
    owner[visible] = index
    return visible


def with_amodal(visible: np.ndarray, silhouette: np.ndarray) -> PersonMask:
    """A visible mask with the silhouette of the body behind it.  # [H, W] bool, [H, W] bool"""
    amodal = silhouette | visible
    whole = np.count_nonzero(amodal)
    occlusion = 1.0 - np.count_nonzero(visible) / whole if whole else 1.0
    return PersonMask(visible, amodal, float(occlusion))
