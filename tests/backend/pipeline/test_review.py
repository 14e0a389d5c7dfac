# SPDX-License-Identifier: Apache-2.0
"""Warnings: each where it is true, none on a good crowd, and kept until they are mended."""

from dataclasses import replace

import numpy as np
import pytest
from _support.stand_ins import Script, StandInBody, StandInPeople, make_person, write_photo
from crowdgaussian.core.progress import silent
from crowdgaussian.people.types import Certainty
from crowdgaussian.pipeline.checkpoint import load_crowd
from crowdgaussian.pipeline.config import Config
from crowdgaussian.pipeline.reconstruct import Job, reconstruct
from crowdgaussian.pipeline.review import person_warnings, scene_warnings, seen_all_round
from crowdgaussian_shared.scene.edit import PoseEdit, SceneEdit, SceneEdits
from crowdgaussian_shared.scene.folder import SceneFolder

pytestmark = pytest.mark.usefixtures("no_model_files")
FACE = np.array([110, 15, 120, 25], np.float32)
BOX = (100.0, 10.0, 130.0, 110.0)
PHOTO = np.zeros((120, 160, 3), np.uint8)
UNSEEN = np.where(np.arange(33) < 9, 0.9, 0.1).astype(np.float32)  # a head and nothing else


@pytest.fixture
def crowd():
    """Three people of whom nothing is doubtful."""
    crowd = StandInPeople(Script()).estimate(PHOTO, None, silent)
    return replace(crowd, focal_source="exif", certainty=Certainty(standing=2))


def adult(flags=(), scale=0.9, height=0.9, confidence=None):
    """Somebody whose stick reaches `scale` metres below and above the pelvis at this height."""
    person = make_person(0, 1, PHOTO.shape[:2])
    person = person.with_params(scale=scale, transl=np.array([0, height, -4], np.float32))
    seen = person.keypoints.confidence if confidence is None else confidence
    return replace(person, flags=flags, keypoints=replace(person.keypoints, confidence=seen))


def codes(person, on_ground=True):
    return [one.code for one in person_warnings(3, person, on_ground, StandInBody())]


def test_a_good_crowd_has_no_warning(crowd):
    assert scene_warnings(crowd) == ()
    assert codes(adult()) == codes(adult(("small", "cut"))) == []


def test_each_warning_of_a_scene(crowd):
    (missed,) = scene_warnings(replace(crowd, missed=(FACE,)))
    assert (missed.code, missed.box) == ("missed", (110.0, 15.0, 120.0, 25.0))
    assert "Somebody at (115, 20) was probably missed" in missed.sentence
    assert "Add This Person" in missed.sentence and "crowdgaussian edit" in missed.sentence
    for standing, words in ((0, "nobody surely stands"), (1, "only one person stands")):
        (floor,) = scene_warnings(replace(crowd, certainty=Certainty(standing=standing)))
        assert floor.code == "floor" and words in floor.sentence
    (focal,) = scene_warnings(replace(crowd, focal_source="default"))
    assert focal.code == "focal" and "--set photo.focal=" in focal.sentence


@pytest.mark.parametrize(
    ("person", "on_ground", "expected"),
    [
        (adult(("hidden",), confidence=UNSEEN), True, ["guessed"]),
        (adult(("hidden",)), True, []),
        (adult(("small",), confidence=UNSEEN), True, []),
        (adult(scale=0.65), True, ["height"]),
        (adult(scale=1.1), True, ["height"]),
        (adult(("child",), scale=0.5), True, []),
        (adult(scale=1.1), False, []),
        (adult(height=1.3), False, ["floating"]),
        (adult(height=1.1), False, []),
        (adult(("seated",), height=1.3), False, []),
        (adult(("airborne",), height=1.9), False, []),
        (adult(("hidden",), 1.1, 1.6, UNSEEN), False, ["guessed", "floating"]),
        (adult(("hidden", "corrected"), 1.1, 1.6, UNSEEN), False, []),
    ],
)
def test_each_warning_of_a_person(person, on_ground, expected):
    assert codes(person, on_ground) == expected


def test_sentences_name_the_person_the_number_and_what_to_do():
    def told(person, on_ground):
        return person_warnings(3, person, on_ground, StandInBody())[0].sentence

    assert "Most of person 3 is hidden" in told(adult(("hidden",), confidence=UNSEEN), True)
    assert "Person 3 came out 2.20 m tall" in told(adult(scale=1.1), True)
    floating = told(adult(height=1.3), False)
    assert "floats 0.40 m above the floor" in floating and "Snap to Ground" in floating


# In the scene folder


class OneMissed(Script):
    """Stages of which the first finds three people and the face of a fourth."""

    def stages(self, config):
        stages = super().stages(config)

        def estimate(photo, focal_px, report):
            crowd = StandInPeople(self).estimate(photo, focal_px, report)
            return replace(crowd, missed=(FACE,))

        return replace(stages, people=type("People", (), {"estimate": staticmethod(estimate)}))


@pytest.fixture
def job(tmp_path):
    return Job(write_photo(tmp_path / "a.png"), tmp_path / "base", Config())


@pytest.fixture
def base(job):
    return reconstruct(job, silent, OneMissed().stages)


def edited(job, base, *steps):
    again = replace(job, out=job.out.parent / "out", base=base.path, edits=SceneEdits(steps))
    return reconstruct(again, silent, OneMissed().stages).info


def codes_in(info):
    return [one.code for one in info.warnings]


def test_a_scene_keeps_its_warnings_and_whom_the_search_missed(base):
    info = SceneFolder.open(base.path).info
    assert codes_in(info) == ["missed", "floor", "focal"]
    # the sticks of persons 0 and 2 are 2 and 2.5 m long, and stand; person 1 does not
    assert [[one.code for one in person.warnings] for person in info.people] == [
        [],
        [],
        ["height"],
    ]
    np.testing.assert_array_equal(load_crowd(base).missed, [FACE])
    assert len(info.checks) == 4 and "person 2" in info.checks[-1].lower()


def test_adding_somebody_else_leaves_the_warning(job, base):
    info = edited(job, base, SceneEdit(boxes=(BOX,)))  # the nose is not in the face
    assert codes_in(info) == ["missed", "floor", "focal"] and len(info.people) == 4


def test_adding_whom_the_search_missed_ends_the_warning(job, base, monkeypatch):
    nose = np.tile(np.array([[116.0, 21.0]], np.float32), (33, 1))
    scripted = OneMissed.stages

    def stages(self, config):
        made = scripted(self, config)

        def people_with(other):
            found = made.people_with(other)

            def estimate(*arguments):
                crowd = type(found).estimate(found, *arguments)
                person = crowd.people[0]
                there = replace(person, keypoints=replace(person.keypoints, xy=nose))
                return replace(crowd, people=(there,))

            return type("Boxes", (), {"estimate": staticmethod(estimate)})

        return replace(made, people_with=people_with)

    monkeypatch.setattr(OneMissed, "stages", stages)
    info = edited(job, base, SceneEdit(boxes=(BOX,)))
    assert codes_in(info) == ["floor", "focal"]
    assert info.people[:3] == base.info.people


def test_a_corrected_person_is_as_the_user_wants_them(job, base):
    pose = PoseEdit(np.zeros((55, 3)), np.array([0.3, 0.9, -4.0]))
    info = edited(job, base, SceneEdit(corrected={2: pose}))
    assert info.people[2].warnings == () and codes_in(info) == codes_in(base.info)


def test_people_left_out_are_no_matter(job, base):
    info = edited(job, base, SceneEdit(excluded=(2,)))
    assert info.checks == [one.sentence for one in info.warnings]
    back = edited(
        replace(job, out=job.out.parent / "again"),
        base,
        SceneEdit(excluded=(2,)),
        SceneEdit(included=(2,)),
    )
    assert len(back.checks) == 4


def test_who_looks_wrong_from_behind_is_named_with_the_reason():
    fine = {"all_round": 0.8, "round_legs": 0.8}
    bad = {"all_round": 0.2, "round_legs": 0.2, "round_known": 0.9}
    assert seen_all_round((), 2, fine) == seen_all_round((), 2, {}) == ()
    (one,) = said = seen_all_round((), 2, bad)
    assert seen_all_round(said, 2, bad) == said and seen_all_round(said, 2, fine) == ()
    assert one.code == "all_round"
    assert "Person 2" in one.sentence and "legs unlike each other" in one.sentence
