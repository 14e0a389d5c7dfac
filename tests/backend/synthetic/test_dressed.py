# SPDX-License-Identifier: Apache-2.0
"""Dressed made-up people, on a made-up base mesh: the open body with a tube as its helpers."""

import numpy as np
import pytest
from crowdgaussian.body import load_body
from crowdgaussian.splat.normals import render_mesh_depth
from crowdgaussian.synthetic.dressed import Look, dressed_actor
from crowdgaussian.synthetic.garments import Piece, cut, load_helpers
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from crowdgaussian_shared.geometry.camera import Camera


@pytest.fixture(scope="module")
def body():
    return load_body()


def tube(top, bottom, radius):
    """A tube about the vertical: vertices and faces."""
    angle = np.linspace(0, 2 * np.pi, 25)[:-1]
    ring = np.stack([radius * np.cos(angle), 0 * angle, 0.7 * radius * np.sin(angle)], 1)
    heights = np.linspace(top, bottom, 12)
    vertices = np.concatenate([ring + (0, height, 0.02) for height in heights])
    a = (np.arange(11)[:, None] * 24 + np.arange(24)).ravel()
    b = (np.arange(11)[:, None] * 24 + (np.arange(24) + 1) % 24).ravel()
    return vertices, np.concatenate([np.stack([a, b, a + 24], 1), np.stack([b, b + 24, a + 24], 1)])


@pytest.fixture(scope="module")
def folder(body, tmp_path_factory):
    rest, faces = np.asarray(body.template), np.asarray(body.faces)
    skirt, hair = tube(0.08, -0.85, 0.25), tube(0.7, 0.1, 0.12)
    places = 10 * np.concatenate([rest, skirt[0], hair[0]])
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in places]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in np.asarray(body.uv)]
    with_uv = zip(faces + 1, np.asarray(body.uv_faces) + 1)
    own = ["f " + " ".join(f"{a}/{b}" for a, b in zip(*pair)) for pair in with_uv]
    for name in ("helper-l-eye", "helper-r-eye", "helper-tights", "body"):
        lines += [f"g {name}", *(own if name in ("body", "helper-tights") else own[:1])]
    for name, part, start in (("skirt", skirt, len(rest)), ("hair", hair, len(rest) + 288)):
        lines.append(f"g helper-{name}")
        lines += ["f " + " ".join(f"{k + start + 1}/1" for k in face) for face in part[1]]
    place = tmp_path_factory.mktemp("makehuman")
    (place / "base.obj").write_text("\n".join(lines))
    return place


def test_helpers_follow_the_body(body, folder):
    helpers = load_helpers(folder, body)
    assert np.abs(helpers.body - np.asarray(body.template))[~np.asarray(body.interior)].max() < 2e-3
    assert helpers.surfaces["helper-skirt"].weights.sum(1) == pytest.approx(1)


def test_a_skirt_covers_what_is_between_the_legs(body, folder):
    actor = dressed_actor(body, folder, np.random.default_rng(3), Look("skirt", True))
    again = dressed_actor(body, folder, np.random.default_rng(3), Look("skirt", True))
    assert np.array_equal(actor.vertices, again.vertices)
    assert np.array_equal(actor.face_colours, again.face_colours)
    assert actor.face_colours.min() >= 0 and actor.face_colours.max() <= 1.15
    viewmat = np.diag([1.0, -1, -1, 1])
    viewmat[:3, 3] = 0, 0.9, 3.5
    camera = Camera(np.array([[400.0, 0, 150], [0, 400, 150], [0, 0, 1]]), viewmat, 300, 300)
    dressed, naked = (
        np.isfinite(np.asarray(render_mesh_depth(vertices, faces, camera)[0]))
        for vertices, faces in (
            (actor.vertices, actor.faces),
            (actor.body_vertices, np.asarray(body.faces)),
        )
    )
    assert (naked & ~dressed).mean() < 0.002
    assert dressed.sum() > 1.1 * naked.sum()


def test_a_cut_has_its_edge_where_it_is_asked_for():
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    piece = Piece("cloth", square, np.array([[0, 1, 2], [0, 2, 3]]), np.ones((4, 55)) / 55)
    half = cut(piece, 0.25 - square[:, 0])
    assert half.vertices[:, 0].max() == pytest.approx(0.25)
    assert len(half.faces) == 2


def test_a_missing_or_other_base_mesh_is_told(body, tmp_path):
    with pytest.raises(MissingFileError, match="base.obj"):
        load_helpers(tmp_path, body)
    (tmp_path / "base.obj").write_text("v 1 2 3\ng body\nf 1/1 1/1 1/1\n")
    with pytest.raises(DamagedFileError):
        load_helpers(tmp_path, body)
