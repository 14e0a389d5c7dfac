# SPDX-License-Identifier: Apache-2.0
"""From shared pixels to each person's final mask: clean, disjoint, with what is hidden."""

import cv2
import numpy as np

from .types import PersonMask, SegmentConfig

# Removes specks and holes from a mask, but keeps the parts an occluder cut a body into


def disc(radius: float) -> np.ndarray:
    """A round structuring element of the given radius in pixels."""
    size = 2 * max(int(round(radius)), 0) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def clean(
    mask: np.ndarray, keypoints: np.ndarray, smooth_px: float, min_component: float, max_hole: float
) -> np.ndarray:
    """Smooths a mask, drops parts that are small and hold no keypoint, fills small holes.

    Args:
        mask: [H, W] bool.
        keypoints: [N, 2] pixels of the person's trusted keypoints.
        smooth_px: radius of the opening and closing.
        min_component: a part without a keypoint must have this share of the largest part.
        max_hole: holes up to this share of the mask are filled.

    Returns:
        [H, W] bool.
    """
    smoothed: np.ndarray = mask.astype(np.uint8)
    if round(smooth_px) >= 1:
        smoothed = cv2.morphologyEx(smoothed, cv2.MORPH_CLOSE, disc(smooth_px))
        opened = cv2.morphologyEx(smoothed, cv2.MORPH_OPEN, disc(smooth_px))
        smoothed = opened if opened.any() else smoothed
    return fill_holes(drop_specks(smoothed > 0, keypoints, min_component), max_hole)


def drop_specks(mask: np.ndarray, keypoints: np.ndarray, min_component: float) -> np.ndarray:
    """Keeps the largest part, parts with a keypoint, and parts that are not small."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    areas[0] = 0
    keep = areas >= min_component * areas.max()
    inside = ((keypoints >= 0) & (keypoints < (mask.shape[1], mask.shape[0]))).all(1)
    columns, rows = np.floor(keypoints[inside]).astype(int).T
    keep[labels[rows, columns]] = True
    keep[0] = False
    return keep[labels]


def fill_holes(mask: np.ndarray, max_hole: float) -> np.ndarray:
    """Fills background parts that touch no border and are small against the mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (~mask).astype(np.uint8), connectivity=4
    )
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    fill = stats[:, cv2.CC_STAT_AREA] <= max_hole * mask.sum()
    fill[0] = False
    fill[np.unique(border)] = False
    return mask | fill[labels] if count > 1 else mask


def clean_person_mask(
    owner: np.ndarray, index: int, keypoints: np.ndarray, height_px: float, config: SegmentConfig
) -> np.ndarray:
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
    cleaned = clean(
        owner == index, keypoints, config.smooth * height_px, config.min_component, config.max_hole
    )
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


class Claims:
    """Who has each pixel, as people claim windows of the photo one after the other.

    Where two people claim a pixel, the nearer fitted body has it if both bodies project there
    and the two soft masks are about equally sure; else the surer soft mask has it.
    """

    def __init__(self, shape: tuple[int, int], depth_margin: float) -> None:
        """shape: height and width; depth_margin: closer soft values are settled by depth."""
        self.owner = np.full(shape, -1, np.int16)
        self.depth_margin = depth_margin
        self._soft = np.zeros(shape, np.float32)
        self._depth = np.full(shape, np.inf, np.float32)

    def claim(
        self,
        index: int,
        soft: np.ndarray,
        depth: np.ndarray,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """One person's claim.

        Args:
            index: of the person.
            soft: [h, w] float32 0..1 in the window; above 0.5 is a claim.
            depth: [h, w] metres of the person's body there, inf where it is not.
            window: rows and columns of the photo.
        """
        owner, best, nearest = (part[window] for part in (self.owner, self._soft, self._depth))
        both_bodies = np.isfinite(depth) & np.isfinite(nearest)
        unsure = np.abs(soft - best) < self.depth_margin
        better = np.where(both_bodies & unsure, depth < nearest, soft > best)
        take = (soft > 0.5) & ((owner < 0) | better)
        owner[take] = index
        best[take] = soft[take]
        nearest[take] = depth[take]


def assign_pixels(
    soft: list[np.ndarray], depths: list[np.ndarray], depth_margin: float
) -> list[np.ndarray]:
    """Gives each pixel to one person at most, as Claims does.

    Args:
        soft: one map per person, [H, W] float32 0..1; above 0.5 is a claim.
        depths: one z-buffer per person, [H, W] metres, inf where the body is not.
        depth_margin: soft values that differ by less are settled by depth.

    Returns:
        One visible mask per person, [H, W] bool; no two share a pixel.
    """
    if not soft:
        return []
    claims = Claims(soft[0].shape, depth_margin)
    for index, (values, depth) in enumerate(zip(soft, depths, strict=True)):
        claims.claim(index, values, depth)
    return [claims.owner == index for index in range(len(soft))]
