# SPDX-License-Identifier: Apache-2.0
"""The fitted bodies as the photo's camera sees them, each alone."""

from dataclasses import dataclass

import numpy as np
import torch
from crowdgaussian_shared.camera import Camera

from ..people.types import Person
from ..splat.normals import render_mesh_depth

HEAD_JOINTS = (12, 15, 22, 23, 24)  # neck, head, jaw, eyes


@dataclass(frozen=True)
class BodyLayer:
    """One body alone in the photo."""

    depth: np.ndarray  # [H, W] float32, metres along the view direction, inf where empty
    head: np.ndarray  # [H, W] bool: pixels of the head and neck
    height_px: float  # how tall the body is in the photo, the longer side of its box

    @property
    def silhouette(self) -> np.ndarray:
        return np.isfinite(self.depth)


def posed_vertices(body, person: Person) -> np.ndarray:
    """The person's body vertices in the scene frame.  # [V, 3] float32, metres"""
    with torch.no_grad():
        as_batch = [torch.as_tensor(np.asarray(v, np.float32))[None]
                    for v in (person.betas, person.pose, person.transl)]
        output = body(*as_batch, torch.tensor([float(person.scale)]))
    return output.vertices[0].cpu().numpy().astype(np.float32)


def render_layer(body, person: Person, camera: Camera) -> BodyLayer:
    """Z-buffer of one person's body in the given camera."""
    return render_vertices(body, posed_vertices(body, person), camera)


def render_vertices(body, vertices: np.ndarray, camera: Camera) -> BodyLayer:
    """Z-buffer of a posed body [V, 3] in the given camera."""
    faces = np.asarray(body.faces)
    depth, face_index = render_mesh_depth(vertices, faces, camera)
    head_faces = np.isin(np.asarray(body.parts), HEAD_JOINTS)[faces].all(1)  # [F]
    head = (face_index >= 0) & head_faces[np.maximum(face_index, 0)]
    box = body_box(vertices, camera)
    height_px = float(max(*(box[2:] - box[:2]), 1.0))
    return BodyLayer(np.asarray(depth, np.float32), head, height_px)


def body_box(vertices: np.ndarray, camera: Camera) -> np.ndarray:
    """x0 y0 x1 y1 around what is in front of the camera, not cut to the photo.  # [4]"""
    points = vertices @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    in_front = points[points[:, 2] > 0.05]
    if len(in_front) == 0:
        return np.zeros(4)
    pixels = in_front @ camera.K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
