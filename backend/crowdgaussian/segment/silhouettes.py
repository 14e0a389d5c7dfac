# SPDX-License-Identifier: Apache-2.0
"""Masks from the detector's soft masks, the fitted bodies and the photo; each mask's last steps."""

from dataclasses import dataclass

import cv2
import numpy as np
from crowdgaussian_shared.geometry.camera import NEAR, Camera

from ..core.crop import Crop, box_of, disc
from ..core.progress import Progress, Report
from ..people.types import Claims, Crowd, Person
from ..splat.normals import render_mesh_depth
from .assignment import share_out
from .types import BodyLayer, PersonMask, SegmentConfig


def render_layer(body, person: Person, camera: Camera) -> BodyLayer:
    """Z-buffer of one person's body in the given camera."""
    return render_vertices(body, body.posed(person.params).vertices, camera)


def render_vertices(body, vertices: np.ndarray, camera: Camera) -> BodyLayer:
    """Z-buffer of a posed body [V, 3] in the given camera."""
    faces = np.asarray(body.faces)
    depth, face_index = render_mesh_depth(vertices, faces, camera)
    face_part = np.asarray(body.parts)[faces[:, 0]]  # [F]
    part = np.where(face_index >= 0, face_part[np.maximum(face_index, 0)], -1).astype(np.int8)
    box = body_box(vertices, camera)
    height_px = float(max(*(box[2:] - box[:2]), 1.0))
    return BodyLayer(np.asarray(depth, np.float32), part, height_px)


def body_box(vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """x0 y0 x1 y1 around what is in front of the camera, not cut to the photo.  # [4]"""
    pixels, depth = camera.project(vertices)
    pixels = pixels[depth > NEAR]
    if len(pixels) == 0:
        return np.zeros(4)
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])


_FOREARMS = ((13, 15), (15, 19), (14, 16), (16, 20))  # MediaPipe's elbows, wrists, index fingers
_FOREARM_WIDTH = 0.045  # of the body's height


class SilhouetteSegmenter:
    """A visible mask per person, sharp as the photo, that shares no pixel with a neighbour."""

    def __init__(self, config: SegmentConfig, body) -> None:
        self.config = config
        self.body = body

    def segment(self, photo: np.ndarray, crowd: Crowd, report: Report) -> list[PersonMask]:
        """See Segmenter; photo: [H, W, 3] uint8 sRGB."""
        people = len(crowd.people)
        layers = [render_layer(self.body, person, crowd.camera) for person in crowd.people]
        soft = []
        for index, shared in enumerate(share_out(photo, crowd.people, layers)):
            report(Progress("masks", index / people, index, people))
            soft.append(self._refine(photo, crowd.people, layers, index, shared))
        visible = assign_pixels(soft, [layer.depth for layer in layers], self.config.depth_margin)
        masks = self._finish(visible, crowd, layers)
        report(Progress("masks", 1.0, None, people))
        return masks

    def _refine(
        self,
        photo: np.ndarray,
        people: tuple[Person, ...],
        layers: list[BodyLayer],
        index: int,
        shared: np.ndarray,
    ) -> np.ndarray:
        """The person's own claim on every pixel of the photo, from the share they got of it.

        Args:
            photo: [H, W, 3] uint8 sRGB.
            people: all of them.
            layers: their bodies.
            index: of the person.
            shared: [H, W] float32 0..1, the person's soft mask.

        Returns:
            [H, W] float32 0..1.
        """
        person, layer, size = people[index], layers[index], (photo.shape[1], photo.shape[0])
        box = box_of(layer.silhouette | (shared > 0.5))
        if box is None:
            return np.zeros(photo.shape[:2], np.float32)
        crop = Crop.around(
            box, self.config.crop_margin * layer.height_px, size, self.config.max_crop_px
        )
        body = layer.silhouette | _forearms(person, layer, self.config.min_confidence)
        edges = EdgeInput(
            crop.take(photo),
            crop.take(shared),
            crop.take(body),
            crop.take(layer.head),
            crop.take(_in_front(people, layers, index)),
            layer.height_px * crop.scale[1],
        )
        return crop.put(refine_edges(edges, self.config), size)

    def _finish(
        self, resolved: list[np.ndarray], crowd: Crowd, layers: list[BodyLayer]
    ) -> list[PersonMask]:
        """Cleans the masks; what a clean-up adds never belongs to somebody else."""
        owner = np.full(resolved[0].shape if resolved else (0, 0), -1, np.int16)
        for index, mask in enumerate(resolved):
            owner[mask] = index
        masks = []
        for index, (person, layer) in enumerate(zip(crowd.people, layers, strict=True)):
            trusted = person.keypoints.confidence >= self.config.min_confidence
            visible = clean_person_mask(
                owner, index, person.keypoints.xy[trusted], layer.height_px, self.config
            )
            masks.append(with_amodal(visible, layer.silhouette))
        return masks


def _forearms(person: Person, layer: BodyLayer, min_confidence: float) -> np.ndarray:
    """Strokes from the elbows over the wrists to the fingers, as the keypoints have them."""
    drawn = np.zeros(layer.depth.shape, np.uint8)
    xy, sure = person.keypoints.xy, person.keypoints.confidence >= min_confidence
    for start, end in _FOREARMS:
        if sure[start] and sure[end]:
            ends = np.clip(xy[[start, end]], -30000, 30000).astype(int).tolist()
            cv2.line(drawn, ends[0], ends[1], 1, max(int(_FOREARM_WIDTH * layer.height_px), 1))
    return drawn > 0


def _in_front(people: tuple[Person, ...], layers: list[BodyLayer], index: int) -> np.ndarray:
    """Where another body is nearer by a hand's breadth and its detector claims the pixel."""
    own = layers[index].depth
    covered = np.zeros(own.shape, bool)
    for other, layer in enumerate(layers):
        if other != index:
            nearer = np.isfinite(layer.depth) & (layer.depth < own - 0.1)
            covered |= nearer & (people[other].person_mask > 127)
    return covered


# From shared pixels to each person's final mask: clean, disjoint, with what is hidden
#
# Removes specks and holes from a mask, but keeps the parts an occluder cut a body into


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


# Moves the edge of a soft mask to the edge in the photo

_WAVERING = 0.2  # a soft mask above this does not say no
_COLOUR_VOICE = 0.45  # of GrabCut's answer: below half, so that a sure detector wins


@dataclass(frozen=True)
class EdgeInput:
    """One person's crop."""

    photo: np.ndarray  # [h, w, 3] uint8 sRGB
    soft: np.ndarray  # [h, w] float32 0..1, the detector's mask
    silhouette: np.ndarray  # [h, w] bool, the fitted body
    head: np.ndarray  # [h, w] bool, the head of the fitted body
    others: np.ndarray  # [h, w] bool: surely somebody else
    height_px: float  # of the body, crop pixels


def refine_edges(crop: EdgeInput, config: SegmentConfig) -> np.ndarray:
    """Soft mask whose edge follows the photo (hair, loose clothes).  # [h, w] float32 0..1

    Deep inside and far outside the detector is believed. Between them lies a band around its
    edge, wider around the head, where GrabCut (Rother et al. 2004) separates the colours and a
    guided filter (He et al. 2010) follows the photo's edges.
    """
    prior = with_body(crop) * within_reach(crop, config)
    inside, outside = _certain(prior, crop, config)
    decided = _grabcut(crop, prior, inside, outside, config)
    radius = max(int(round(config.guided_radius * crop.height_px)), 1)
    guide = crop.photo.astype(np.float32) / 255
    refined = guided_filter(guide, decided, radius, config.guided_epsilon)
    refined[inside] = np.maximum(refined[inside], 0.9)
    refined[outside] = 0
    return np.clip(refined, 0, 1)


def with_body(crop: EdgeInput) -> np.ndarray:
    """The soft mask, surer where the detector wavers deep inside the body.  # [h, w] float32"""
    thick = disc(0.006 * crop.height_px)
    core = cv2.erode(crop.silhouette.astype(np.uint8), thick) > 0
    wavering = core & (crop.soft > _WAVERING) & ~crop.others
    return np.where(wavering, np.maximum(crop.soft, 0.75), crop.soft)


def within_reach(crop: EdgeInput, config: SegmentConfig) -> np.ndarray:
    """Where a pixel is close enough to the body to belong to it.  # [h, w] bool"""
    if not crop.silhouette.any():
        return np.ones_like(crop.silhouette)
    from_body = cv2.distanceTransform((~crop.silhouette).astype(np.uint8), cv2.DIST_L2, 5)
    near = from_body < config.reach * crop.height_px
    if crop.head.any():
        from_head = cv2.distanceTransform((~crop.head).astype(np.uint8), cv2.DIST_L2, 5)
        near |= from_head < config.hair_reach * crop.height_px
    return near


def _certain(
    prior: np.ndarray, crop: EdgeInput, config: SegmentConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that are surely the person, and pixels that surely are not."""
    hard = (prior > 0.5).astype(np.uint8)
    depth_in = cv2.distanceTransform(hard, cv2.DIST_L2, 5)
    depth_out = (
        cv2.distanceTransform(1 - hard, cv2.DIST_L2, 5)
        if hard.any()
        else np.full(hard.shape, np.inf, np.float32)
    )
    band = np.full(hard.shape, max(config.band * crop.height_px, 2.0), np.float32)
    if crop.head.any():
        wide = cv2.dilate(
            crop.head.astype(np.uint8), disc(0.5 * config.hair_reach * crop.height_px)
        )
        band[wide > 0] = max(config.hair_band * crop.height_px, 2.0)
    inside = (depth_in > band) & (prior > 0.7)
    outside = (depth_out > band) & (prior < 0.3)
    return inside & ~crop.others, outside | (crop.others & (prior < 0.9))


def _grabcut(
    crop: EdgeInput,
    prior: np.ndarray,
    inside: np.ndarray,
    outside: np.ndarray,
    config: SegmentConfig,
) -> np.ndarray:
    labels = np.where(prior > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inside | (crop.silhouette & (prior > 0.95) & ~crop.others)] = cv2.GC_FGD
    labels[outside] = cv2.GC_BGD
    both = (labels == cv2.GC_FGD).any() and (labels == cv2.GC_BGD).any()
    if config.grabcut_iterations == 0 or not both:
        return prior.astype(np.float32)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(1)
    cv2.grabCut(
        np.ascontiguousarray(crop.photo),
        labels,
        (0, 0, 0, 0),  # labels take its place
        *models,
        config.grabcut_iterations,
        cv2.GC_INIT_WITH_MASK,
    )
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return (_COLOUR_VOICE * found + (1 - _COLOUR_VOICE) * prior).astype(np.float32)


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Edge-preserving smoothing of values by a colour guide (He et al. 2010, eq. 14-16).

    Args:
        guide: [h, w, 3] float32, 0..1.
        values: [h, w] float32.
        radius: of the window, pixels.
        epsilon: added to the covariance of the guide.

    Returns:
        [h, w] float32.
    """
    size = (2 * radius + 1,) * 2

    def mean(image: np.ndarray) -> np.ndarray:
        return cv2.blur(image, size, borderType=cv2.BORDER_REFLECT)

    guide_mean, value_mean = mean(guide), mean(values)
    outer = guide[..., :, None] * guide[..., None, :]  # [h, w, 3, 3]
    covariance = mean(outer.reshape(*values.shape, 9)).reshape(outer.shape)
    covariance -= guide_mean[..., :, None] * guide_mean[..., None, :]
    covariance += epsilon * np.eye(3, dtype=np.float32)
    cross = mean(guide * values[..., None]) - guide_mean * value_mean[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0]  # [h, w, 3]
    offset = value_mean - (slope * guide_mean).sum(-1)
    return (mean(slope) * guide).sum(-1) + mean(offset)
