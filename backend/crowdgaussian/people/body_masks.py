# SPDX-License-Identifier: Apache-2.0
"""Soft masks of fitted bodies, for estimators whose networks give no masks of their own."""

from dataclasses import replace

import cv2
import numpy as np
import torch
from crowdgaussian_shared.camera import Camera

from ..body.model import BodyModel
from ..splat.normals import render_mesh_depth
from .types import Crowd, Person

_SOFT = 0.012  # of the body's height: blur of the edge, for clothes stand off the body
_NEARER = 0.1  # metres by which another body must be nearer to hide a pixel


def with_body_masks(crowd: Crowd, body: BodyModel) -> Crowd:
    """The crowd with person_mask = what the fitted bodies leave visible of each other, soft."""
    depths = [_depth(body, person, crowd.camera) for person in crowd.people]
    masks = []
    for index, depth in enumerate(depths):
        seen = np.isfinite(depth)
        for other in depths[:index] + depths[index + 1:]:
            seen &= ~(other < depth - _NEARER)
        rows = np.flatnonzero(seen.any(axis=1))
        sigma = max(_SOFT * (np.ptp(rows) if len(rows) else 0.0), 1.0)
        soft = cv2.GaussianBlur(seen.astype(np.float32), (0, 0), sigma)
        masks.append((soft * 255 + 0.5).astype(np.uint8))
    return replace(crowd, people=tuple(
        replace(person, person_mask=mask) for person, mask in zip(crowd.people, masks)))


def _depth(body: BodyModel, person: Person, camera: Camera) -> np.ndarray:
    """Metres to the body alone, inf beside it.  # [H, W]"""
    with torch.no_grad():
        one = [torch.as_tensor(np.asarray(value, np.float32))[None]
               for value in (person.betas, person.pose, person.transl, person.scale)]
        vertices = body(*one).vertices[0].numpy()
    depth, _ = render_mesh_depth(vertices, body.faces.numpy(), camera)
    return np.asarray(depth, np.float32)
