# SPDX-License-Identifier: Apache-2.0
"""Lessons for completion: what is there and what a photo shows, on people small enough to know."""

from dataclasses import replace

import numpy as np
import pytest
from crowdgaussian.avatar.materials import SKIN, UPPER
from crowdgaussian.body.parts import find_regions
from crowdgaussian.core.mesh import vertex_normals
from crowdgaussian.splat.normals import last_hits
from crowdgaussian.synthetic.dressed import Look, dress_person
from crowdgaussian.synthetic.lessons import (
    LessonsConfig,
    draw_places,
    find_truth,
    know_places,
    write_lessons,
)
from crowdgaussian.synthetic.photo import Light, turned_to
from crowdgaussian_shared.errors import SettingError


@pytest.fixture(scope="module")
def places(body):
    return know_places(body, draw_places(body, 1500))


def test_rays_stop_at_the_last_outside():
    corners = np.array([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    vertices = np.concatenate([corners, corners + (0, 0, 0.3)])
    faces = np.array([[0, 1, 2], [3, 5, 4]])  # the second one looks back
    origins, up = np.array([[0, 0, -0.1], [5.0, 0, 0]]), np.tile([0.0, 0, 1], (2, 1))
    rays = origins, up, np.ones(2)
    face, distance, bary = last_hits(vertices, faces, np.zeros(2, bool), rays)
    assert face.tolist() == [0, -1] and distance[0] == pytest.approx(0.1)
    assert bary[0] == pytest.approx([0.25, 0.25, 0.5])
    face, distance, _ = last_hits(vertices, faces, np.ones(2, bool), rays)
    assert face[0] == 1 and distance[0] == pytest.approx(0.4)


def test_the_truth_of_a_shell_is_its_distance(body, folder, places):
    person = dress_person(body, folder, np.random.default_rng(0), Look("trousers", "none"))
    rest, faces = person.posed.rest, person.posed.faces
    shell = replace(
        person,
        vertices=np.concatenate([rest, rest + 0.01 * vertex_normals(rest, faces)]),
        faces=np.concatenate([faces, faces + len(rest)]),
        piece=np.repeat([0, 1], len(faces)),
        thin=np.zeros(2 * len(faces), bool),
        materials=np.array([SKIN, UPPER]),
    )
    truth = find_truth(shell, places, find_regions(body, person.posed))
    assert (truth.face >= 0).mean() > 0.99
    assert np.median(truth.offset) == pytest.approx(0.01, abs=5e-4)
    assert (truth.material == UPPER).mean() > 0.98


def test_places_know_their_counterparts(places):
    at = places.at
    assert np.linalg.norm(at[places.mirrored] - at * (-1, 1, 1), axis=1).max() < 0.08
    front = (at[:, 1] < 0.2) & (np.abs(at[:, 0]) < 0.1) & (at[:, 2] > 0.09)
    assert (at[places.opposite[front], 2] < at[front, 2]).all()


def test_light_that_is_turned_to_the_eye_keeps_what_faces_it():
    normals = np.array([[0.0, 0, 1], [0, 0.6, -0.8]])
    turned = turned_to(normals, np.tile([0.0, 0, 5], (2, 1)))
    assert turned == pytest.approx(np.array([[0, 0, 1], [0, 0.6, 0.8]]))
    even = Light(np.array([0.0, 1, 0]), 0.0, 0.0, np.ones(3))
    assert even.on(normals) == pytest.approx(1)


def test_a_lesson_shows_what_is_there(body, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("crowdgaussian.synthetic.lessons.PLACES", 3000)
    config = LessonsConfig(geometries=1, looks=1, views=2, seed=4)
    write_lessons(tmp_path, body, folder, config)
    path = tmp_path / "people_00000.npz"
    with np.load(path, allow_pickle=False) as stored:
        lesson = dict(stored)
    count = len(lesson["valid"])
    assert 2000 < count < 4000 and lesson["valid"].mean() > 0.97
    assert lesson["shown"].shape == (2, 1, count, 3) and lesson["albedo"].shape == (1, count, 3)
    seen = lesson["seen"] > 100
    assert (0.15 < seen.mean(1)).all() and (seen.mean(1) < 0.6).all()
    light, tint = lesson["light"].astype(float), lesson["tint"].astype(float)
    there = (lesson["albedo"][0] * light[..., None] * tint[:, None]).clip(0, 255)
    apart = np.abs(there - lesson["shown"][:, 0])[seen].mean(1)
    assert np.median(apart) < 15
    assert (lesson["shown"][:, 0][lesson["seen"] == 0] == 0).all()
    assert (lesson["label"] == lesson["material"])[seen].mean() > 0.85
    written = path.stat().st_mtime_ns
    write_lessons(tmp_path, body, folder, config)
    assert path.stat().st_mtime_ns == written
    with pytest.raises(SettingError, match="choose a new folder"):
        write_lessons(tmp_path, body, folder, replace(config, looks=2))
    with pytest.raises(SettingError, match="at least one"):
        LessonsConfig(views=0)
