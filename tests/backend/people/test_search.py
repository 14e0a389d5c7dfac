# SPDX-License-Identifier: Apache-2.0
"""The search of what the first search left, and what faces tell, with known answers."""

from dataclasses import replace

import numpy as np
import pytest
from _support.people_made_up import body, figure
from crowdgaussian.body.load import load_body
from crowdgaussian.core.landmarks import ARM_SIDES
from crowdgaussian.people.detect import residual
from crowdgaussian.people.detect.choice import Candidate, Witnesses, choose_people, is_duplicate
from crowdgaussian.people.detect.faces import (
    _CANONICAL,
    _RIGID,
    Face,
    FaceNetwork,
    find_faces,
    head_rotation,
    head_rotations,
)
from crowdgaussian.people.detect.landmark_net import PhotoPyramid, PoseNetwork
from crowdgaussian.people.detect.residual import (
    PeopleSearch,
    filled_in,
    on_paint,
    painted_out,
    shared_hands,
)
from crowdgaussian.people.mediapipe import KeypointFit
from crowdgaussian.people.types import PeopleConfig
from crowdgaussian.synthetic.sample import load_ground_truth, sample_photo
from crowdgaussian.weights import POSE_LANDMARKS_HEAVY
from crowdgaussian_shared.errors import (
    Cancelled,
    DamagedFileError,
    MissingFileError,
    SettingError,
)
from crowdgaussian_shared.geometry.camera import pixel_rays, turn_to_ray
from crowdgaussian_shared.geometry.rotations import axis_angle_to_matrix
from crowdgaussian_shared.geometry.skeleton import JOINT_INDEX
from PIL import Image

CONFIG = PeopleConfig()
SHAPE = (800, 1000)


def face_of(xy: np.ndarray, size: float) -> Face:
    """A sure face at the nose of landmarks."""
    eyes = xy[0] + np.array([[-0.2, -0.1], [0.2, -0.1]]) * size
    return Face(xy[0], size, 0.9, 5, eyes)


def standing(x: float, size: float = 400.0, **change) -> Candidate:
    """Somebody who stands at a place of the photo."""
    return Candidate(body(figure((x, 400), size), size, **change))


def chosen(candidates, faces=(), **more):
    return choose_people(candidates, CONFIG, Witnesses(faces, SHAPE), **more)


# What becomes of candidates


def test_somebody_upside_down_needs_strong_evidence():
    xy = figure((300, 400), 400)
    hanging = xy * [1, -1] + [0, 800]
    unsure = Candidate(body(hanging, 400, confidence=0.6))
    assert 0.25 < unsure.score < 0.45 and unsure.upside_down
    assert chosen([unsure]) == []
    sure = Candidate(body(hanging, 400))
    assert sure.score > 0.45 and chosen([sure]) == [sure]  # somebody on a trapeze
    assert chosen([unsure], [face_of(hanging, 40)]) == [unsure]


def test_a_body_on_the_pixels_of_others_is_nobody():
    left, right = standing(300), standing(340)
    lying = figure((320, 400), 380) @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    lying += [320, 400] - lying[[11, 12, 23, 24]].mean(axis=0)
    ghost = body(lying, 380, confidence=0.7)
    shares = replace(ghost, mask=left.body.mask, mask_to_photo=left.body.mask_to_photo)
    assert Witnesses((), SHAPE).is_ghost(Candidate(shares), covered=0.9)
    assert Candidate(shares) not in chosen([left, right, Candidate(shares)])


def test_somebody_seen_with_the_neighbour_painted_out_is_not_the_neighbour():
    front = standing(300)
    beside = standing(335, 390)
    assert is_duplicate(beside, front)  # their masks are nearly one
    alone = Candidate(beside.body, without=(front,), paint=0.1)
    assert not is_duplicate(alone, front)
    assert is_duplicate(Candidate(front.body, without=(front,)), front)  # the same again


def test_one_face_is_one_person_and_two_faces_are_two():
    first, second = standing(300), standing(340, 395)
    shared = face_of(first.body.xy, 40)
    assert is_duplicate(first, second, 0, 0)
    assert not is_duplicate(first, second, 0, 1)
    both = chosen([first, second], [shared, face_of(second.body.xy, 40)])
    assert len(both) == 2
    assert len(chosen([first, second])) == 1  # without faces their masks make them one


def test_whom_a_later_search_saw_much_better_is_shown_as_it_saw_them():
    front, vague = standing(300), standing(470, 320, confidence=0.5, spread=0.015)
    assert 0.2 < vague.score < 0.4
    xy = figure((470, 440), 400)
    xy[0] = vague.body.xy[0]  # one nose, so one face is both bodies'
    clear = Candidate(body(xy, 400, confidence=0.85), without=(front,))
    alike = Candidate(replace(vague.body), without=(front,))
    elsewhere = Candidate(clear.body)  # not with the other painted out: may be of two people
    faces, first = [face_of(xy, 40)], [front, vague]
    assert chosen([front, vague, clear], faces, first=first) == [front, clear]
    assert chosen([front, vague, alike], faces, first=first) == first
    assert chosen([front, vague, elsewhere], faces, first=first) == first
    assert chosen([front, vague, replace(clear, paint=0.6)], faces, first=first) == first
    limbs = front.body.xy.copy()
    limbs[0] = xy[0]
    double = Candidate(body(limbs, 400), without=(vague,))  # the face and the neighbour's limbs
    assert chosen([front, vague, double], faces, first=first) == first


@pytest.mark.parametrize("kind", ["front", "behind", "hanging", "on paint", "outside"])
def test_who_is_found_late_must_be_left_over(kind):
    world = np.zeros((33, 3))
    world[0, 2] = 0.1 if kind == "behind" else -0.1  # the nose is behind the ears
    xy = figure((-30 if kind == "outside" else 300, 400), 400)
    if kind == "hanging":
        xy = xy * [1, -1] + [0, 800]
    late = Candidate(
        replace(body(xy, 400, confidence=0.65), world=world),
        paint=0.4 if kind == "on paint" else 0.0,
        late=True,
    )
    assert 0.36 < late.score < 0.6, late.score
    # From the front a face would show; from behind none can.
    assert chosen([late]) == ([late] if kind == "behind" else [])


def test_a_small_referee_seen_to_the_shoes_stays_and_a_spectator_goes():
    players = [standing(200 + 300 * k) for k in range(3)]
    referee = standing(350, 130, confidence=0.9, spread=0.015)
    spectator = standing(650, 130, confidence=0.98, spread=0.03)
    assert referee.score < 0.75 and spectator.score < 0.75  # what somebody so small would need
    kept = chosen([*players, referee, spectator])
    assert referee in kept and spectator not in kept


# Painting over


def test_a_hole_is_filled_with_what_is_around_it():
    x = np.linspace(0, 255, 320)
    photo = np.repeat(np.tile(x, (240, 1))[..., None], 3, axis=2).astype(np.uint8)
    holes = np.zeros((240, 320), bool)
    holes |= np.hypot(*(np.indices((240, 320)) - np.array([[[120]], [[160]]]))) < 40
    filled = filled_in(np.where(holes[..., None], 0, photo), holes)
    assert (filled[~holes] == photo[~holes]).all()
    assert np.abs(filled[holes].astype(int) - photo[holes].astype(int)).max() < 60
    assert filled_in(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), bool)).shape == (8, 8, 3)


def test_nobodys_face_is_painted_over():
    person = standing(300)
    photo = np.full((*SHAPE, 3), 90, np.uint8)
    face = face_of(figure((310, 420), 300), 60)
    _, paint = painted_out(photo, [person], [])
    _, spared = painted_out(photo, [person], [face])
    x, y = face.center.astype(int)
    assert paint.any() and not spared[y - 20 : y + 20, x - 20 : x + 20].any()
    assert on_paint(person.body, paint) > 0.6 > on_paint(standing(800).body, paint)


# Hands that two people claim


@pytest.mark.parametrize("owner", ["left", "right", "both", "nobody"])
def test_a_hand_belongs_to_who_still_has_it_alone(monkeypatch, owner):
    left, right = standing(300), standing(430)
    shared = (left.body.xy[15] + right.body.xy[16]) / 2
    left.body.xy[15] = right.body.xy[16] = shared
    assert shared_hands([left, right]) == [((0, 15), (1, 16))]

    def alone(_, photo, one, other):
        mine = "left" if one is left else "right"
        xy = one.body.xy.copy()
        if owner not in (mine, "both"):
            xy[ARM_SIDES[0 if one is left else 1]] += [0, 120]  # the arm that really hangs there
        return replace(one.body, xy=xy)

    monkeypatch.setattr(PeopleSearch, "_without_other", alone)
    search = PeopleSearch.__new__(PeopleSearch)
    settled = search._settle_hands(np.zeros((8, 8, 3), np.uint8), [left, right])
    moved = [not np.allclose(s.body.xy, c.body.xy) for s, c in zip(settled, [left, right])]
    assert moved == {"left": [False, True], "right": [True, False]}.get(owner, [False, False])
    assert all(np.allclose(s.body.xy[:13], c.body.xy[:13]) for s, c in zip(settled, [left, right]))


@pytest.mark.parametrize("two_places", [False, True])
def test_an_arm_is_given_away_for_one_less_sure_only_if_it_was_in_two_places(
    monkeypatch, two_places
):
    left, right = standing(300), standing(430)
    right.body.spread[16] = 0.14 if two_places else 0.01
    left.body.xy[15] = right.body.xy[16] = (left.body.xy[15] + right.body.xy[16]) / 2

    def alone(_, photo, one, other):
        if one is left:
            return one.body
        xy = one.body.xy.copy()
        xy[ARM_SIDES[1]] += [0, 120]
        spread = np.full_like(one.body.spread, 0.01)
        return replace(one.body, xy=xy, confidence=one.body.confidence * 0.7, spread=spread)

    monkeypatch.setattr(PeopleSearch, "_without_other", alone)
    search = PeopleSearch.__new__(PeopleSearch)
    settled = search._settle_hands(np.zeros((8, 8, 3), np.uint8), [left, right])
    given = [one is not before for one, before in zip(settled, [left, right])]
    assert given == [False, two_places]
    assert not shared_hands([standing(300), standing(600)])


# Faces and networks on the sample, whose people are known


@pytest.fixture(scope="module")
def sample():
    return np.asarray(Image.open(sample_photo()).convert("RGB"))


@pytest.fixture(scope="module")
def truth():
    return load_ground_truth()


@pytest.fixture(scope="module")
def face_network():
    return FaceNetwork()


@pytest.fixture(scope="module")
def steps():
    """What the search of `found` has reported."""
    return []


@pytest.fixture(scope="module")
def found(sample, face_network, steps):
    search = PeopleSearch(PoseNetwork(), face_network, CONFIG)
    kept, faces, missed = search.find(sample, steps.append)
    assert missed == [], "everybody is found"
    return search, kept, faces


def nearest(truth, body) -> int:
    """Which true person's shoulders and hips a body has."""
    joints = [JOINT_INDEX[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
    apart = [
        np.linalg.norm(person.joints_px[joints] - body.xy[[11, 12, 23, 24]], axis=1).mean()
        for person in truth.people
    ]
    return int(np.argmin(apart))


def test_everybody_is_found_once_and_every_sure_face_is_a_head(found, truth):
    _, kept, faces = found
    assert sorted(nearest(truth, one.body) for one in kept) == list(range(6))
    heads = np.array([person.joints_px[JOINT_INDEX["head"]] for person in truth.people])
    sure = [face for face in faces if face.sure]
    assert len(sure) >= 4
    for face in sure:
        assert np.linalg.norm(heads - face.center, axis=1).min() < face.size


@pytest.mark.parametrize("name", ["child", "student"])
def test_whom_the_first_search_missed_the_second_finds(found, sample, truth, monkeypatch, name):
    search, kept, _ = found
    missing = [person.name for person in truth.people].index(name)
    others = [one.body for one in kept if nearest(truth, one.body) != missing]
    assert len(others) == 5
    monkeypatch.setattr(residual, "find_bodies", lambda *_: others)
    again, _, missed = search.find(sample)
    assert missed == []
    assert sorted(nearest(truth, one.body) for one in again) == list(range(6))


def test_a_sure_face_without_a_body_is_missed(found, sample, truth, monkeypatch):
    search, kept, faces = found
    owner = next(one for one in kept for face in faces if face.sure and face.is_of(one.body))
    others = [one.body for one in kept if one is not owner]
    monkeypatch.setattr(residual, "find_bodies", lambda *_: others)
    monkeypatch.setattr(PeopleSearch, "_bodies_at", lambda *_: [])
    monkeypatch.setattr(PeopleSearch, "_backs", lambda *_: [])
    again, _, missed = search.find(sample)
    assert len(again) == 5 and len(missed) == 1 and missed[0].is_of(owner.body)
    x0, y0, x1, y1 = missed[0].box
    x, y = owner.body.xy[0]
    assert x0 < x < x1 and y0 < y < y1 and missed[0].box.dtype == np.float32
    limited = PeopleSearch(search.network, search.face_network, replace(CONFIG, max_people=5))
    assert limited.find(sample).missed == [], "more people were not wanted"


def test_the_search_says_how_far_it_is(found, steps):
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] <= 1.0
    assert len(set(fractions)) > 60, "each window, candidate and region"
    assert np.diff(fractions).max() < 0.15, "a second round that is not needed is skipped"
    assert {step.stage for step in steps} == {"people"}
    messages = list(dict.fromkeys(step.message for step in steps))
    assert messages == [
        "looking for faces",
        "looking for people",
        "looking for those who are left",
    ]


def test_the_report_can_stop_the_search_anywhere(found, sample, monkeypatch):
    search, kept, _ = found
    monkeypatch.setattr(residual, "find_bodies", lambda *_: [one.body for one in kept])
    for reached in (0.0, 0.02, 0.7):
        seen = []

        def stop(step, reached=reached, seen=seen):
            seen.append(step.fraction)
            if step.fraction >= reached:
                raise Cancelled

        with pytest.raises(Cancelled):
            search.find(sample, stop)
        assert all(fraction < reached for fraction in seen[:-1]) and seen[-1] < reached + 0.1


def test_the_whole_stage_is_told_from_0_to_its_end(sample, monkeypatch):
    """Nothing stands still: the parts of the search lie before those of the fit."""
    body_model, steps = load_body("open"), []
    box = PeopleConfig(boxes="170,250,520,950", pose_steps=2, ground_steps=2, landmarks="full")
    KeypointFit(box, body_model).estimate(sample, None, steps.append)
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and len(set(fractions)) >= 5
    words = [step.message for step in steps]
    fit = words.index("1 found, fitting bodies")
    assert 0.0 < fractions[fit - 1] < fractions[fit] < fractions[-1] < 1.0


def test_heads_look_where_the_true_ones_do(found, sample, truth, face_network):
    _, kept, faces = found
    bodies = [one.body for one in kept]
    turns = head_rotations(face_network, PhotoPyramid(sample), bodies, faces)
    assert sum(turn is not None for turn in turns) >= 3
    for one, turn in zip(bodies, turns):
        if turn is None:
            continue
        pose = truth.people[nearest(truth, one)].pose
        true = np.eye(3)
        for joint in ("pelvis", "spine1", "spine2", "spine3", "neck", "head"):
            true = true @ axis_angle_to_matrix(pose[JOINT_INDEX[joint]])
        head = truth.people[nearest(truth, one)].joints_px[JOINT_INDEX["head"]]
        ray = turn_to_ray(pixel_rays(head, truth.camera.K))
        looks = ray @ (turn[:, 2] * [1, -1, -1])
        assert np.degrees(np.arccos(looks @ truth.camera.viewmat[:3, :3] @ true[:, 2])) < 12


def test_the_heads_rotation_is_that_of_the_mesh():
    turn = axis_angle_to_matrix(np.array([0.2, -0.6, 0.1]))
    mesh = np.zeros((468, 3))
    mesh[_RIGID] = (7.0 * _CANONICAL @ turn.T) * [1, -1, -1] + [300, 200, 0]
    assert np.allclose(head_rotation(mesh), turn, atol=1e-9)


def test_a_blank_wall_has_no_face(face_network):
    wall = np.random.default_rng(0).integers(90, 110, (300, 400, 3), np.uint8)
    assert [face for face in find_faces(face_network, PhotoPyramid(wall)) if face.sure] == []


# A network file that is not there


def test_an_unknown_network_is_told_in_one_sentence():
    with pytest.raises(SettingError, match="people.landmarks is 'lite'; choose one of heavy, full"):
        PoseNetwork("lite")


def test_a_missing_or_changed_network_file_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(type(POSE_LANDMARKS_HEAVY), "path", lambda self: tmp_path / self.file)
    with pytest.raises(MissingFileError, match="is missing; run `git checkout"):
        PoseNetwork("heavy")
    (tmp_path / POSE_LANDMARKS_HEAVY.file).write_bytes(b"another network")
    with pytest.raises(DamagedFileError, match="not the one this version was made for"):
        PoseNetwork("heavy")
