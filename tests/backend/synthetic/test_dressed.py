# SPDX-License-Identifier: Apache-2.0
"""Dressed made-up people, on the made-up base mesh of conftest.py."""

import numpy as np
import pytest
from crowdgaussian.avatar.materials import LOWER, UPPER
from crowdgaussian.cli.main import main
from crowdgaussian.splat.normals import render_mesh_depth
from crowdgaussian.synthetic.dressed import Look, colours_of, dress_person, dressed_actor
from crowdgaussian.synthetic.garments import Piece, cut, load_helpers
from crowdgaussian.synthetic.outfits import OUTFITS, draw_look
from crowdgaussian.synthetic.wardrobe import CLOTHES, Wardrobe
from crowdgaussian_shared.errors import DamagedFileError, MissingFileError
from crowdgaussian_shared.geometry.camera import Camera
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX


def test_helpers_follow_the_body(body, folder):
    helpers = load_helpers(folder, body)
    assert np.abs(helpers.body - np.asarray(body.template))[~np.asarray(body.interior)].max() < 2e-3
    assert helpers.surfaces["helper-skirt"].weights.sum(1) == pytest.approx(1)


def test_a_skirt_covers_what_is_between_the_legs(body, folder):
    actor = dressed_actor(body, folder, np.random.default_rng(3), Look("skirt", "long"))
    again = dressed_actor(body, folder, np.random.default_rng(3), Look("skirt", "long"))
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


def heights_of(person, material):
    return person.vertices[person.faces[person.materials[person.piece] == material], 1]


def test_outfits_reach_where_they_should(body, folder):
    person = dress_person(body, folder, np.random.default_rng(1), Look("coat", "none"))
    knee = person.posed.joints[JOINT_INDEX["left_knee"], 1]
    assert heights_of(person, UPPER).min() < knee + 0.21
    assert heights_of(person, UPPER).max() > person.posed.joints[JOINT_INDEX["neck"], 1] - 0.1
    shorts = dress_person(body, folder, np.random.default_rng(1), Look("shorts", "none"))
    assert heights_of(shorts, LOWER).min() > knee - 0.2


def test_a_person_has_any_number_of_looks(body, folder):
    person = dress_person(body, folder, np.random.default_rng(2), Look("jacket", "bob"))
    spots = person.spots(np.arange(len(person.faces)), np.full((len(person.faces), 3), 1 / 3))
    first, again, other = (
        colours_of(spots, person.paints(np.random.default_rng(seed))) for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert np.abs(first - other).mean() > 0.05
    assert first.min() > 0 and first.max() <= 1


def test_a_garment_lies_where_its_binding_says(body, folder):
    wardrobe = Wardrobe(folder, body)
    assert wardrobe.names(CLOTHES) == ["square"] and wardrobe.names(CLOTHES, held=True) == []
    garment = wardrobe.garment("square", CLOTHES)
    base, rest = wardrobe.helpers.stand.base.vertices, np.asarray(body.template)
    assert np.flatnonzero(garment.hides).tolist() == [3, 5, 6, 7]
    assert garment.helper.vertices[:3] == pytest.approx(rest[10:13], abs=2e-3)
    above = np.array([0.5, 0.25, 0.25]) @ base[10:13]
    above[1] += 2 * abs(base[100, 1] - base[0, 1])
    assert garment.helper.vertices[3] == pytest.approx(above, abs=2e-3)


def test_looks_are_drawn_from_what_may_be_trained_on(body, folder):
    wardrobe, rng = Wardrobe(folder, body), np.random.default_rng(0)
    drawn = {draw_look(wardrobe, male, rng) for male in (False, True) for _ in range(60)}
    assert {outfit for outfit, _ in drawn} == set(OUTFITS)


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


def test_people_in_what_training_never_sees_are_asked_for(folder, tmp_path, capsys):
    """The command: a look by its number, from a folder that has its garments."""
    options = ["data", "people", str(tmp_path / "out"), "--held-out"]
    assert main(options) == 2
    assert "give --dressed too" in capsys.readouterr().err
    assert main([*options, "--dressed", str(folder)]) == 2  # a base mesh, and none of them
    assert "female_elegantsuit01" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*/*"))
