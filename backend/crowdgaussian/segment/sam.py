# SPDX-License-Identifier: Apache-2.0
"""Masks by a promptable network (SAM, SAM 2.1, SAM 3), shared out by the fitted bodies."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from ..people.types import Crowd, Person
from ..progress import Progress, Report
from .choice import choose_mask
from .config import SegmentConfig
from .crop import Crop
from .files import sam_path
from .finish import settle_mask, with_amodal
from .layers import BodyLayer, body_box, posed_vertices, render_vertices
from .prompts import Evidence, gather_evidence, make_prompts
from .resolve import Claims
from .sam_network import Candidates, SamNetwork, load_network
from .types import PersonMask

REACH = 0.15  # of a person's box: what the network draws further away is somebody else
_WHOLE = 1 << 20  # crops keep the photo's resolution


@dataclass(frozen=True)
class _Window:
    """The part of the photo in which one person can be, and their body there."""

    crop: Crop
    layer: BodyLayer

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.crop.y0, self.crop.y1), slice(self.crop.x0, self.crop.x1)


class SamSegmenter:
    """A visible mask per person; the photo is encoded once and everybody decoded together."""

    def __init__(self, config: SegmentConfig, body, network: SamNetwork | None = None) -> None:
        """Loads the network of the settings, unless one is given.

        Raises:
            CrowdGaussianError: its file is missing or damaged.
        """
        self.config, self.body = config, body
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = network or load_network(sam_path(config), device)

    def segment(self, photo: np.ndarray, crowd: Crowd, report: Report) -> list[PersonMask]:
        """See Segmenter; photo: [H, W, 3] uint8 sRGB. Full-size arrays are the results alone."""
        people = len(crowd.people)
        if not people:
            return []
        report(Progress("masks", 0.0, None, people, "looking at the photo"))
        windows = [self._window(person, crowd) for person in crowd.people]
        evidence = gather_evidence(crowd, _distances(crowd, windows),
                                   [window.layer.height_px for window in windows], self.config)
        found = self.network.candidates(photo, make_prompts(evidence))
        report(Progress("masks", 0.8, None, people, "sharing out pixels"))
        claims = Claims(photo.shape[:2], self.config.depth_margin)
        for index, (one, window) in enumerate(zip(evidence, windows)):
            soft = claimed(found, index, one, window.crop)
            claims.claim(index, soft, window.layer.depth, window.slices)
        masks = [self._finish(claims.owner, index, *parts)
                 for index, parts in enumerate(zip(evidence, windows))]
        report(Progress("masks", 1.0, None, people))
        return masks

    def _window(self, person: Person, crowd: Crowd) -> _Window:
        """Around the person's body and box, at the photo's own resolution."""
        vertices = posed_vertices(self.body, person)
        camera = crowd.camera
        boxes = np.stack([body_box(vertices, camera), person.box])
        box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        margin = REACH * float(max(box[2:] - box[:2]))
        crop = Crop.around(box, margin, (camera.width, camera.height), _WHOLE)
        return _Window(crop, render_vertices(self.body, vertices, crop.camera(camera)))

    def _finish(self, owner: np.ndarray, index: int, evidence: Evidence,
                window: _Window) -> PersonMask:
        visible, silhouette = np.zeros(owner.shape, bool), np.zeros(owner.shape, bool)
        corner = (window.crop.x0, window.crop.y0)
        visible[window.slices] = settle_mask(owner[window.slices], index, evidence.own - corner,
                                             window.layer.height_px, self.config)
        silhouette[window.slices] = window.layer.silhouette
        return with_amodal(visible, silhouette)


def claimed(found: Candidates, index: int, evidence: Evidence, crop: Crop) -> np.ndarray:
    """A person's best mask in their window, 0 far outside the box.  # [h, w] float32 0..1"""
    scale, masks = found.scale, found.logits[index]
    best = choose_mask(masks, found.scores[index], evidence.own * scale, evidence.others * scale)
    corner = (np.array([crop.x0, crop.y0]) + 0.5) * scale - 0.5
    to_mask = np.column_stack([np.diag(scale), corner])
    size = (crop.width, crop.height)
    logits = cv2.warpAffine(masks[best], to_mask, size, borderMode=cv2.BORDER_REPLICATE,
                            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    soft = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    margin = REACH / 2 * np.tile(evidence.box[2:] - evidence.box[:2], 2) * [-1, -1, 1, 1]
    x0, y0, x1, y1 = evidence.box + margin
    rows, columns = (np.arange(n) + 0.5 + first for n, first in (
        (crop.height, crop.y0), (crop.width, crop.x0)))
    near = ((rows >= y0) & (rows <= y1))[:, None] & ((columns >= x0) & (columns <= x1))[None]
    return np.where(near, soft, 0).astype(np.float32)


def _distances(crowd: Crowd, windows: list[_Window]) -> np.ndarray:
    """Metres to each body where each keypoint is seen; inf beside it.  # [P, P, 33]"""
    people = len(windows)
    found = np.full((people, people, 33), np.inf, np.float32)
    for index, person in enumerate(crowd.people):
        for other, window in enumerate(windows):
            crop = window.crop
            columns, rows = np.floor(person.keypoints.xy - (crop.x0, crop.y0)).astype(int).T
            inside = (columns >= 0) & (columns < crop.width) & (rows >= 0) & (rows < crop.height)
            found[index, other, inside] = window.layer.depth[rows[inside], columns[inside]]
    return found
