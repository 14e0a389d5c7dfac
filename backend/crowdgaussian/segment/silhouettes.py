# SPDX-License-Identifier: Apache-2.0
"""Masks from the detector's soft masks, the fitted bodies and the photo itself."""

import cv2
import numpy as np
from crowdgaussian_shared.geometry.camera import NEAR, Camera

from ..core.crop import Crop, box_of
from ..core.progress import Progress, Report
from ..people.types import Crowd, Person
from ..splat.normals import render_mesh_depth
from .assignment import share_out
from .postprocess import EdgeInput, assign_pixels, clean_person_mask, refine_edges, with_amodal
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
