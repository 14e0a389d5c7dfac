# SPDX-License-Identifier: Apache-2.0
"""A data set of made-up people with known looks, rendered from all around."""

import math
from pathlib import Path

import numpy as np

from ..avatar.geometry import vertex_normals
from ..avatar.posed_body import pose_body
from ..avatar.regions import find_regions
from ..body import BodyModel
from ..made_up.people import draw_parameters, dress, lit, paint
from ..made_up.pictures import on_white, render_rgba
from ..people.known import known_person
from ..people.types import Crowd
from ..splat.cameras import Cameras
from .subjects import Subject, write_subject

VIEWS = 24
_FOV = 0.6  # radians, vertical


def write_people(folder: str | Path, body: BodyModel, count: int, size: int = 256,
                 seed: int = 0) -> list[Path]:
    """Writes made-up people as a data set.

    Args:
        folder: where NAME/ folders go.
        body: the open body.
        count: how many.
        size: side of the views in pixels; the input image has twice that.
        seed: the same seed makes the same people.

    Returns:
        The folder of each.
    """
    return [write_person(Path(folder) / f"made_up_{index:03d}", body, size,
                         np.random.default_rng([seed, index])) for index in range(count)]


def write_person(folder: Path, body: BodyModel, size: int, rng: np.random.Generator) -> Path:
    """One made-up person."""
    parameters = draw_parameters(body, rng)
    posed = pose_body(body, parameters)
    regions = find_regions(body, posed)
    dressed = dress(posed, regions, rng)
    colours = lit(paint(posed, regions, rng), vertex_normals(posed.rest, posed.faces))
    face_colours = colours[posed.faces].mean(1)
    vertices = posed.pose_points(dressed)
    middle = (vertices.min(0) + vertices.max(0)) / 2
    reach = 0.56 * np.linalg.norm(np.ptp(vertices, axis=0)) / math.tan(_FOV / 2)
    views = Cameras.orbit(middle, reach, VIEWS, fov=_FOV, size=size)
    front = Cameras.orbit(middle, reach, 1, fov=_FOV, size=2 * size).to_cameras()[0]
    image = render_rgba(vertices, posed.faces, face_colours, front)
    mask = image[..., 3] >= 128
    pictures = np.stack([render_rgba(vertices, posed.faces, face_colours, camera)
                         for camera in views.to_cameras()])
    person = known_person(parameters.betas, parameters.pose, parameters.transl, parameters.scale,
                          mask)
    crowd = Crowd((person,), front, "option", (True,))
    subject = Subject(folder.name, on_white(image), mask, body.name, crowd, views, ())
    write_subject(folder, subject, pictures)
    return folder
